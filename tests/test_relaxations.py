"""Activation relaxation and fixed prediction: one linear recursion, and what follows from it."""

import math
from itertools import pairwise
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import localgrad as lg
from localgrad._rules.relaxation import Unfrozen
from simulated import Simulated

RELAXATIONS = [lg.ActivationRelaxation, lg.FixedPrediction]
named = pytest.mark.parametrize("relaxation", RELAXATIONS, ids=lambda cls: cls.name)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


# Networks, marked, and their relaxation written out by hand ---------------------------------------


def draw(sizes=(5, 7, 6, 6, 3), batch=4, seed=0, scale=1.0):
    generator = np.random.default_rng(seed)
    weights = [
        jnp.asarray(scale * generator.standard_normal((a, b)) / np.sqrt(a))
        for a, b in pairwise(sizes)
    ]
    x = jnp.asarray(generator.standard_normal((batch, sizes[0])))
    return weights, x, jnp.asarray(generator.standard_normal((batch, sizes[-1])))


def chain(f):
    """A loss: hidden activities are vertices, the loss's gradient is clamped at the output."""

    def loss(weights, x, y):
        for number, w in enumerate(weights[:-1]):
            x = lg.vertex(f(x @ w), f"x{number}")
        return jnp.sum((x @ weights[-1] - y) ** 2)

    return loss


TANH, RELU = chain(jnp.tanh), chain(jax.nn.relu)


def skips(weights, x, y):
    """Around each hidden layer but the first leads a skip; weights are used many times."""
    x = lg.vertex(jnp.tanh(x @ weights[0]), "x0")
    for number in range(3):
        h = lg.vertex(jnp.tanh(x @ weights[1]) * jnp.sin(x @ weights[2]), f"h{number}")
        x = lg.vertex(x + h, f"x{number + 1}")
    return jnp.sum((x @ weights[-1] - y) ** 2)


def by_hand(weights, x, y, rate, steps, starts_at_zero=True, top_down=False):
    """The units of `RELU` after 0, 1, .. steps, and the parameters' gradients at the end.

    Plain numpy: stored activities and masks, transposed products, convex combinations.
    """
    weights, xs = [np.asarray(w) for w in weights], [np.asarray(x)]
    for w in weights[:-1]:
        xs.append(np.maximum(xs[-1] @ w, 0))
    top = 2 * (xs[-1] @ weights[-1] - np.asarray(y))
    masks = [x > 0 for x in xs[1:]]

    units = [0 * x if starts_at_zero else x for x in xs[1:]]
    course = [units]
    for _ in range(steps):
        new = list(units)
        for k in reversed(range(len(units))):
            above = new if top_down else units
            drive = top if k == len(units) - 1 else above[k + 1] * masks[k + 1]
            new[k] = (1 - rate) * units[k] + rate * drive @ weights[k + 1].T
        units = new
        course.append(units)
    signals = [unit * mask for unit, mask in zip(units, masks, strict=True)] + [top]
    gradients = [x.T @ signal for x, signal in zip(xs, signals, strict=True)]
    return [np.stack(states) for states in zip(*course, strict=True)], gradients


def watched(f, args, rule, steps):
    """The units after 0, 1, .. steps, one array per vertex, by the dynamics themselves."""
    simulation = Simulated(f, args, rule)
    (states,) = simulation.course(steps, simulation.neurons)
    return states


def learned(f, args, rule):
    return jax.jit(lg.grad(f, rule=rule))(*args)


def miss(got, want):
    """The worst leaf's ``max |got - want| / max |want|``."""
    return max(
        float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    )


def angle(a, b):
    """Between two arrays, in degrees."""
    a, b = np.ravel(a).astype(float), np.ravel(b).astype(float)
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return math.degrees(math.acos(min(1.0, cosine)))


def arrived(t, rate, k):
    """The probability of at least k successes in t trials."""
    return 1 - sum(math.comb(t, j) * rate**j * (1 - rate) ** (t - j) for j in range(k))


# The recursion ------------------------------------------------------------------------------------


@pytest.mark.rows(6)
@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0, 1.7])
@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (lg.FixedPrediction, {}),
        (lg.ActivationRelaxation, {}),
        (lg.ActivationRelaxation, {"start": "activity"}),
        (lg.ActivationRelaxation, {"schedule": "top-down"}),
        (lg.ActivationRelaxation, {"schedule": "top-down", "start": "activity"}),
    ],
    ids=lambda value: value.name if isinstance(value, type) else "-".join(value.values()),
)
def test_units_and_gradients_are_those_of_the_recursion(rule, options, rate):
    args = draw()
    states, gradients = by_hand(
        *args,
        rate,
        steps=9,
        starts_at_zero="start" not in options,
        top_down="schedule" in options,
    )
    rule = rule(steps=9, rate=rate, **options)
    for got, want in zip(watched(RELU, args, rule, steps=9), states, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * np.max(np.abs(states[-1])))
    assert miss(learned(RELU, args, rule), gradients) < 1e-13


@pytest.mark.rows(2)
@pytest.mark.parametrize("f", [TANH, RELU, skips], ids=["tanh", "relu", "skips"])
@pytest.mark.parametrize("rate", [0.2, 1.3])
def test_activation_relaxation_is_fixed_prediction(f, rate):
    """From a zero start, at every rate, at every step: one rule under two names."""
    args = draw((5, 6, 6, 6, 3))
    relaxing = watched(f, args, lg.ActivationRelaxation(rate=rate), steps=25)
    predicting = watched(f, args, lg.FixedPrediction(rate=rate), steps=25)
    for a, e in zip(relaxing, predicting, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-13 * np.max(np.abs(a)))
    gradients = [learned(f, args, rule(steps=25, rate=rate)) for rule in RELAXATIONS]
    assert miss(*gradients) < 1e-13


@pytest.mark.rows(4)
@named
@pytest.mark.parametrize("f", [TANH, RELU, skips], ids=["tanh", "relu", "skips"])
@pytest.mark.parametrize("rate", [0.5, 1.5])
def test_at_rest_it_is_backpropagation(relaxation, f, rate):
    args = draw((5, 6, 6, 6, 3))
    got = learned(f, args, relaxation(steps=120, rate=rate))
    assert miss(got, jax.grad(f)(*args)) < 1e-13


@named
def test_the_nudge_cancels(relaxation):
    """A linear recursion: thousandfold errors, the same gradients at every time."""
    args = draw()
    one, many = (learned(RELU, args, relaxation(steps=6, nudge=nudge)) for nudge in (1.0, 1e3))
    assert miss(one, many) < 1e-13


# Time ---------------------------------------------------------------------------------------------


@pytest.mark.rows(2)
@named
@pytest.mark.parametrize(
    ("f", "depth"), [(TANH, 4), (skips, 8)], ids=["four layers", "three skips around layers"]
)
def test_rate_one_is_exact_after_the_longest_path(relaxation, f, depth):
    """``depth`` edges from the data to the loss: parameters need one sweep less, and not fewer."""
    args = draw((5, 6, 6, 6, 3))
    want = jax.grad(f)(*args)
    gradients = [learned(f, args, relaxation(steps=depth - k, rate=1.0)) for k in (1, 2)]
    assert miss(gradients[0], want) < 1e-14
    assert miss(gradients[1], want) > 0.01


@pytest.mark.parametrize("f", [TANH, RELU, skips], ids=["tanh", "relu", "skips"])
def test_top_down_at_rate_one_is_backpropagation_in_one_sweep(f):
    args = draw((5, 6, 6, 6, 3))
    rule = lg.ActivationRelaxation(steps=1, rate=1.0, schedule="top-down")
    assert miss(learned(f, args, rule), jax.grad(f)(*args)) < 1e-14


@pytest.mark.rows(3)
@named
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 1.4])
def test_a_chain_delivers_binomially(relaxation, rate):
    """At distance k from the output: P[Binomial(t, rate) >= k] times the gradient, exactly."""
    weights, x, y = args = draw((4,) * 8)
    probes = [jnp.zeros((len(x), 4))] * 6

    def probed(probes):
        h = x
        for w, probe in zip(weights, probes, strict=False):
            h = jnp.tanh(h @ w) + probe
        return jnp.sum((h @ weights[-1] - y) ** 2)

    states = watched(TANH, args, relaxation(rate=rate), steps=30)
    for k, state, gradient in zip(range(6, 0, -1), states, jax.grad(probed)(probes), strict=True):
        for t in range(31):
            share = arrived(t, rate, k)
            scale = np.max(np.abs(gradient)) * max(1.0, abs(share))
            np.testing.assert_allclose(state[t], share * gradient, rtol=0, atol=1e-12 * scale)


def deep(weights, x):
    """A chain of any number of equal layers; the loss is a weighted sum of the last one's units."""
    body, last = weights

    def layer(x, w):
        return lg.vertex(jnp.tanh(x @ w), "x"), None

    return jnp.sum(lax.scan(layer, x, body)[0] @ last)


def delivered(depth, rates, steps):
    """The first hidden layer's share of its gradient, over time; one row for each rate.

    The share is that of the unit with the largest gradient. There are ``depth`` layers in all.
    """
    generator = np.random.default_rng(depth)
    body = jnp.asarray(generator.standard_normal((depth - 1, 3, 3)) / np.sqrt(3) + np.eye(3))
    args = (body, jnp.asarray(generator.standard_normal(3))), jnp.ones(3)

    def rest(x):
        for w in body[1:]:
            x = jnp.tanh(x @ w)
        return jnp.sum(x @ args[0][1])

    want = jax.grad(rest)(jnp.tanh(args[1] @ body[0]))
    largest = int(jnp.argmax(jnp.abs(want)))

    @jax.jit
    def share(rates):
        rule = lg.ActivationRelaxation
        states = jax.vmap(lambda rate: watched(deep, args, rule(rate=rate), steps)[0])(rates)
        return states[:, :, 0, largest] / want[largest]

    return np.asarray(share(jnp.asarray(rates)))


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    ("depth", "counts"),
    [(2, (132, 20)), (4, (183, 29)), (8, (263, 43)), (16, (397, 67)), (32, (632, 111))],
)
def test_sweeps_to_one_millionth(depth, counts):
    """Before all but a millionth is there: so many sweeps at rate .1, so many at .5."""
    shares = delivered(depth, (0.1, 0.5), counts[0])
    missing = np.abs(1 - shares)
    assert tuple(np.argmax(row <= 1e-6) for row in missing) == counts


def test_rates_that_converge():
    """Every rate below 2 does, none above; up to 1 without overshoot, above 1 without gain."""
    rates = (0.3, 1.0, 1.2, 1.9, 2.05)
    shares = delivered(7, rates, 600)
    missing = np.abs(1 - shares)
    assert np.all(missing[:4, -1] < 1e-9)
    assert missing[4, -1] > 1e10
    for row in shares[:2]:
        assert np.all(np.diff(row) >= -1e-14)
        assert np.all((row >= 0) & (row <= 1 + 1e-14))
    assert np.max(shares[2]) > 1.5
    assert np.max(np.abs(shares[3])) == pytest.approx(5e5, rel=0.2)  # on the way to the same result
    settled = [np.nonzero(row > 1e-6)[0][-1] + 1 for row in missing[1:4]]
    assert settled[0] == 6
    assert settled[0] < settled[1] < settled[2]


# The current activity in the place of the stored one ----------------------------------------------


def unfrozen_by_hand(weights, x, y, where, steps, rate):
    """The gradients of `TANH`, in plain numpy; the output's error is computed once."""
    weights, x = [np.asarray(w) for w in weights], np.asarray(x)
    stored = [x]
    for w in weights[:-1]:
        stored.append(np.tanh(stored[-1] @ w))
    top = 2 * (stored[-1] @ weights[-1] - np.asarray(y))

    def slope(k, activities):
        return 1 - np.tanh(activities[k] @ weights[k]) ** 2

    units = stored[1:]
    for _ in range(steps):
        now = [x, *units] if where in ("relaxation", "both") else stored
        sent = [slope(k, now) * units[k] for k in range(1, len(units))] + [top]
        units = [
            (1 - rate) * unit + rate * e @ w.T
            for unit, e, w in zip(units, sent, weights[1:], strict=True)
        ]
    bent = [x, *units] if where in ("parameters", "both") else stored
    read = [x, *units] if where == "activity" else stored
    errors = [slope(k, bent) * unit for k, unit in enumerate(units)] + [top]
    return [a.T @ e for a, e in zip(read, errors, strict=True)]


@pytest.mark.parametrize("where", get_args(Unfrozen))
def test_unfrozen_by_hand(where):
    args = draw()
    rule = lg.ActivationRelaxation(steps=20, rate=0.5, start="activity", unfrozen=where)
    want = unfrozen_by_hand(*args, where, 20, 0.5)
    assert miss(learned(TANH, args, rule), want) < 1e-14


# Direction ----------------------------------------------------------------------------------------


@named
def test_on_a_chain_the_direction_is_right_at_all_times(relaxation):
    """From a zero start every layer's update is a positive multiple of backpropagation's."""
    args = draw()
    got = learned(RELU, args, relaxation(steps=4, rate=0.1))
    for layer, (a, b) in enumerate(zip(got, jax.grad(RELU)(*args), strict=True)):
        share = arrived(4, 0.1, 3 - layer)
        np.testing.assert_allclose(a, share * b, rtol=0, atol=1e-13 * np.max(np.abs(b)))


def test_skips_spoil_the_direction_and_levels_restore_it():
    """Short paths arrive first; with relays every path from a vertex is as long as its level."""
    args = draw((5, 6, 6, 6, 3))
    want = jax.grad(skips)(*args)

    def first(steps, **options):
        return learned(skips, args, lg.ActivationRelaxation(steps, 0.2, **options))[0]

    assert angle(first(6), want[0]) > 3
    assert angle(first(150), want[0]) < 1e-5
    levelled, share = first(8, levelled=True), arrived(8, 0.2, 7)
    np.testing.assert_allclose(levelled, share * want[0], rtol=0, atol=1e-13)


@pytest.fixture(scope="module")
def published():
    """784-300-300-100-10, ReLU, N(0, .05^2), 64 images in which a fifth of the pixels is lit."""
    generator = np.random.default_rng(1)
    sizes = (784, 300, 300, 100, 10)
    weights = [0.05 * generator.standard_normal(s) for s in pairwise(sizes)]
    x = generator.random((64, 784)) * (generator.random((64, 784)) < 0.2)
    return weights, x, np.eye(10)[generator.integers(0, 10, 64)]


@pytest.mark.long
@pytest.mark.parametrize(
    ("sweeps", "degrees", "give"), [(100, 0.4, 0.3), (50, 36, 12), (20, 86, 8)]
)
def test_angle_of_the_published_start(published, sweeps, degrees, give):
    """Units that begin at their activities; the angle to backpropagation at the first layer."""
    args = jax.tree.map(jnp.asarray, published)
    want = jax.grad(RELU)(*args)[0]
    rule = lg.ActivationRelaxation(steps=sweeps, rate=0.1, start="activity")
    got = learned(RELU, args, rule)[0]
    _, by_numpy = by_hand(*published, 0.1, sweeps, starts_at_zero=False)
    np.testing.assert_allclose(got, by_numpy[0], rtol=0, atol=1e-12 * np.max(np.abs(got)))
    assert angle(got, want) == pytest.approx(degrees, abs=give)
    zero = learned(RELU, args, lg.ActivationRelaxation(steps=sweeps, rate=0.1))[0]
    assert angle(zero, want) < 1e-4


# Numerical care -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    "rule",
    [
        lg.FixedPrediction(400, 0.1),
        lg.ActivationRelaxation(400, 0.1),
        lg.ActivationRelaxation(400, 0.1, start="activity"),
    ],
    ids=["fixed-prediction", "ar", "ar-activity"],
)
def test_small_gradients_in_float32(rule):
    """Gradients of 1e-6 beside activities of 1: the convex form keeps their digits."""
    args = draw()

    def small(weights, x, y):
        return 1e-6 * TANH(weights, x, y)

    want = jax.grad(small)(*args)
    assert np.max(np.abs(want[0])) < 1e-4
    got = learned(small, jax.tree.map(lambda x: x.astype(jnp.float32), args), rule)
    assert miss(got, want) < 2e-6
