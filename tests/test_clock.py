"""Z-IL by the clock: the published numbers, and what happens without each of its conditions."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import localgrad as lg
from functions import FUNCTIONS
from oracle import TOLERANCE, assert_close, compiled
from simulated import Simulated

CLOCK = lg.ZIL(clock=True)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


# Networks -----------------------------------------------------------------------------------------


def draw(*sizes, batch=6, seed=0, scale=1.0):
    generator = np.random.default_rng(seed)
    weights = [
        jnp.asarray(scale * generator.standard_normal((a, b)) / np.sqrt(a))
        for a, b in pairwise(sizes)
    ]
    x = jnp.asarray(generator.standard_normal((batch, sizes[0])))
    return weights, x, jnp.asarray(generator.standard_normal((batch, sizes[-1])))


def unmarked(x, name):
    return x


def chain(weights, x, y, mark=lg.vertex):
    """The networks of Song et al.: a vertex is ``theta f(parent)``; the output is clamped."""
    h = mark(x @ weights[0], "h0")
    for number, w in enumerate(weights[1:-1], 1):
        h = mark(jnp.tanh(h) @ w, f"h{number}")
    return 0.5 * jnp.sum((jnp.tanh(h) @ weights[-1] - y) ** 2)


def residual(weights, x, y, mark=lg.vertex, normed=False):
    """Blocks of two layers with a skip around them, perhaps with the batch's statistics."""
    for block in range(0, len(weights) - 1, 2):
        h = mark(jnp.tanh(x @ weights[block]), f"h{block}")
        x = mark(x + mark(h @ weights[block + 1], f"y{block}"), f"x{block}")
        if normed:
            x = mark((x - x.mean(0)) * lax.rsqrt(x.var(0) + 1e-3), f"n{block}")
    return 0.5 * jnp.sum((x @ weights[-1] - y) ** 2)


FOUR_BLOCKS = (6,) * 9 + (3,)


def neurons(simulation, steps):
    """The states of the vertices in the order of the program, over time."""
    (states,) = simulation.course(steps, simulation.neurons)
    return states


def miss(got, want):
    """The worst leaf's ``max |got - want| / max |want|``."""
    return max(
        float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    )


# The scalar chain ---------------------------------------------------------------------------------

OUT, X1, X2 = 0.564054374765, 0.402082838184, -0.106484790245
"""Minus the errors of backpropagation."""


def scalar(theta, s):
    x2 = lg.vertex(theta["theta3"] * s, "x2")
    x1 = lg.vertex(theta["theta2"] * jnp.tanh(x2), "x1")
    return 0.5 * (theta["theta1"] * jnp.tanh(x1) - 0.3) ** 2


THETA = {"theta3": 1.2, "theta2": -0.5, "theta1": 0.8}


def test_every_error_of_the_scalar_chain():
    """The published table of errors over time, of dynamics that nobody stops: IL at rate 1."""
    simulation = Simulated(scalar, (THETA, 0.7), lg.InferenceLearning(rate=1.0))
    states, signals = simulation.course(2, simulation.neurons, simulation.signals)
    x2, x1 = (state.value for state in states)
    np.testing.assert_allclose(x2[0], 0.84, atol=1e-12)
    np.testing.assert_allclose(x1[0], -0.342904531115, atol=1e-12)
    out = 0.3 - THETA["theta1"] * np.tanh(x1)
    errors2, errors1 = signals.errors
    np.testing.assert_allclose(out, [OUT, 0.252712542821, 0.412404119199], atol=1e-12)
    np.testing.assert_allclose(-errors1, [0, X1, 0.171164743619], atol=1e-12)
    np.testing.assert_allclose(-errors2, [0, 0, X2], atol=1e-12)


def test_the_clock_holds_the_diagonal():
    """Up to their turn the vertices are those of the table; then they keep their errors."""
    simulation = Simulated(scalar, (THETA, 0.7), CLOCK)
    x2, x1 = neurons(simulation, 4)
    np.testing.assert_allclose(-x1.error, [0, X1, X1, X1, X1], atol=1e-12)
    np.testing.assert_allclose(-x2.error, [0, 0, X2, X2, X2], atol=1e-12)
    updates = lg.grad(scalar, rule=CLOCK)(THETA, 0.7)
    expected = {"theta1": 0.186176281577, "theta2": -0.275752054193, "theta3": 0.074539353171}
    assert updates == pytest.approx(expected, abs=1e-12)


# Exact --------------------------------------------------------------------------------------------


@pytest.mark.rows(1)
@pytest.mark.parametrize("mark", [lg.vertex, unmarked], ids=["marked", "elementary"])
@pytest.mark.parametrize("normed", [False, True], ids=["plain", "normed"])
def test_four_blocks(mark, normed):
    """Exact with levels; without them not even near."""
    args = draw(*FOUR_BLOCKS)

    def loss(weights, x, y):
        return residual(weights, x, y, mark, normed)

    want = jax.grad(loss)(*args)
    assert miss(jax.jit(lg.grad(loss, rule=CLOCK))(*args), want) < 1e-14
    if mark is lg.vertex or not normed:
        without = lg.ZIL(clock=True, levelled=False)
        assert not miss(jax.jit(lg.grad(loss, rule=without))(*args), want) < 0.1


@pytest.mark.rows(9)
@pytest.mark.parametrize("row", list(FUNCTIONS.values())[3::9], ids=lambda row: row.name)
def test_functions(row):
    dtype = row.dtypes[-1]
    with jax.enable_x64(dtype == "float64"):
        call = row.call(dtype)
        got = compiled(lg.value_and_grad, row, call, rule=CLOCK)
        assert_close(
            got, compiled(jax.value_and_grad, row, call), TOLERANCE[row.precision or dtype]
        )


# C3: rate 1 ---------------------------------------------------------------------------------------


@pytest.mark.rows(1)
@pytest.mark.parametrize("rate", [0.5, 0.25, 0.3, 0.99999])
def test_other_rates_scale_each_level(rate):
    """``e_v(t = l) = gamma^l dL/dmu_v``: the right direction, and per layer a power of the rate."""
    args = draw(5, 7, 8, 6, 7, 3)
    rule = lg.ZIL(clock=True, rate=rate)
    got, want = jax.jit(lg.grad(chain, rule=rule))(*args), jax.grad(chain)(*args)
    ratios = [jnp.linalg.norm(a) / jnp.linalg.norm(b) for a, b in zip(got, want, strict=True)]
    levels = np.arange(4, -1, -1)
    np.testing.assert_allclose(ratios, rate**levels, rtol=1e-14)
    assert miss(got, [rate**k * b for k, b in zip(levels.tolist(), want, strict=True)]) < 1e-14
    if rate == 0.99999:
        assert miss(got, want) == pytest.approx(4e-5, rel=0.01)


def test_other_rates_with_skips():
    """On any levelled graph: the level is the longest path, and all contributions wait for it."""
    args = draw(6, 6, 6, 6, 6, 3)
    rule = lg.ZIL(clock=True, rate=0.5)
    got, want = jax.jit(lg.grad(residual, rule=rule))(*args), jax.grad(residual)(*args)
    expected = [0.5**level * b for level, b in zip((6, 5, 3, 2, 0), want, strict=True)]
    assert miss(got, expected) < 1e-14


def test_other_rates_need_the_clock():
    """Events have no relays, in which an error would shrink on its way."""
    with pytest.raises(ValueError, match="clock"):
        lg.ZIL(rate=0.5)


# C1 and C2, by a simulation in plain numpy beside the library's -----------------------------------


@lg.learning_rule
class Textbook(lg.Rule):
    """Errors from their definition, parameters that read what is there now, disturbed starts."""

    steps: int = 1
    rate: float = 1.0
    noise: float = 0.0
    levelled: bool = False

    def init(self, mu):
        generator = np.random.default_rng(mu.shape[-1])
        return (mu + self.noise * generator.standard_normal(mu.shape)).astype(mu.dtype)

    def step(self, s, inbox):
        return s + self.rate * (inbox.error - inbox.feedback)


def by_hand(weights, x, y, rate, steps, noise=0.0):
    """The gradients that each layer would read after 0, 1, .. steps."""
    weights, x, y = [np.asarray(w) for w in weights], np.asarray(x), np.asarray(y)
    values, below = [], x
    for w in weights[:-1]:
        values.append(below @ w)
        below = np.tanh(values[-1])
    for k, value in enumerate(values):
        generator = np.random.default_rng(value.shape[-1])
        values[k] = value + noise * generator.standard_normal(value.shape)
    course = []
    for _ in range(steps + 1):
        inputs = [x, *map(np.tanh, values)]
        errors = [i @ w - v for i, w, v in zip(inputs, weights, values, strict=False)]
        errors.append(inputs[-1] @ weights[-1] - y)
        course.append([i.T @ e for i, e in zip(inputs, errors, strict=True)])
        values = [
            v + rate * (errors[k] - (errors[k + 1] @ weights[k + 1].T) * (1 - np.tanh(v) ** 2))
            for k, v in enumerate(values)
        ]
    return course


DEEP = (5, 7, 8, 6, 9, 3)
LEVELS = (4, 3, 2, 1, 0)


def at_their_turn(rule, f, args, levels):
    """Each parameter as it would be read when the step is its vertex's level."""
    simulation = Simulated(f, args, rule)
    (course,) = simulation.course(max(levels), simulation.gradients)
    return [gradients[level] for gradients, level in zip(course, levels, strict=True)]


def test_all_three_conditions():
    args = draw(*DEEP)
    want = jax.grad(chain)(*args)
    by_numpy = by_hand(*args, rate=1.0, steps=4)
    assert miss([by_numpy[level][k] for k, level in enumerate(LEVELS)], want) < 1e-13
    assert miss(at_their_turn(Textbook(), chain, args, LEVELS), want) < 1e-13


def test_without_c1():
    """Values that start 0.01 off spoil the update, if one step of rate 1 is all there is."""
    distances = []
    for seed in range(5):
        args = draw(*DEEP, seed=seed)
        by_numpy = by_hand(*args, rate=1.0, steps=4, noise=0.01)
        got = at_their_turn(Textbook(noise=0.01), chain, args, LEVELS)
        assert miss(got, [by_numpy[level][k] for k, level in enumerate(LEVELS)]) < 1e-12
        distances.append(miss(got, jax.grad(chain)(*args)))
    assert np.median(distances) == pytest.approx(1.4, rel=0.5)


def test_without_c2():
    """All parameters read at the last step, when the values above have moved on."""
    distances = []
    for seed in range(5):
        args = draw(*DEEP, seed=seed)
        rule = lg.InferenceLearning(steps=4, rate=1.0)
        got = jax.jit(lg.grad(chain, rule=rule))(*args)
        assert miss(got, by_hand(*args, rate=1.0, steps=4)[-1]) < 1e-12
        distances.append(miss(got, jax.grad(chain)(*args)))
    assert np.median(distances) == pytest.approx(5.7, rel=1.5)


# Levels -------------------------------------------------------------------------------------------


def test_first_arrival_is_not_the_gradient():
    """``G = s z3 + s z3 z2 z1``: at z3 the short path's share arrives a step before the sum."""

    def loss(z):
        z1, z2, z3 = z
        z3 = lg.vertex(z3, "z3")
        u = lg.vertex(2.0 * z3, "u")
        v = lg.vertex(u * lg.vertex(z2 * z1, "w"), "v")
        g = lg.vertex(u + v, "g")
        return 0.5 * (g - 1.0) ** 2

    z = (0.8, -0.3, 0.5)
    simulation = Simulated(loss, (z,), lg.ActivationRelaxation(rate=1.0))
    (states,) = simulation.course(5, simulation.neurons)
    levels = {int(level): s for level, s in zip(simulation.levels, states, strict=True)}
    z3, g = levels[4], levels[1]
    np.testing.assert_allclose(g, [0, -0.24, -0.24, -0.24, -0.24, -0.24], atol=1e-14)
    np.testing.assert_allclose(z3, [0, 0, 0, -0.48, -0.3648, -0.3648], atol=1e-14)
    gradients = lg.grad(loss, rule=CLOCK)(z)
    np.testing.assert_allclose(gradients, (0.072, -0.192, -0.3648), rtol=1e-13)


def test_without_levels_by_the_textbook():
    """Nothing is held, each parameter reads when its longest path has passed: off by 1e5 and more.

    The very same with relays on the short paths is exact.
    """
    args = draw(*FOUR_BLOCKS)
    want = jax.grad(residual)(*args)
    levels = (12, 11, 9, 8, 6, 5, 3, 2, 0)
    assert miss(at_their_turn(Textbook(), residual, args, levels), want) > 1e5
    assert miss(at_their_turn(Textbook(levelled=True), residual, args, levels), want) < 1e-9


def test_behind_the_wave_values_explode_unless_they_are_held():
    args = draw(*FOUR_BLOCKS)

    def largest(rule, steps):
        found = neurons(Simulated(residual, args, rule), steps)
        return max(float(np.max(np.abs(getattr(s, "value", s)[-1]))) for s in found)

    assert largest(Textbook(levelled=True), 5) > 100
    assert largest(Textbook(levelled=True), 15) > 1e6
    assert largest(CLOCK, 15) < 100


# Numerical care -----------------------------------------------------------------------------------


def sigmoids(weights, x, y):
    for number, w in enumerate(weights[:-1]):
        x = lg.vertex(jax.nn.sigmoid(x @ w), f"x{number}")
    return jnp.mean((x @ weights[-1] - y) ** 2)


@pytest.mark.long
def test_sixteen_sigmoid_layers_in_float32():
    """Gradients far below the rounding of the values: errors must be carried, not subtracted."""
    args = draw(*(8,) * 17)
    want = jax.grad(sigmoids)(*args)
    assert jnp.max(jnp.abs(want[0])) < 1e-9
    single = jax.tree.map(lambda x: x.astype(jnp.float32), args)
    for rule in CLOCK, lg.FaZIL(), lg.FixedPrediction(16, 1.0):
        assert miss(jax.jit(lg.grad(sigmoids, rule=rule))(*single), want) < 5e-6
    lost = at_their_turn(Textbook(), sigmoids, single, range(15, -1, -1))
    assert miss(lost, want) > 0.9


def attention(params, x, y, mark=unmarked):
    """A transformer block: two norms, two skips, a softmax."""

    def norm(x):
        x = x - x.mean(-1, keepdims=True)
        return x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-3)

    q, k, v, o, up, down = params
    h = norm(x)
    weights = mark(jax.nn.softmax((h @ q) @ (h @ k).T), "weights")
    x = mark(x + mark(weights @ (h @ v), "mixed") @ o, "x")
    h = mark(jax.nn.gelu(norm(x) @ up), "h")
    return jnp.mean((x + h @ down - y) ** 2)


def statistics(weights, x, y):
    return residual(weights, x, y, unmarked, normed=True)


@pytest.mark.rows(1)
@pytest.mark.parametrize(("f", "dtype"), [(statistics, "float32"), (attention, "float32")])
def test_predictions_of_unmoved_parents_do_not_move(f, dtype):
    """Where a fused product and difference would leave a rounding error that grows at rate 1."""
    generator = np.random.default_rng(5)
    shapes = [(4, 4)] * 4 + [(4, 6), (6, 4)] if f is attention else [(4, 4)] * 4 + [(4, 3)]
    params = [jnp.asarray(0.5 * generator.standard_normal(shape), dtype) for shape in shapes]
    x, y = (jnp.asarray(generator.standard_normal((5, n)), dtype) for n in (4, shapes[-1][1]))
    got = jax.jit(lg.grad(f, rule=CLOCK))(params, x, y)
    assert_close(got, jax.grad(f)(params, x, y), 4 * TOLERANCE[dtype])
