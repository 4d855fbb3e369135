"""A scan as a stack of its iterations: the dynamics of the loop written out by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import localgrad as lg
from simulated import Simulated

RULES = {
    "il": lg.InferenceLearning(steps=6, rate=0.3, nudge=2.0),
    "fixed-prediction": lg.FixedPrediction(steps=6, rate=0.4),
    "ar": lg.ActivationRelaxation(steps=6, rate=0.4, start="activity"),
    "ar, derivatives of then": lg.ActivationRelaxation(steps=6, rate=0.4, unfrozen="both"),
    "ar, activity of then": lg.ActivationRelaxation(steps=6, rate=0.4, unfrozen="activity"),
    "zil-clock": lg.ZIL(clock=True),
}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def unrolled(f, init, xs=None, length=None, reverse=False):
    """What `lax.scan` computes, as a Python loop."""
    if xs is not None:
        length = len(jax.tree.leaves(xs)[0])
    carry, ys = init, []
    for k in reversed(range(length)) if reverse else range(length):
        carry, y = f(carry, jax.tree.map(lambda x, k=k: x[k], xs))
        ys.append(y)
    if reverse:
        ys.reverse()
    return carry, jax.tree.map(lambda *ys: jnp.stack(ys), *ys) if ys else None


# Functions of parameters, with their loop handed in -----------------------------------------------


def recurrent(scan, p):
    """Constants and inputs depend on vertices outside; ends and outputs are both used."""
    u, xs = lg.vertex(2 * p["u"], "u"), lg.vertex(jnp.sin(p["xs"]), "xs")

    def step(h, x):
        h = jnp.tanh(lg.vertex(h @ u + x @ p["w"], "h"))
        return h, h * x[:, :1]

    h, ys = scan(step, jnp.ones((2, 3)), xs)
    return jnp.sum(h**2) + jnp.mean(jnp.sin(ys) * jnp.arange(4)[:, None, None])


def backwards(scan, p):
    def step(h, x):
        h = lg.vertex(jnp.tanh(h @ p["u"] + x @ p["w"]), "h")
        return h, h + x

    h, ys = scan(step, p["xs"][0], p["xs"], reverse=True)
    return jnp.sum(h**2) + jnp.sum(jnp.cos(ys) ** 2)


def layers(scan, p):
    """The weights stacked on an axis; two vertices in each layer, the second read by a skip."""

    def layer(x, w):
        h = lg.vertex(jnp.tanh(x @ w), "h")
        return lg.vertex(x + jnp.sin(h @ w), "x"), jnp.sum(h)

    x, sums = scan(layer, p["xs"][0], p["ws"])
    return jnp.sum(x**2) + jnp.sum(jnp.cos(sums))


def nested(scan, p):
    def outer(h, x):
        def inner(h, w):
            h = lg.vertex(jnp.tanh(h @ w + x), "h")
            return h, jnp.sum(h * x)

        h, sums = scan(inner, h, p["ws"])
        return lg.vertex(h * jnp.exp(-x), "out"), sums

    h, sums = scan(outer, p["xs"][0], p["xs"])
    return jnp.sum(h**2) + jnp.sum(jnp.sin(sums))


def counted(scan, p):
    """A counter and a random key among the carries; neither depends on a vertex."""

    def step(carry, _):
        i, key, h = carry
        key, now = jax.random.split(key)
        noise = jax.random.normal(now, h.shape, h.dtype)
        h = lg.vertex(jnp.tanh(h @ p["u"]) * (i + 1) + 0.1 * noise, "h")
        return (i + 1, key, h), None

    (_, _, h), _ = scan(step, (0, jax.random.key(0), p["xs"][0]), None, 4)
    return jnp.sum(h**2)


def delayed(scan, p):
    """The second carry is the first of one step ago, the third that of two: a delay line."""

    def step(carry, x):
        a, b, c = carry
        a, b, c = lg.vertex(jnp.tanh(a @ p["u"] + c * x), "a"), a, b
        return (a, b, c), b * x

    (a, b, c), ys = scan(step, (p["xs"][0], p["xs"][1], jnp.ones((2, 3))), p["xs"])
    return jnp.sum(a * b) + jnp.sum(c**2) + jnp.sum(ys**2)


def gated(scan, p):
    """An LSTM with only its output marked: the cell's errors pass all iterations at once."""

    def step(carry, x):
        c, h = carry
        z = h @ p["u"] + x
        c = c * jax.nn.sigmoid(z) + jnp.tanh(z @ p["w"])
        h = lg.vertex(jnp.tanh(c) * jax.nn.sigmoid(z), "h")
        return (c, h), h

    (c, h), ys = scan(step, (p["xs"][0], jnp.ones((2, 3))), p["xs"])
    return jnp.sum(c * h) + jnp.sum(ys**2)


def summed(scan, p):
    """A running sum of vertices: no vertex between two of its values."""

    def step(carry, x):
        total, h = carry
        h = lg.vertex(jnp.tanh(h @ p["u"] + x), "h")
        return (total + h**2, h), None

    (total, h), _ = scan(step, (p["xs"][0], p["xs"][1]), p["xs"])
    return jnp.sum(jnp.sin(total)) + jnp.sum(h)


def unmarked_inside(scan, p):
    """No vertex in the loop, one before and one after it."""
    x = lg.vertex(p["xs"][0] * p["xs"][1], "x")
    x, ys = scan(lambda x, w: (jnp.tanh(x @ w), x), x, p["ws"])
    return jnp.sum(lg.vertex(jnp.sin(x) + ys[1], "y") ** 2)


def rotated(scan, p):
    """Two carries that change places."""

    def step(carry, x):
        a, b = carry
        return (b, lg.vertex(jnp.sin(a @ p["u"]) + x, "b")), None

    (a, b), _ = scan(step, (p["xs"][0], p["xs"][1]), p["xs"])
    return jnp.sum(a * jnp.cos(b))


def once(scan, p):
    return recurrent_of_length(scan, p, 1)


def never(scan, p):
    return recurrent_of_length(scan, p, 0)


def recurrent_of_length(scan, p, length):
    def step(h, _):
        return lg.vertex(jnp.tanh(h @ p["u"]), "h"), None

    h, _ = scan(step, lg.vertex(jnp.sin(p["xs"][0]), "x"), None, length)
    return jnp.sum(h**2)


FUNCTIONS = [
    recurrent,
    backwards,
    layers,
    nested,
    counted,
    delayed,
    gated,
    summed,
    unmarked_inside,
    rotated,
    once,
    never,
]


def parameters():
    generator = np.random.default_rng(0)
    shapes = {"u": (3, 3), "w": (3, 3), "ws": (3, 3, 3), "xs": (4, 2, 3)}
    return {k: jnp.asarray(0.6 * generator.standard_normal(s)) for k, s in shapes.items()}


def course(f, p, rule, vertices):
    """All numbers that the neurons hold after 0, 1, .. steps, in order of size; the gradient."""
    simulation = Simulated(f, (p,), rule, vertices)
    (seen,) = simulation.course(len(simulation.nudges) - 1, simulation.neurons)
    numbers = [x.reshape(len(x), -1) for x in jax.tree.leaves(seen)]
    return jnp.sort(jnp.concatenate(numbers, axis=1)), simulation.outcome().gradients


# All with inference learning, which asks the most of the network; the others in turns.
TABLE = [("il", vertices, f) for vertices in ("marked", "elementary") for f in FUNCTIONS]
TABLE += [("fixed-prediction", "marked", f) for f in FUNCTIONS[1::3]]
TABLE += [("ar", "marked", f) for f in FUNCTIONS[::3]]
TABLE += [("zil-clock", "marked", f) for f in (recurrent, backwards, nested, rotated, once)]


@pytest.mark.rows(4)
@pytest.mark.parametrize(
    ("name", "vertices", "f"), TABLE, ids=lambda value: getattr(value, "__name__", value)
)
def test_stacked_is_unrolled(name, vertices, f):
    """Every number in the network, at every step, and the gradient that comes of it."""
    rule, p = RULES[name], parameters()

    @jax.jit
    def both(p):
        scans = (lax.scan, unrolled)
        return [course(partial(f, scan), p, rule, vertices) for scan in scans]

    (stacked, gradients), (by_hand, expected) = both(p)
    assert stacked.shape == by_hand.shape
    np.testing.assert_allclose(stacked, by_hand, rtol=0, atol=1e-13 * np.max(np.abs(by_hand)))
    largest = max(np.max(np.abs(want)) for want in expected)  # others may not have heard yet
    for got, want in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * largest)


@pytest.mark.rows(2)
@pytest.mark.parametrize("f", [layers, gated, summed, delayed], ids=lambda f: f.__name__)
def test_stacked_is_exact(f):
    """Enough steps at rate 1: backpropagation, through scans."""
    rule = lg.FixedPrediction(steps=40, rate=1.0)
    got = jax.jit(lg.grad(lambda p: f(lax.scan, p), rule=rule))(parameters())
    want = jax.grad(lambda p: f(lax.scan, p))(parameters())
    for name, leaf in want.items():
        np.testing.assert_allclose(got[name], leaf, rtol=0, atol=1e-13 * np.max(np.abs(leaf)))
