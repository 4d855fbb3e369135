"""Rules that are written outside of the package, on its public names alone."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import localgrad as lg
from oracle import assert_close

FILE = '''
from __future__ import annotations

import jax
import jax.numpy as jnp
import localgrad as lg


@lg.learning_rule
class Momentum(lg.Rule):
    """Inference learning whose values have inertia.

    Attributes:
        steps: Number of steps.
        rate: The step size.
        friction: What is left of the velocity after a step.
        nudge: The error of the loss.
    """

    steps: int = 40
    rate: float | jax.Array = lg.real(0.1)
    friction: float | jax.Array = lg.real(0.5)
    nudge: float | jax.Array = lg.real(1.0)

    def init(self, mu):
        return mu, jnp.zeros_like(mu)

    def value(self, s, mu):
        return s[0]

    def error(self, s, mu):
        return mu - s[0]

    def step(self, s, inbox):
        velocity = self.friction * s[1] + self.rate * (inbox.error - inbox.feedback)
        return s[0] + velocity, velocity


@lg.learning_rule
class Plain(lg.Rule):
    """The least that a rule can be."""

    steps: int = 40

    def step(self, s, inbox):
        return s + 0.1 * (inbox.error - inbox.feedback)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of its own, with a rule in it, that is no part of the package."""
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("mine", None)


def loss(ws, x):
    for k, w in enumerate(ws):
        x = lg.vertex(jnp.tanh(x @ w), f"h{k}")
    return 0.5 * jnp.sum(x**2)


def arguments(dtype="float64"):
    keys = jax.random.split(jax.random.key(0), 4)
    return [jax.random.normal(k, (4, 4), dtype) / 2 for k in keys[:3]], jax.random.normal(
        keys[3], (3, 4), dtype
    )


def test_a_rule_in_a_folder_of_its_own(folder):
    from mine import Momentum, Plain

    with jax.enable_x64(True):
        ws, x = arguments()
        il = lg.grad(loss, rule=lg.InferenceLearning(steps=40, rate=0.1))(ws, x)
        assert_close(lg.grad(loss, rule=Plain())(ws, x), il, 1e-12)
        assert_close(lg.grad(loss, rule=Momentum(friction=0.0))(ws, x), il, 1e-12)
        at_rest = lg.grad(loss, rule=lg.InferenceLearning(steps=2000, rate=0.1))(ws, x)
        assert_close(lg.grad(loss, rule=Momentum(steps=800))(ws, x), at_rest, 1e-9)

        rules = jax.tree.map(
            lambda *leaves: jnp.stack(leaves), *map(Momentum, [40] * 2, [0.1, 0.2])
        )
        swept = jax.vmap(lambda rule: lg.grad(loss, rule=rule)(ws, x))(rules)
        for k, rate in enumerate((0.1, 0.2)):
            alone = lg.grad(loss, rule=Momentum(rate=rate))(ws, x)
            assert_close(jax.tree.map(lambda g, k=k: g[k], swept), alone, 1e-12)
    assert len(jax.tree.leaves(Momentum())) == 3


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        ["compare", "--model", "mlp", "--steps", "3", "--json"],
        ["audit", "--model", "mlp", "--json"],
        ["trace", "--model", "mlp", "--steps", "3", "--out", "page.html", "--json"],
        ["train", "--steps", "3", "--json"],
    ],
    ids=lambda command: command[0],
)
def test_the_command_line_takes_it(folder, command):
    run = subprocess.run(
        [sys.executable, "-m", "localgrad", *command, "--rule", "mine:Momentum"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "omentum" in run.stdout
    json.loads(run.stdout.splitlines()[-1] if command[0] == "train" else run.stdout)


@pytest.mark.rows(1)
@pytest.mark.parametrize(
    ("name", "told"),
    [("mine:Nothing", "Nothing"), ("mine:jax", "jax"), ("nowhere:Rule", "nowhere")],
)
def test_the_command_line_says_what_is_no_rule(folder, name, told):
    run = subprocess.run(
        [sys.executable, "-m", "localgrad", "compare", "--rule", name],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert told in run.stderr


def lacking():
    class Rule(lg.Rule):
        steps: int = 3

    return Rule


def ill_typed():
    class Rule(lg.Rule):
        def step(self, s):
            return s

    return Rule


def asking():
    class Rule(lg.Rule):
        asks = ("whereabouts",)

        def step(self, s, inbox):
            return s

    return Rule


def silent():
    class Rule(lg.Rule):
        asks = ("pulse",)

        def step(self, s, inbox):
            return s

    return Rule


def stranger():
    class Rule:
        def step(self, s, inbox):
            return s

    return Rule


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lacking, r"no method step.*\n.*where.*\n.*step\(self, s, inbox\)"),
        (ill_typed, r"a method step\(self, s\)"),
        (asking, "whereabouts"),
        (silent, "no method pulse"),
        (stranger, "no rule"),
    ],
)
def test_what_a_rule_lacks_is_named(make, told):
    with pytest.raises(TypeError, match=told):
        lg.learning_rule(make())


def test_a_step_that_returns_another_state_is_named():
    @lg.learning_rule
    class Broken(lg.Rule):
        steps: int = 3

        def step(self, s, inbox):
            return s, s

    with pytest.raises(TypeError, match=r"Broken\.step returned"):
        lg.grad(loss, rule=Broken())(*arguments("float32"))


def test_a_rule_gets_what_it_asks_for_and_nothing_else():
    seen = []

    @lg.learning_rule
    class Curious(lg.Rule):
        asks = ("level", "time", "top")
        steps: int = 2

        def step(self, s, inbox):
            seen.append(inbox)
            return s

    ws, x = arguments("float32")
    lg.grad(loss, rule=Curious())(ws, x)
    levels = [int(inbox.level) for inbox in seen[:3]]
    assert levels == [3, 2, 1]
    for inbox in seen:
        assert inbox.pulse is inbox.moved is inbox.relay is None
        assert inbox.time is not None
    # What the loss sends stands at the vertex that it reads.
    assert [inbox.top.shape for inbox in seen[:3]] == [(3, 4)] * 3
    np.testing.assert_array_equal(len(seen) % 3, 0)
