"""`compare`: its numbers are right, above all where a rule is wrong."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import localgrad as lg


@lg.learning_rule
class Slow(lg.Rule):
    """Z-IL with a rate below 1: `e_v = gamma^l delta_v`."""

    rate: float = 0.5
    engine: ClassVar[str] = "events"

    def arrival(self, feedback):
        return self.rate * feedback


def chain(ws, x):
    for k, w in enumerate(ws):
        x = lg.vertex(jnp.tanh(x @ w), f"h{k}")
    return 0.5 * jnp.sum(x**2)


KEYS = jax.random.split(jax.random.key(0), 4)
WS = [jax.random.normal(key, (5, 5)) for key in KEYS]
X = jax.random.normal(KEYS[0], (3, 5))


@pytest.mark.long
def test_zero_divergence():
    result = lg.compare(chain)(WS, X)
    assert result.value == pytest.approx(float(chain(WS, X)))
    assert (result.max_abs, result.max_rel) == (0.0, 0.0)
    assert result.cosine == pytest.approx(1.0)
    assert [leaf.name for leaf in result.leaves] == [f"args[0][{k}]" for k in range(4)]
    for leaf, gradient in zip(result.leaves, jax.grad(chain)(WS, X), strict=True):
        assert (leaf.shape, leaf.dtype) == ((5, 5), "float32")
        assert leaf.norm == pytest.approx(float(jnp.linalg.norm(gradient)))


def test_a_smaller_rate_scales_each_level_by_its_power():
    """The direction stays exact; the root's error is given and not scaled (section 3: gamma^l)."""
    result = lg.compare(chain, rule=Slow(0.5))(WS, X)
    for level, leaf in zip((4, 3, 2, 1), result.leaves, strict=True):
        assert leaf.cosine == pytest.approx(1.0)
        assert leaf.max_rel == pytest.approx(1 - 0.5**level)
    assert result.max_rel == pytest.approx(1 - 0.5**4)
    elementary = lg.compare(chain, rule=Slow(0.5), vertices="elementary")(WS, X)
    assert elementary.leaves[3].max_rel == pytest.approx(1 - 0.5**4)  # sum, square, tanh, product


def test_leaves_without_a_gradient():
    result = lg.compare(lambda p: jnp.sum(p["a"] ** 2))({"a": jnp.ones(2), "b": jnp.ones(3)})
    used, unused = result.leaves
    assert (unused.norm, unused.max_abs, unused.max_rel) == (0.0, 0.0, 0.0)
    assert math.isnan(unused.cosine)
    assert result.cosine == used.cosine == pytest.approx(1.0)


def test_what_is_not_finite_is_not_hidden():
    result = lg.compare(lambda w: jnp.sum(jnp.log(w)), rule=Slow(0.5))(jnp.zeros(2))
    assert math.isnan(result.max_abs)
    assert math.isnan(result.max_rel)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtypes(dtype):
    result = lg.compare(lambda w: jnp.sum(jnp.tanh(w)))(jnp.ones((2, 3), dtype))
    assert result.leaves[0].dtype == dtype
    assert result.max_rel == 0.0


def test_options_of_grad_and_arguments_that_are_no_arrays():
    def f(w, power, aux, *, scale):
        return scale * jnp.sum(w**power), aux

    result = lg.compare(f, has_aux=True)(jnp.ones(3), 2, "a string", scale=np.float32(2.0))
    assert result.leaves[0].norm == pytest.approx(4 * 3**0.5)
    both = lg.compare(lambda a, b: jnp.sum(a * b), argnums=(0, 1))(jnp.ones(2), jnp.ones(2))
    assert [leaf.name for leaf in both.leaves] == ["args[0]", "args[1]"]


def test_prints_as_a_table():
    lines = str(lg.compare(chain)(WS, X)).splitlines()
    assert lines[0].startswith("ZIL() against backpropagation, loss ")
    assert lines[1].split() == [
        "parameter", "shape", "dtype", "|gradient|", "max", "abs", "max", "rel", "cosine"
    ]  # fmt: skip
    assert len(lines) == 3 + len(WS)
    assert max(map(len, lines)) <= 80


def report(rule, f=chain, **options):
    """The comparison, of which the text fits a terminal."""
    result = lg.compare(f, rule=rule, **options)(WS, X)
    assert max(map(len, str(result).splitlines())) <= 80
    return result


EXACT = [
    lg.ZIL(clock=True),
    lg.FaZIL(),
    lg.FixedPrediction(steps=4, rate=1.0),
    lg.FixedPrediction(),
    lg.ActivationRelaxation(steps=1, rate=1.0, schedule="top-down"),
]


@pytest.mark.parametrize("rule", EXACT, ids=repr)
def test_what_is_exact_is_not_warned_of(rule):
    result = report(rule)
    assert result.warnings == result.not_finite == ()
    assert "warning" not in str(result)
    assert result.depth == 4
    assert result.steps == getattr(rule, "steps", result.steps)
    assert all(leaf.delivered == pytest.approx(1.0, abs=1e-3) for leaf in result.leaves)
    is_relaxation = not isinstance(rule, lg.ZIL | lg.FaZIL)
    assert (result.residual is not None) == is_relaxation
    if is_relaxation:
        assert result.residual < 1e-4
    assert f"{result.steps} steps, depth 4" in str(result)


@pytest.mark.parametrize("rule", [lg.ZIL(), lg.Backprop(), Slow(0.5)], ids=repr)
def test_rules_without_steps_have_no_report(rule):
    result = report(rule)
    assert (result.steps, result.depth, result.residual) == (None, None, None)
    assert result.warnings == ()
    assert str(result).count("\n") == 2 + len(WS)


def test_fewer_steps_than_levels():
    result = report(lg.FixedPrediction(steps=2, rate=1.0))
    warning, unrest = result.warnings
    assert "2 steps met a network of depth 4" in warning
    assert "not at rest" in unrest  # the wave stands somewhere
    assert "at least 4 steps" in warning
    assert [leaf.delivered for leaf in result.leaves[:2]] == [0.0, 0.0]
    assert [leaf.delivered for leaf in result.leaves[2:]] == pytest.approx([1.0, 1.0])
    assert "\nwarning: 2 steps" in str(result)


def test_not_at_rest():
    result = report(lg.InferenceLearning(steps=5, rate=0.1))
    assert result.residual > 0.1
    (warning,) = result.warnings
    assert "not at rest after 5 steps" in warning
    relaxed = report(lg.FixedPrediction(steps=500, rate=0.1, tolerance=1e-3))
    assert relaxed.residual < 1e-3
    assert 4 < relaxed.steps < 500


def test_an_inference_that_diverges():
    def stiff(ws, x):
        h = lg.vertex(x @ ws[0], "h")
        return jnp.sum(lg.vertex(h**2, "square") ** 2)

    result = report(lg.InferenceLearning(steps=50, rate=2.0), stiff)
    assert result.not_finite == ("h", "square")
    assert "2 of 2 vertices (h, square)" in result.warnings[0]
    assert math.isnan(result.residual)
    assert math.isnan(result.leaves[0].delivered)


def test_the_part_delivered():
    result = report(lg.FixedPrediction(steps=1, rate=0.25))
    assert [leaf.delivered for leaf in result.leaves] == pytest.approx([0.0, 0.0, 0.0, 0.25])


def test_long_names_give_way():
    def f(parameters, x):
        return chain(parameters["a name that is much too long for a column"], x)

    for rule in (lg.ZIL(), lg.InferenceLearning(steps=4)):
        text = str(lg.compare(f, rule=rule)({"a name that is much too long for a column": WS}, X))
        assert max(map(len, text.splitlines())) <= 80
        assert "column'][3]" in text
