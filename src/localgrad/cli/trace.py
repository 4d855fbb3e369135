"""``localgrad trace``: a rule step by step, as a page that plays it."""

import math
import webbrowser
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import jax
from tyro.conf import UseAppendAction, arg

import localgrad as lg
from localgrad.cli.document import document, print_document
from localgrad.cli.errors import FailedError, UsageError
from localgrad.cli.files import checked, size, writing
from localgrad.cli.options import (
    BesideFields,
    Flag,
    NoFields,
    Problem,
    ProblemOptions,
    Reporting,
    ReportingOptions,
    RuleFields,
    rule_name,
)
from localgrad.cli.problem import Posed, blamed, pose
from localgrad.cli.progress import doing
from localgrad.cli.ranges import Count
from localgrad.cli.report import Output, print_text
from localgrad.cli.rules import rules
from localgrad.experiments.names import suggest

HIDDEN = ("gradients", "aux", "vertices", "graph", "first_not_finite")

LARGEST = 8e9
"""Bytes that a recording may take."""


@dataclass(frozen=True)
class Options:
    """Run a rule step by step, print what every vertex did, and write a page that plays the wave
    of errors.

    Example: localgrad trace --rule fa-zil --beside il --beside.steps 20 --open
    """

    problem: ProblemOptions = field(default_factory=Problem)
    rule: Annotated[str, rule_name(lg.ZIL.name)] = lg.ZIL.name
    """The rule to watch. Its settings: localgrad trace --rule NAME --help."""
    rule_fields: RuleFields = field(default_factory=lg.ZIL)
    """The rule's own settings."""
    beside: Annotated[str | None, rule_name("none")] = None
    """A second rule to play beside it. Its settings: localgrad trace --beside NAME --help."""
    beside_fields: BesideFields = field(default_factory=NoFields)
    """The second rule's settings."""
    every: Count = 1
    """Record every so many steps."""
    only: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="PATTERN")]] = ()
    """Record only the vertices of this name, or pattern: --only 'h*'. May be given again."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("wave.html")
    """The page to write."""
    open: Flag = False
    """Open the page in a browser."""
    output: ReportingOptions = field(default_factory=Reporting)


def run(options: Options) -> None:
    """Record, write the page, and print the table of the vertices.

    Raises:
        UsageError: if the options make no sense, or there is no such function or vertex.
        FailedError: if the function fails, or the page cannot be written.
    """
    checked(options.out, "--out", (".html", ".htm"))
    names = [("--rule", options.rule_fields)]
    if options.beside is not None:
        names.append(("--beside", options.beside_fields))
    for option, rule in names:
        _check_dynamics(option, rule)
    problem = pose(options.problem)
    recordings = [_recorded(problem, rule, options) for _, rule in names]
    first, *others = recordings
    beside = others[0] if others else None
    with writing(options.out):
        first.show(options.out, beside=beside, title=_title(problem, options))
    if options.output.json:
        shown = [_described(recording) for recording in recordings]
        page = {"path": options.out, "bytes": options.out.stat().st_size}
        print_document({"recordings": shown, "page": page})
    else:
        console = Output()
        for recording in recordings:
            print_text(console, str(recording))
            console.print()
        console.print(f"page: {options.out} ({size(options.out)})", soft_wrap=True)
    if options.open:
        webbrowser.open(options.out.absolute().as_uri())


def _check_dynamics(option: str, rule: lg.Rule) -> None:
    if not _has_dynamics(rule):
        able = [name for name, kind in rules().items() if _has_dynamics(kind())]
        raise UsageError(
            f"{rule.name} does not run step by step: there is nothing to record",
            f"{option} {rule.name}",
            f"choose from: {', '.join(able)}",
        )


def _has_dynamics(rule: lg.Rule) -> bool:
    try:
        lg.record(_nothing, rule=rule)
    except TypeError:
        return False
    return True


def _nothing() -> None:
    """A function to ask `localgrad.record` about a rule with."""


def _recorded(problem: Posed, rule: lg.Rule, options: Options) -> lg.Recording:
    """One rule's recording; compiled first, to tell the time that takes from that of the run."""
    chosen = Chosen(options.only)
    record = lg.record(
        problem.loss,
        rule=rule,
        vertices=options.problem.vertices,
        every=options.every,
        only=chosen if options.only else None,
    )
    arrays, rest = eqx.partition(problem.args, eqx.is_array)
    run: Any = jax.jit(lambda arrays: record(*eqx.combine(arrays, rest)))
    with blamed("the recording", problem.name):
        with doing(f"tracing {rule.name}"):
            lowered = run.lower(arrays)
        chosen.check()
        _check_size(lowered.out_info)
        with doing(f"compiling {rule.name}"):
            program = lowered.compile()
        with doing(f"recording {rule.name}"):
            return jax.block_until_ready(program(arrays))


class Chosen:
    """The vertices that patterns mean, as a predicate of names that remembers what it met."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = patterns
        self._met: list[str] = []

    def __call__(self, name: str) -> bool:
        """Whether a pattern means this name."""
        self._met.append(name)
        return any(_means(pattern, name) for pattern in self._patterns)

    def check(self) -> None:
        """See that every pattern means a vertex."""
        for pattern in self._patterns:
            if not any(_means(pattern, name) for name in self._met):
                advice = suggest(pattern, self._met)
                raise UsageError(f"no vertex is called {pattern!r}", f"--only {pattern}", advice)


def _means(pattern: str, name: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _check_size(shapes: Any) -> None:
    """See that a recording fits the memory before it is made."""
    leaves = jax.tree.leaves(shapes)
    total = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    if total > LARGEST:
        raise FailedError(
            f"the recording would take {total / 1e9:,.1f} GB of memory",
            f"more than {LARGEST / 1e9:g} GB",
            "record less: --every 10, --only NAME, or a smaller --batch-size",
        )


def _title(problem: Posed, options: Options) -> str:
    names = [options.rule, *([options.beside] if options.beside else [])]
    return f"{problem.name}: {' and '.join(names)}"


def _described(recording: lg.Recording) -> Any:
    """A recording as JSON has it: over time, the energies of the vertices and not their values."""
    shown = document(recording, "not_finite", without=HIDDEN)
    shown["vertices"] = [
        document(vertex, "shape", without=("value", "error")) for vertex in recording.vertices
    ]
    return shown
