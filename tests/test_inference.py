"""Inference learning: the energy it descends, where it comes to rest, and how far from backprop."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import localgrad as lg
from simulated import Simulated

SIZES = (6, 9, 8, 4)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


# Networks: their loss with marks for the library, their parts for the references below ------------


def draw(sizes=SIZES, batch=8, seed=0):
    """Weights N(0, 1/n), inputs and targets N(0, 1)."""
    generator = np.random.default_rng(seed)
    weights = [
        jnp.asarray(generator.standard_normal((a, b)) / np.sqrt(a)) for a, b in pairwise(sizes)
    ]
    x = jnp.asarray(generator.standard_normal((batch, sizes[0])))
    return weights, x, jnp.asarray(generator.standard_normal((batch, sizes[-1])))


def classical(weights, x, y):
    """Hidden activities are vertices; the output is clamped to the target, the loss is a sum."""
    for number, w in enumerate(weights[:-1]):
        x = lg.vertex(jnp.tanh(x @ w), f"x{number}")
    return 0.5 * jnp.sum((x @ weights[-1] - y) ** 2)


def averaged(weights, x, y):
    return classical(weights, x, y) / len(x)


def layers(weights):
    """What each vertex of `classical` predicts from the one below."""
    return [lambda x, w=w: jnp.tanh(x @ w) for w in weights[:-1]]


def energy(weights, x, y, values, nudge, loss=None):
    """The free energy, as its definition says: half the squared errors, and the nudged loss."""
    errors = []
    for layer, value in zip(layers(weights), values, strict=True):
        errors.append(layer(x) - value)
        x = value
    loss = 0.5 * jnp.sum((x @ weights[-1] - y) ** 2)
    return 0.5 * sum(jnp.sum(e**2) for e in errors) + nudge * loss


def forward(weights, x):
    values = []
    for layer in layers(weights):
        values.append(x := layer(x))
    return values


def watched(f, args, rule, steps):
    """The states of the vertices after 0, 1, .. steps, one per vertex in the order of the program.

    Reads the dynamics themselves: what a neuron holds, at every time.
    """
    simulation = Simulated(f, args, rule)
    (states,) = simulation.course(steps, simulation.neurons)
    return states


def miss(got, want):
    """The worst leaf's ``max |got - want| / max |want|``."""
    return max(
        float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    )


# The dynamics -------------------------------------------------------------------------------------


@pytest.mark.rows(1)
@pytest.mark.parametrize(("rate", "nudge"), [(0.1, 1.0), (0.3, 0.01), (1.0, 0.2)])
def test_every_step_descends_the_energy(rate, nudge):
    """Every vertex moves against the energy's gradient, by `jax.grad` of its definition."""
    weights, x, y = args = draw()
    rule = lg.InferenceLearning(rate=rate, nudge=nudge)
    states = watched(classical, args, rule, steps=12)

    values = forward(weights, x)
    descend = jax.jit(jax.grad(energy, 3))
    for time in range(13):
        for state, value in zip(states, values, strict=True):
            np.testing.assert_allclose(state.value[time], value, rtol=0, atol=1e-13)
        slopes = descend(weights, x, y, values, nudge)
        values = [v - rate * slope for v, slope in zip(values, slopes, strict=True)]


def test_gradients_are_read_at_the_last_values():
    """A parameter's gradient is that of the energy at the values after all steps, per nudge."""
    args = weights, x, _ = draw()
    values, descend = forward(weights, x), jax.jit(jax.grad(energy, 3))
    for _ in range(7):
        slopes = descend(*args, values, 0.5)
        values = [v - 0.2 * slope for v, slope in zip(values, slopes, strict=True)]
    want = [g / 0.5 for g in jax.grad(energy)(*args, values, 0.5)]
    got = lg.grad(classical, rule=lg.InferenceLearning(steps=7, rate=0.2, nudge=0.5))(*args)
    assert miss(got, want) < 1e-13


def energies(args, rate, nudge=1.0, steps=60):
    states = watched(classical, args, lg.InferenceLearning(rate=rate, nudge=nudge), steps)
    return jax.vmap(lambda *values: energy(*args, values, nudge))(*(s.value for s in states))


@pytest.mark.rows(2)
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("nudge", [0.1, 1.0])
def test_energy_never_increases(rate, nudge):
    """A small rate descends; too large a one does not."""
    course = energies(draw(seed=2), rate, nudge)
    assert np.all(np.diff(course) <= 1e-14 * course[0])
    assert course[-1] < 0.98 * course[0]


def test_energy_increases_at_too_large_a_rate():
    assert np.any(np.diff(energies(draw(seed=2), 1.3)) > 0)


@pytest.mark.long
def test_the_error_enters_one_layer_per_step():
    """After t steps the t lowest of four layers have not heard of the target."""
    args = draw((3, 4, 4, 4, 2))
    transform = jax.jit(
        lambda args: [
            lg.grad(classical, rule=lg.InferenceLearning(steps=t, rate=0.5))(*args)
            for t in (1, 2, 3)
        ]
    )
    for steps, gradients in enumerate(transform(args), 1):
        silent = [not np.any(g) for g in gradients]
        assert silent == [layer < 3 - steps for layer in range(4)]


# At rest ------------------------------------------------------------------------------------------


def newton(weights, x, y, nudge, rounds=12):
    """The values at which the energy rests: gradient descent, then Newton's method on it."""
    shapes = [v.shape for v in forward(weights, x)]
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def flat(point):
        parts = jnp.split(point, ends)
        values = [p.reshape(shape) for p, shape in zip(parts, shapes, strict=True)]
        return energy(weights, x, y, values, nudge)

    point = jnp.concatenate([v.ravel() for v in forward(weights, x)])
    slope, curvature = jax.jit(jax.grad(flat)), jax.jit(jax.hessian(flat))
    for _ in range(200):
        point = point - 0.2 * slope(point)
    for _ in range(rounds):
        point = point - jnp.linalg.solve(curvature(point), slope(point))
    parts = jnp.split(point, ends)
    return [p.reshape(shape) for p, shape in zip(parts, shapes, strict=True)]


@pytest.mark.long
def test_equilibrium_is_the_energys_own():
    """What the neurons come to rest at is what another optimiser finds in the same energy."""
    weights, x, _ = args = draw(batch=3)
    values = newton(*args, nudge=1.0)
    states = watched(classical, args, lg.InferenceLearning(rate=0.2), steps=600)
    for state, value in zip(states, values, strict=True):
        np.testing.assert_allclose(state.value[-1], value, rtol=0, atol=1e-12)

    # The error that a neuron carries as state is the one that its definition says.
    below = [x, *values[:-1]]
    for state, value, layer, parent in zip(states, values, layers(weights), below, strict=True):
        np.testing.assert_allclose(state.error[-1], layer(parent) - value, rtol=0, atol=1e-12)

    got = lg.grad(classical, rule=lg.InferenceLearning(steps=600, rate=0.2))(*args)
    assert miss(got, jax.grad(energy)(*args, values, 1.0)) < 1e-11
    assert miss(got, jax.grad(classical)(*args)) > 0.1  # which is not backpropagation


VARIANCES = (1.0, 10.0, 100.0, 1e3, 1e4)
PUBLISHED = (0.98, 0.45, 0.050, 5.0e-3, 5.0e-4)


def relaxed(args, nudges):
    """Misses to backpropagation after relaxation, for many nudges at once."""
    want = jax.grad(classical)(*args)

    def of(nudge):
        rule = lg.InferenceLearning(steps=1500, rate=0.1, nudge=nudge)
        got = lg.grad(classical, rule=rule)(*args)
        distances = [jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)) for a, b in zip(got, want)]  # noqa: B905
        return jnp.max(jnp.stack(distances))

    return jax.vmap(of)(nudges)


@pytest.mark.long
def test_distance_from_backprop_falls_as_one_over_variance():
    """The published figures are of one draw; the median over draws has them within a fifth.

    Vertices are the hidden activities, the output is clamped, the measure is the worst leaf's
    ``max |difference| / max |gradient|``.
    """
    draws = [draw(seed=seed) for seed in range(40)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *draws)
    misses = jax.jit(jax.vmap(relaxed, in_axes=(0, None)))(stacked, 1 / jnp.asarray(VARIANCES))
    np.testing.assert_allclose(np.median(misses, axis=0), PUBLISHED, rtol=0.25)
    # In every draw by itself, the law: tenfold the variance, a tenth of the distance.
    np.testing.assert_allclose(misses[:, 3] / misses[:, 4], 10, rtol=0.03)
    np.testing.assert_allclose(misses[:, 2] / misses[:, 3], 10, rtol=0.3)


def test_a_small_output_error_alone_is_not_enough():
    """With targets near the outputs the errors are small, and the distance stays."""
    weights, x, y = draw()
    out = forward(weights, x)[-1] @ weights[-1]
    measure = jax.jit(lambda y: relaxed((weights, x, y), jnp.ones(1))[0])
    distances = [float(measure(out + scale * (y - out))) for scale in (1e-3, 1e-5)]
    assert min(distances) > 0.1
    assert distances[0] == pytest.approx(distances[1], rel=0.02)


# The nudge ----------------------------------------------------------------------------------------


def learned(loss, args, **options):
    rule = lg.InferenceLearning(steps=40, rate=0.2, **options)
    return jax.jit(lg.grad(loss, rule=rule))(*args)


def test_nudge_makes_mean_and_sum_alike():
    """A mean over B examples with nudge B has the dynamics of the sum: B times its gradient."""
    args = draw()
    total = learned(classical, args)
    mean = learned(averaged, args, nudge=8.0)
    assert miss([8 * g for g in mean], total) < 1e-13
    assert miss([8 * g for g in learned(averaged, args)], total) > 0.1  # another energy


def test_nudge_makes_the_batch_size_irrelevant():
    """A batch repeated three times, with three times the nudge: the same mean gradient."""
    weights, x, y = args = draw()
    repeated = (weights, jnp.tile(x, (3, 1)), jnp.tile(y, (3, 1)))
    assert miss(learned(averaged, repeated, nudge=24.0), learned(averaged, args, nudge=8.0)) < 1e-13
    assert miss(learned(averaged, repeated), learned(averaged, args)) > 0.01


def test_examples_relax_apart_from_each_other():
    """The gradient of a summed loss is the sum of the examples' own."""
    weights, x, y = args = draw(batch=4)
    apart = jax.vmap(lambda x, y: learned(classical, (weights, x[None], y[None])))(x, y)
    assert miss(learned(classical, args), [g.sum(0) for g in apart]) < 1e-13


def test_only_nudge_times_loss_matters():
    """Twice the loss with half the nudge: twice the gradient."""
    args = draw()
    got = learned(lambda *args: 2 * classical(*args), args, nudge=0.5)
    assert miss(got, [2 * g for g in learned(classical, args)]) < 1e-13


@pytest.mark.long
def test_small_nudges_tend_to_backprop():
    """The distance is proportional to the nudge, in the limit."""
    far, near = relaxed(draw(), jnp.asarray([1e-4, 1e-6]))
    assert near < 1e-5
    assert far / near == pytest.approx(100, rel=0.01)


# Any graph ----------------------------------------------------------------------------------------


def test_a_graph_with_shared_weights_and_skips():
    """A weight used twice, a skip, a product: against descent of the energy written by hand."""
    generator = np.random.default_rng(3)
    w, v = (jnp.asarray(0.5 * generator.standard_normal((4, 4))) for _ in range(2))
    x = jnp.asarray(generator.standard_normal((3, 4)))

    def loss(params, x):
        w, v = params
        a = lg.vertex(jnp.tanh(x @ w), "a")
        b = lg.vertex(jnp.sin(a @ w) + a, "b")
        c = lg.vertex((b @ v) * a, "c")
        return jnp.mean((c + b) ** 2)

    def energy(params, values):
        (w, v), (a, b, c) = params, values
        hidden = jnp.sum((jnp.tanh(x @ w) - a) ** 2) + jnp.sum((jnp.sin(a @ w) + a - b) ** 2)
        hidden += jnp.sum(((b @ v) * a - c) ** 2)
        return 0.5 * hidden + 3.0 * jnp.mean((c + b) ** 2)

    a = jnp.tanh(x @ w)
    b = jnp.sin(a @ w) + a
    values = [a, b, (b @ v) * a]
    descend = jax.jit(jax.grad(energy, 1))
    for _ in range(9):
        slopes = descend((w, v), values)
        values = [value - 0.15 * slope for value, slope in zip(values, slopes, strict=True)]
    want = [g / 3.0 for g in jax.grad(energy)((w, v), values)]
    rule = lg.InferenceLearning(steps=9, rate=0.15, nudge=3.0)
    assert miss(lg.grad(loss, rule=rule)((w, v), x), want) < 1e-13


# Numerical care -----------------------------------------------------------------------------------


@pytest.mark.rows(1)
@pytest.mark.parametrize(
    ("loss", "batch", "floor"), [(classical, 32, 1e-5), (averaged, 32, 1e-5), (averaged, 512, 1e-4)]
)
def test_float32(loss, batch, floor):
    """The floor is some 1e-7 of the predictions over the errors: high for a mean over many."""
    args = draw(batch=batch)
    transform = jax.jit(lg.grad(loss, rule=lg.InferenceLearning(steps=50)))
    got = transform(*jax.tree.map(lambda x: x.astype(jnp.float32), args))
    assert got[0].dtype == jnp.float32
    assert 0 < miss(got, transform(*args)) < floor
