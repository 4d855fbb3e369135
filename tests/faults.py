"""Break the core on purpose, one fault after the other, and see that the tests notice.

Run ``make test-faults`` (an hour or more), or ``python tests/faults.py NAME ...`` for some. Each
fault is made in a copy of the sources; the tests run against the copy and stop at their first
failure. It ends with 1 if a fault is not noticed, or cannot be made any more.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "localgrad"

FAULTS = {
    "a level too many": (
        "_network/levels.py",
        "far, near = far + 1, far",
        "far, near = far + 1 + (far > 2), far",
    ),
    "a relay too few": (
        "_network/passes.py",
        "held, _ = lax.scan(hand_on, held, None, gap - length)",
        "held, _ = lax.scan(hand_on, held, None, max(gap - length - 1, 1))",
    ),
    "the levels of a scan that runs backwards": (
        "_network/levels.py",
        "turned = (*flips, len(lengths)) if layout.reverse else flips",
        "turned = flips",
    ),
    "a choice that is let go too early": (
        "_network/levels.py",
        "sent.insert(0, Reach(farthest, NOWHERE))",
        "sent.insert(0, None)",
    ),
    "the direction of a scan": (
        "_network/scan.py",
        "parts = [exits[1:], start] if reverse else [start, exits[:-1]]",
        "parts = [start, exits[:-1]]",
    ),
    "a carry that is one round too old": (
        "_network/scan.py",
        "for _ in range(plan.rounds):",
        "for _ in range(plan.rounds - 1):",
    ),
    "a tap that is lost inside of a call": (
        "_network/tapped.py",
        "inside = entering(eqn, given)",
        "inside = tuple(g and k % 2 == 0 for k, g in enumerate(entering(eqn, given)))",
    ),
    "values of the forward pass for current ones": (
        "_engine/dynamics.py",
        "values = self.each(self.rule.value, now.neurons, forward.stored)\n"
        "        (_, mu), pull = self._pulled(self._messages",
        "values = forward.stored\n        (_, mu), pull = self._pulled(self._messages",
    ),
    "an update from values of the forward pass": (
        "_engine/dynamics.py",
        "values = self.each(rule.learned, now.neurons, forward.stored)",
        "values = forward.stored",
    ),
    "a nudge that is lost when parameters are read": (
        "_engine/dynamics.py",
        "errors, root = self.each(rule.error, now.neurons, mu), nudge",
        "errors, root = self.each(rule.error, now.neurons, mu), jnp.ones_like(nudge)",
    ),
    "swapped twins": (
        "_network/twins.py",
        "messages(activities, twins) | messages(others, values)",
        "messages(activities, values) | messages(others, twins)",
    ),
    "a gate that is the wrong way round": (
        "_network/units.py",
        "lax.select_n(keep, error, *pull(error))",
        "lax.select_n(keep, *pull(error), error)",
    ),
    "a clock that is late": (
        "_rules/zil.py",
        "return inbox.time == inbox.level",
        "return inbox.time == inbox.level + 1",
    ),
    "a unit that fires again": ("_rules/fazil.py", "phi = phi & ~s.fired", "phi = phi"),
    "an effect that is repeated": (
        "_network/body.py",
        "return not refers(eqn) and (is_seen(eqn) or is_while(eqn))",
        "return False",
    ),
    "the wrong branch": (
        "_network/run.py",
        "held if held is None else held[k], meet, kind",
        "held if held is None else held[0], meet, kind",
    ),
    "an error that stops at a carry": (
        "_network/active.py",
        "if grown == inputs[carries]:",
        "if True:",
    ),
    "a second value that is no vertex": (
        "_network/body.py",
        "if end and _holds(eqn, j))",
        "if end and not j and _holds(eqn, j))",
    ),
    "a wave that stops at a rule's residual": (
        "_engine/dynamics.py",
        "distance = self.each(lambda e, fb: most(fb - e), signals.errors, signals.feedback)",
        "distance = self.each(lambda e, fb: most(e), signals.errors, signals.feedback)",
    ),
    "programs that are equal but for a number": (
        "_jaxpr/known.py",
        "return repr(atom.val), type(atom.val), atom.aval",
        "return type(atom.val), atom.aval",
    ),
}


def noticed(name: str) -> bool:
    """Whether a test fails once a fault is in the sources; says which."""
    file, right, wrong = FAULTS[name]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "localgrad"
        shutil.copytree(PACKAGE, source)
        text = (source / file).read_text()
        if text.count(right) != 1:
            print(f"{name}: {file} has changed, and the fault cannot be made", flush=True)
            return False
        (source / file).write_text(text.replace(right, wrong))
        start = time.perf_counter()
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-n", "2", "-x", "-q", "-p", "no:cacheprovider"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - start
    found = re.findall(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
    print(f"{name}: noticed by {found[0]}" if found else f"{name}: NOT NOTICED", end="")
    print(f" ({seconds:.0f} s)", flush=True)
    return bool(found)


if __name__ == "__main__":
    names = sys.argv[1:] or list(FAULTS)
    missed = [name for name in names if not noticed(name)]
    print(f"{len(names) - len(missed)} of {len(names)} faults noticed")
    sys.exit(bool(missed))
