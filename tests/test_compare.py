"""`compare`: its numbers are right, above all where a rule is wrong."""

import dataclasses
import math
from typing import ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import localgrad as lg
from localgrad._engine import Events


@final
@dataclasses.dataclass(frozen=True)
class Slow(lg.Rule):
    """Z-IL with a rate below 1: `e_v = gamma^l delta_v`."""

    rate: float = 0.5
    name: ClassVar[str] = "slow"
    engine: ClassVar[Events] = Events()

    def arrival(self, feedback):
        return self.rate * feedback


def chain(ws, x):
    for k, w in enumerate(ws):
        x = lg.vertex(jnp.tanh(x @ w), f"h{k}")
    return 0.5 * jnp.sum(x**2)


KEYS = jax.random.split(jax.random.key(0), 4)
WS = [jax.random.normal(key, (5, 5)) for key in KEYS]
X = jax.random.normal(KEYS[0], (3, 5))


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
