"""The published numbers: the scalar chain of Z-IL and the smallest graph that needs levels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import localgrad as lg
from oracle import RULES

TARGET = 0.3
ERRORS = {"out": -0.564054374765, "x1": -0.402082838184, "x2": 0.106484790245}
UPDATES = {"theta1": 0.186176281577, "theta2": -0.275752054193, "theta3": 0.074539353171}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def chain(theta, probe, mark):
    """The loss of ``out = theta1 tanh(theta2 tanh(theta3 s))``; a probe is added to each value."""
    x2 = mark(theta["theta3"] * 0.7 + probe["x2"], "x2")
    x1 = mark(theta["theta2"] * jnp.tanh(x2) + probe["x1"], "x1")
    out = mark(theta["theta1"] * jnp.tanh(x1) + probe["out"], "out")
    return 0.5 * (out - TARGET) ** 2, {"x2": x2, "x1": x1, "out": out}


def unmarked(x, name):
    return x


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("mark", [unmarked, lg.vertex], ids=["elementary", "marked"])
def test_scalar_chain(rule, mark):
    theta = {"theta3": 1.2, "theta2": -0.5, "theta1": 0.8}
    probe = dict.fromkeys(ERRORS, 0.0)
    transform = lg.grad(lambda t, p: chain(t, p, mark), (0, 1), has_aux=True, rule=rule)
    (updates, errors), values = transform(theta, probe)
    assert updates == pytest.approx(UPDATES, abs=1e-12)
    assert errors == pytest.approx(ERRORS, abs=1e-12)
    expected = {"x2": 0.84, "x1": -0.342904531115, "out": -0.264054374765}
    assert values == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_paths_of_unequal_length(rule):
    def loss(z1, z2, z3):
        s = 2.0
        g = s * z3 + s * z3 * z2 * z1
        return 0.5 * (g - 1.0) ** 2, g

    transform = lg.value_and_grad(loss, (0, 1, 2), has_aux=True, rule=rule)
    (value, output), gradients = transform(0.8, -0.3, 0.5)
    np.testing.assert_allclose(output, 0.76, rtol=1e-14)
    np.testing.assert_allclose(value, 0.5 * 0.24**2, rtol=1e-13)
    np.testing.assert_allclose(gradients, (0.072, -0.192, -0.3648), rtol=1e-13)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_skips_of_every_length_are_exact_at_depth(rule):
    """A chain in which every layer feeds every later one: a first-arrival schedule diverges."""

    def loss(weights, x):
        values = [x]
        for row in weights:
            values.append(jnp.tanh(sum(w * v for w, v in zip(row, values, strict=False))))
        return jnp.sum(values[-1])

    generator = np.random.default_rng(0)
    weights, x = jnp.asarray(generator.standard_normal((12, 13))), jnp.asarray([0.3, -0.7])
    got = jax.jit(lg.grad(loss, rule=rule))(weights, x)
    want = jax.jit(jax.grad(loss))(weights, x)
    np.testing.assert_allclose(got, want, rtol=1e-12)
