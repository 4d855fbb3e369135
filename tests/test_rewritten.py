"""Programs rewritten: without loops, with relays, with gates at activation units."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import localgrad as lg
from functions import FUNCTIONS, Case, branches, calls, loops, randomness
from localgrad._jaxpr import known, made
from localgrad._network import Network
from localgrad._network.twins import twinned
from localgrad._network.units import gated
from models import MODELS
from oracle import TOLERANCE, assert_close, assert_equal, compiled, sampled

TABLE = FUNCTIONS | MODELS


def names(value):
    return value.name if isinstance(value, Case) else getattr(value, "__name__", value)


def rewriting(rewrite):
    """A transform: a function as the rewriting of its program."""

    def transform(f):
        def g(*args, **kwargs):
            leaves, structure = jax.tree.flatten((args, kwargs))
            arrays = [k for k, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]
            out = []

            def flat(*given):
                mixed = dict(enumerate(leaves)) | dict(zip(arrays, given, strict=True))
                args, kwargs = jax.tree.unflatten(structure, mixed.values())
                parts, tree = jax.tree.flatten(f(*args, **kwargs))
                is_array = [isinstance(part, jax.Array) for part in parts]
                out[:] = tree, [None if a else p for a, p in zip(is_array, parts, strict=True)]
                return [p for a, p in zip(is_array, parts, strict=True) if a]

            given = [leaves[k] for k in arrays]
            supply = iter(rewrite(flat, given)(*given))
            tree, parts = out
            return jax.tree.unflatten(tree, [next(supply) if p is None else p for p in parts])

        return g

    return transform


def followed(flat, given):
    """Without feedback weights nothing is changed."""
    return twinned(made(flat, given), ())


def cut(flat, given):
    """The network of a function, elementary; inputs that have a derivative are its leaves."""
    closed = made(flat, given)
    program = known(closed)
    leaves = [jnp.issubdtype(x.dtype, jnp.inexact) for x in given]
    flags = (*[False] * len(closed.consts), *leaves)
    return Network(program, flags, "elementary"), closed.consts


def unrolled(flat, given):
    network, consts = cut(flat, given)
    return lambda *inputs: network.unrolled.forward([*consts, *inputs])[0]


def levelled(flat, given):
    network, consts = cut(flat, given)
    return lambda *inputs: network.levelled.forward([*consts, *inputs])[0]


def check(row, dtype, rewrite):
    with jax.enable_x64(dtype == "float64"):
        call = row.call(dtype)

        def transform(f, **options):
            return jax.value_and_grad(rewriting(rewrite)(f), **options)

        got = compiled(transform, row, call)
        want = compiled(jax.value_and_grad, row, call)
        assert_close(got, want, TOLERANCE[row.precision or dtype])


# Programs that are run again ----------------------------------------------------------------------

NESTED = [
    *(row for theme in (loops, branches, calls, randomness) for row in vars(theme).values()),
    *(MODELS[name] for name in ("equinox_gru", "equinox_lstm", "flax_linen_recurrent")),
]
NESTED = {row.name: row for row in NESTED if isinstance(row, Case)}


@pytest.mark.rows(12)
@pytest.mark.parametrize(
    ("row", "dtype", "rewrite"),
    sampled(
        [
            (row, dtype, rewrite)
            for row in NESTED.values()
            for dtype in row.dtypes
            for rewrite in (levelled, unrolled, followed)
        ],
        every=13,
    ),
    ids=names,
)
def test_nested_programs(row, dtype, rewrite):
    check(row, dtype, rewrite)


@pytest.mark.rows(3)
@pytest.mark.parametrize(
    "row", sampled([row for row in TABLE.values() if row.name not in NESTED], every=13), ids=names
)
def test_straight_programs(row):
    check(row, row.dtypes[-1], levelled)


def residual(w, x):
    x, _ = lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, w)
    x = lax.cond(x[0, 0] > 0, lambda x: jnp.sin(x) + x, jnp.cos, x)
    return [jnp.sum(jax.nn.softmax(x)[:, 0])]


def test_no_edge_is_too_short_with_relays():
    """Levelled once more, nothing is added; every vertex has kept its name."""
    network, _ = cut(residual, [jnp.ones((3, 4, 4)), jnp.ones((2, 4))])
    assert network.needs_relays
    assert not network.levelled.needs_relays
    assert network.levelled.depth == network.depth
    vertices = jax.tree.leaves(network.levelled.vertices)
    plain = {v.name for v in vertices if not v.is_relay}
    assert plain == {v.name for v in jax.tree.leaves(network.vertices)}
    assert {v.name.removesuffix(".relays") for v in vertices} == plain


@pytest.mark.parametrize("flag", [True, False])
def test_effects_happen_in_the_branch_taken(flag):
    seen = []

    def f(x, flag):
        def say(name, x):
            jax.debug.callback(lambda _: seen.append(name), x)
            return jnp.sin(x)

        def loop(x):
            return lax.scan(lambda x, _: (say("loop", x), None), x, length=2)[0]

        return lax.cond(flag, loop, partial(say, "other"), x)

    for rule in (lg.ZIL(), lg.ZIL(clock=True), lg.InferenceLearning(steps=3)):
        seen.clear()
        lg.grad(f, rule=rule)(jnp.asarray(0.5), jnp.asarray(flag))
        jax.effects_barrier()
        assert seen == (["loop", "loop"] if flag else ["other"]), rule


@pytest.mark.parametrize("inside", ["value", "derivative"])
@pytest.mark.parametrize("rule", [lg.ZIL(clock=True), lg.FixedPrediction(steps=20, rate=1.0)])
def test_nothing_infinite_leaves_a_branch(inside, rule):
    bad = {"value": lambda x: x / 0.0, "derivative": jnp.sqrt}[inside]

    def f(x, index):
        step = lambda x: lax.switch(index, [bad, lambda x: x * 2.0, lambda x: bad(x - x)], x)  # noqa: E731
        return jnp.sum(lax.scan(lambda x, _: (step(x), None), x, length=3)[0])

    got = lg.grad(f, rule=rule)(jnp.asarray([0.0, 1.0]), jnp.asarray(1))
    assert_equal(got, jnp.asarray([8.0, 8.0]))


# Activation units ---------------------------------------------------------------------------------


@jax.jit
def mish(x):
    return x * jnp.tanh(jax.nn.softplus(x))


@jax.custom_jvp
def bent(x):
    return jnp.sin(x)


bent.defjvps(lambda g, _, x: 2.0 * g * jnp.cos(x))

ACTIVATIONS = {
    "tanh": jnp.tanh,
    "maximum": lambda x: jnp.maximum(x, 0),
    "where": lambda x: jnp.where(x > 0, x, 0.01 * x),
    "clip": lambda x: jnp.clip(x, -1, 1),
    "written out": lambda x: x / (1 + jnp.exp(-x)),
    "of the user's": mish,
    "custom derivative": bent,
    **{
        name: getattr(jax.nn, name)
        for name in ("gelu", "relu", "silu", "elu", "selu", "softplus", "leaky_relu", "sigmoid")
    },
    "exact gelu": partial(jax.nn.gelu, approximate=False),
}


def cross_entropy(out, y):
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(out) * y, -1))


def written_out(out, y):
    """Squashed outputs and a cross-entropy whose exponentials and logarithms are the user's own."""
    e = jnp.exp(jnp.tanh(out))
    return -jnp.mean(jnp.sum(y * jnp.log(e / jnp.sum(e, -1, keepdims=True)), -1))


def layers():
    draw = np.random.default_rng(0).standard_normal
    weights = [jnp.asarray(draw(shape)) for shape in ((5, 7), (7, 6), (6, 3))]
    return weights, jnp.asarray(draw((4, 5))), jnp.eye(3)[jnp.asarray([0, 2, 1, 1])]


def gates(loss, weights):
    """The gradient of a loss, with or without the derivatives of its units."""
    run = gated(made(lambda *w: [loss(*w)], weights), len(weights))
    positions = tuple(range(len(weights)))
    return lambda keep: jax.grad(lambda *w: run(*w, keep)[0], positions)(*weights)


@pytest.mark.rows(4)
@pytest.mark.parametrize("criterion", [cross_entropy, written_out], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_of_units(name, criterion):
    with jax.enable_x64(True):
        act, (weights, x, y) = ACTIVATIONS[name], layers()

        def loss(*weights):
            h = x
            for w in weights[:-1]:
                h = act(h @ w / 2.0) * 0.5
            return criterion(h @ weights[-1], y)

        gradient = gates(loss, weights)
        h1 = act(x @ weights[0] / 2.0) * 0.5
        h2 = act(h1 @ weights[1] / 2.0) * 0.5
        _, pull = jax.vjp(lambda h, w: criterion(h @ w, y), h2, weights[2])
        e2, last = pull(jnp.ones(()))
        e1 = e2 / 4 @ weights[1].T
        dropped = (x.T @ e1 / 4, h1.T @ e2 / 4, last)
        assert_close(gradient(jnp.asarray(False)), dropped, 1e-15)
        exact = jax.grad(loss, (0, 1, 2))(*weights)
        assert_close(gradient(jnp.asarray(True)), exact, 1e-15)


def test_units_in_a_scan_a_branch_and_a_checkpoint():
    with jax.enable_x64(True):
        (_, w, out), xs, _ = layers()
        w, xs = w[:5, :5], jnp.stack([xs, xs])

        def loss(act, w, out):
            @jax.checkpoint
            def step(h, x):
                return lax.cond(True, lambda h: act(h @ w + x), lambda h: h, h), None

            return jnp.sum((lax.scan(step, jnp.ones((4, 5)), xs)[0] @ out[:5]) ** 2)

        gradient = gates(partial(loss, jnp.tanh), (w, out))
        straight = jax.custom_vjp(jnp.tanh)
        straight.defvjp(lambda x: (jnp.tanh(x), None), lambda _, e: (e,))
        want = jax.grad(partial(loss, straight), (0, 1))(w, out)
        assert_close(gradient(jnp.asarray(False)), want, 1e-15)


def test_units_next_to_marks():
    """With marks, the square and the inverse root of a normalisation keep their derivatives."""
    with jax.enable_x64(True):
        weights, x, y = layers()

        def loss(act, *weights):
            h = x
            for w in weights[:-1]:
                h = h @ w
                h = (h - jnp.mean(h, -1, keepdims=True)) * lax.rsqrt(
                    jnp.var(h, -1, keepdims=True) + 1e-5
                )
                h = lg.vertex(act(h), "hidden")
            return cross_entropy(h @ weights[-1], y)

        straight = jax.custom_vjp(lambda x: jax.nn.gelu(x))
        straight.defvjp(lambda x: (jax.nn.gelu(x), None), lambda _, e: (e,))
        want = jax.grad(partial(loss, straight), (0, 1, 2))(*weights)
        got = gates(partial(loss, jax.nn.gelu), weights)(jnp.asarray(False))
        assert_close(got, want, 1e-14)


def test_units_are_the_same_whoever_wrote_them():
    """A function of JAX counts as its equations do; a softmax has a unit, its exponential."""

    @jax.jit
    def softmax(x):
        e = jnp.exp(x - lax.stop_gradient(jnp.max(x, -1, keepdims=True)))
        return e / jnp.sum(e, -1, keepdims=True)

    with jax.enable_x64(True):
        weights, x, y = layers()

        def loss(squash, *weights):
            return cross_entropy(squash(squash(x @ weights[0]) @ weights[1]) @ weights[2], y)

        for keep in (True, False):
            both = [
                gates(partial(loss, squash), weights)(jnp.asarray(keep))
                for squash in (softmax, jax.nn.softmax)
            ]
            assert_close(*both, 1e-14)
        exact = jax.grad(partial(loss, softmax), (0, 1, 2))(*weights)
        assert not np.allclose(both[0][0], exact[0], rtol=0.1)


def test_messages_without_and_updates_with_derivatives():
    """One program serves both: errors travel without f', parameters learn with it or without."""
    with jax.enable_x64(True):
        weights, x, y = layers()

        def values(w1, w2, w3, tap1, tap2):
            h1 = lg.vertex(jnp.tanh(x @ w1), "h1")
            h2 = lg.vertex(jnp.tanh((h1 + tap1) @ w2), "h2")
            return [cross_entropy((h2 + tap2) @ w3, y), h1, h2]

        inputs = [*weights, jnp.zeros((4, 7)), jnp.zeros((4, 6))]
        run = gated(made(values, inputs), len(inputs))

        def pull(keep, *errors):
            return jax.vjp(lambda *inputs: run(*inputs, jnp.asarray(keep)), *inputs)[1]([*errors])

        *_, last, e1, e2 = pull(False, jnp.ones(()), *map(jnp.zeros_like, inputs[3:]))
        h1 = jnp.tanh(x @ weights[0])
        h2 = jnp.tanh(h1 @ weights[1])
        b2, b3 = jax.vjp(lambda h, w: cross_entropy(h @ w, y), h2, weights[2])[1](jnp.ones(()))
        b1 = b2 @ weights[1].T
        assert_close((e1, e2, last), (b1, b2, b3), 1e-15)
        for keep, slopes in ((True, (1 - h1**2, 1 - h2**2)), (False, (1.0, 1.0))):
            g1, *_ = pull(keep, jnp.zeros(()), e1, jnp.zeros_like(e2))
            _, g2, *_ = pull(keep, jnp.zeros(()), jnp.zeros_like(e1), e2)
            assert_close((g1, g2), (x.T @ (b1 * slopes[0]), h1.T @ (b2 * slopes[1])), 1e-15)


# All at once --------------------------------------------------------------------------------------


def test_twins_and_units_in_loops():
    """The inputs are the leaves, the gate, the twins."""
    with jax.enable_x64(True):
        (_, w, out), x, _ = layers()
        w, psi = w[:5, :5], jnp.flip(w[:5, :5])

        def loss(product, act, w, out):
            def step(h, _):
                return lax.cond(True, lambda h: act(product(h, w)), lambda h: h, h), None

            return jnp.sum((lax.scan(step, jnp.tanh(x), length=3)[0] @ out[:5]) ** 2)

        def matmul(h, w):
            return h @ w

        crossed = jax.custom_vjp(matmul)
        crossed.defvjp(lambda h, w: (h @ w, h), lambda h, e: (e @ psi.T, h.T @ e))
        straight = jax.custom_vjp(jnp.tanh)
        straight.defvjp(lambda x: (jnp.tanh(x), None), lambda _, e: (e,))
        program = made(lambda w, out: [loss(matmul, jnp.tanh, w, out)], (w, out))
        gate = jnp.asarray(True)
        program = made(gated(program, 2), (w, out, gate))
        run = twinned(program, [True, False])
        for keep, act in ((True, jnp.tanh), (False, straight)):
            got = jax.grad(lambda *a: run(*a)[0], (0, 1))(w, out, jnp.asarray(keep), psi)
            assert_close(got, jax.grad(partial(loss, crossed, act), (0, 1))(w, out), 1e-15)
