"""``Synapses``: messages on weights of their own, against feedback alignment written by hand."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import localgrad as lg
from oracle import TOLERANCE, assert_close, assert_equal

F64 = TOLERANCE["float64"]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


class Draw:
    """Normal numbers, reproducible."""

    def __init__(self, seed=0):
        self._generator = np.random.default_rng(seed)

    def __call__(self, *shape):
        return jnp.asarray(self._generator.standard_normal(shape))


def crossed(product):
    """A product of an activity and a weight whose message to the activity is at ``psi``."""

    @jax.custom_vjp
    def f(x, w, psi):
        return product(x, w)

    def backward(kept, e):
        x, w, psi = kept
        return jax.vjp(product, x, psi)[1](e)[0], jax.vjp(product, x, w)[1](e)[1], None

    f.defvjp(lambda x, w, psi: (product(x, w), (x, w, psi)), backward)
    return f


def matmul(x, w):
    return x @ w


def scale(x, g):
    return x * g


def convolve(x, w):
    return lax.conv_general_dilated(
        x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


# Models, once with products of (activity, weight), once with products of (activity, weight, psi).
# ``psi`` is any tree of the parameters; without feedback weights it is the parameters themselves.


def perceptron(draw):
    params = {"w": [draw(5, 7), draw(7, 6), draw(6, 3)], "b": [draw(7), draw(6), draw(3)]}

    def loss(params, x, y, psi=None, mul=None):
        psi, mul = psi or params, mul or (lambda x, w, psi: x @ w)
        for k, (w, b) in enumerate(zip(params["w"], params["b"], strict=True)):
            x = mul(x, w, psi["w"][k]) + b
            x = jnp.tanh(x) if k < 2 else x
        return jnp.mean((x - y) ** 2)

    return loss, params, (draw(4, 5), draw(4, 3)), {"mul": crossed(matmul)}


def deep_linear(draw):
    params = [draw(5, 4), draw(4, 6), draw(6, 6), draw(6, 2)]

    def loss(params, x, y, psi=None, mul=None):
        psi, mul = psi or params, mul or (lambda x, w, psi: x @ w)
        for w, p in zip(params, psi, strict=True):
            x = mul(x, w, p)
        return jnp.sum((x - y) ** 2)

    return loss, params, (draw(3, 5), draw(3, 2)), {"mul": crossed(matmul)}


def convolutional(draw):
    params = {"c1": draw(3, 3, 2, 4), "c2": draw(3, 3, 4, 5), "out": draw(20, 3), "b": draw(4)}

    def loss(params, x, y, psi=None, mul=None, conv=None):
        psi = psi or params
        mul, conv = mul or (lambda x, w, psi: x @ w), conv or (lambda x, w, psi: convolve(x, w))
        x = jax.nn.relu(conv(x, params["c1"], psi["c1"]) + params["b"])
        x = jax.nn.relu(conv(x, params["c2"], psi["c2"]))
        x = mul(x.reshape(x.shape[0], -1), params["out"], psi["out"])
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(x) * y, -1))

    data = draw(2, 8, 8, 2), jax.nn.one_hot(jnp.asarray([0, 2]), 3)
    return loss, params, data, {"mul": crossed(matmul), "conv": crossed(convolve)}


def recurrent(draw):
    params = {"u": draw(3, 6), "w": draw(6, 6), "b": draw(6), "out": draw(6, 2)}

    def loss(params, xs, ys, psi=None, mul=None):
        psi, mul = psi or params, mul or (lambda x, w, psi: x @ w)

        def step(h, x):
            h = jnp.tanh(x @ params["u"] + mul(h, params["w"], psi["w"]) + params["b"])
            return h, mul(h, params["out"], psi["out"])

        _, out = lax.scan(step, jnp.zeros((4, 6)), xs)
        return jnp.mean((out - ys) ** 2)

    return loss, params, (draw(7, 4, 3), draw(7, 4, 2)), {"mul": crossed(matmul)}


def layers_in_a_scan(draw):
    params = {"w": draw(4, 5, 5), "g": 1 + 0.1 * draw(4, 5)}

    def loss(params, x, psi=None, mul=None, gain=None):
        psi, mul = psi or params, mul or (lambda x, w, psi: x @ w)
        gain = gain or (lambda x, g, psi: x * g)

        @jax.checkpoint
        def layer(x, layers):
            layer, psi = layers
            x = gain(jnp.tanh(mul(x, layer["w"], psi["w"])), layer["g"], psi["g"])
            return x, None

        return jnp.sum(lax.scan(layer, x, (params, psi))[0] ** 2)

    return loss, params, (draw(3, 5),), {"mul": crossed(matmul), "gain": crossed(scale)}


def transformer(draw):
    """Embedded tokens, a fused product for queries, keys and values, and tied output weights."""
    params = {
        "embedding": draw(11, 6),
        "positions": draw(5, 6),
        "norm": 1 + 0.1 * draw(6),
        "qkv": draw(6, 18),
        "out": draw(6, 6),
        "mlp": [draw(6, 12), draw(12, 6)],
    }

    def loss(params, tokens, psi=None, mul=None, gain=None):
        psi, mul = psi or params, mul or (lambda x, w, psi: x @ w)
        gain = gain or (lambda x, g, psi: x * g)

        def norm(h):
            h = (h - jnp.mean(h, -1, keepdims=True)) * lax.rsqrt(
                jnp.var(h, -1, keepdims=True) + 1e-5
            )
            return gain(h, params["norm"], psi["norm"])

        h = params["embedding"][tokens] + params["positions"]
        q, k, v = jnp.split(mul(norm(h), params["qkv"], psi["qkv"]), 3, -1)
        scores = jnp.where(jnp.tri(5, dtype=bool), q @ k.swapaxes(-1, -2) / 6**0.5, -jnp.inf)
        h = h + mul(jax.nn.softmax(scores) @ v, params["out"], psi["out"])
        up, down = params["mlp"]
        h = h + mul(jax.nn.gelu(mul(norm(h), up, psi["mlp"][0])), down, psi["mlp"][1])
        logits = mul(h, params["embedding"].T, psi["embedding"].T)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], -1))

    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 11, (3, 5)))
    return loss, params, (tokens,), {"mul": crossed(matmul), "gain": crossed(scale)}


def heads_cut_from_one_weight(draw):
    """Weights that reach their products through slices, reshapes, masks, casts and branches."""
    params = {"fused": draw(4, 24), "square": draw(4, 4), "stack": draw(3, 4, 4)}

    def loss(params, x, flag, psi=None, mul=None):
        psi, mul = psi or params, mul or (lambda x, w, psi: x @ w)
        mask = jnp.asarray(np.random.default_rng(1).random((4, 4)) < 0.5)
        x = jnp.tanh(x)

        def part(tree, k):
            return jnp.moveaxis(tree["fused"].reshape(4, 6, 4), 1, 0)[k] / 2.0

        x = jnp.tanh(mul(x, part(params, 0), part(psi, 0)))
        x = jnp.tanh(
            mul(x, jnp.where(mask, params["square"], 0), jnp.where(mask, psi["square"], 0))
        )
        x = jnp.tanh(mul(x, params["square"].T * mask, psi["square"].T * mask))
        x = lax.fori_loop(
            0, 3, lambda i, x: jnp.sin(mul(x, params["stack"][i], psi["stack"][i])), x
        )
        w, p = lax.cond(
            flag,
            lambda a, b: (a[0], b[0]),
            lambda a, b: (a[1].T, b[1].T),
            params["stack"],
            psi["stack"],
        )
        x = lax.cond(flag, lambda: jnp.tanh(mul(x, w, p)), lambda: jnp.sin(x))
        return jnp.sum(mul(x, part(params, 3), part(psi, 3)) ** 2)

    return loss, params, (draw(3, 4), jnp.asarray(True)), {"mul": crossed(matmul)}


MODELS = (
    perceptron,
    deep_linear,
    convolutional,
    recurrent,
    layers_in_a_scan,
    transformer,
    heads_cut_from_one_weight,
)
models = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


def everywhere(draw, params):
    """Feedback weights for every leaf, vectors too."""
    return jax.tree.map(lambda leaf: draw(*leaf.shape), params)


@pytest.mark.rows(4)
@models
def test_against_feedback_alignment_by_hand(model):
    draw = Draw()
    loss, params, data, products = model(draw)
    psi = everywhere(draw, params)
    value, got = jax.jit(lg.value_and_grad(loss))(lg.Synapses(params, psi), *data)
    want = jax.jit(jax.value_and_grad(partial(loss, psi=psi, **products)))(params, *data)
    assert_close((value, got.forward), want, F64)
    assert_equal(got.backward, got.forward)


@pytest.mark.rows(1)
@models
def test_random_weights_differ_and_copies_do_not(model):
    draw = Draw()
    loss, params, data, _ = model(draw)
    exact = jax.jit(jax.grad(loss))(params, *data)
    copied = jax.jit(lg.grad(loss))(lg.Synapses.copied(params), *data)
    assert_close(copied.forward, exact, F64)
    random = lg.Synapses.random(jax.random.key(0), params)
    assert lg.compare(loss)(random, *data).max_rel > 0.01


@pytest.mark.rows(1)
@pytest.mark.parametrize("model", [perceptron, recurrent], ids=lambda model: model.__name__)
def test_vmap(model):
    draw = Draw()
    loss, params, data, products = model(draw)
    stack = [lg.Synapses(params, everywhere(draw, params)) for _ in range(2)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *stack)
    got = jax.vmap(lg.grad(loss), in_axes=(0, *(None for _ in data)))(batch, *data)
    want = [jax.grad(partial(loss, psi=s.backward, **products))(s.forward, *data) for s in stack]
    assert_close(got.forward, jax.tree.map(lambda *leaves: jnp.stack(leaves), *want), F64)


# What the gradient of synapses is -----------------------------------------------------------------


def descend(synapses, data, steps=20, rate=0.05, loss=None):
    optimiser = optax.sgd(rate)

    def step(carry, _):
        synapses, state = carry
        value, gradient = lg.value_and_grad(loss)(synapses, *data)
        updates, state = optimiser.update(gradient, state, synapses)
        return (optax.apply_updates(synapses, updates), state), value

    (synapses, _), values = jax.jit(lambda s: lax.scan(step, (s, optimiser.init(s)), length=steps))(
        synapses
    )
    return synapses, values


def distance(synapses):
    return jax.tree.map(jnp.subtract, synapses.forward, synapses.backward)


def test_learned_weights_keep_their_distance():
    draw = Draw()
    loss, params, data, _ = perceptron(draw)
    start = lg.Synapses(params, everywhere(draw, params))
    end, values = descend(start, data, loss=loss)
    assert values[-1] < values[0]
    assert_close(distance(end), distance(start), 1e-13)
    assert not np.allclose(end.backward["w"][0], start.backward["w"][0])


def test_fixed_weights_stay():
    draw = Draw()
    loss, params, data, _ = perceptron(draw)
    start = lg.Synapses.random(jax.random.key(1), params)
    end, _ = descend(start, data, loss=loss)
    assert_equal(end.backward, start.backward)
    assert not np.allclose(end.forward["b"][0], start.forward["b"][0])


def test_decay_brings_both_weights_together():
    draw = Draw()
    loss, params, data, _ = perceptron(draw)
    start = lg.Synapses(params, everywhere(draw, params), decay=0.5)
    end, _ = descend(start, data, loss=loss)
    shrunk = jax.tree.map(lambda x: (1 - 0.05 * 0.5) ** 20 * x, distance(start))
    assert_close(distance(end), shrunk, 1e-12)


def test_adam_needs_no_change():
    draw = Draw()
    loss, params, data, _ = perceptron(draw)
    synapses = lg.Synapses.random(jax.random.key(1), params)
    optimiser = optax.adam(1e-2)
    state = optimiser.init(synapses)

    @jax.jit
    def step(synapses, state):
        value, gradient = lg.value_and_grad(loss)(synapses, *data)
        updates, state = optimiser.update(gradient, state, synapses)
        return optax.apply_updates(synapses, updates), state, value

    values = []
    for _ in range(30):
        synapses, state, value = step(synapses, state)
        values.append(float(value))
    assert values[-1] < 0.8 * values[0]


# Where synapses may stand -------------------------------------------------------------------------


def test_a_part_of_an_argument():
    draw = Draw()
    loss, params, data, products = perceptron(draw)
    psi = draw(6, 3)
    mixed = {"w": [*params["w"][:2], lg.Synapses(params["w"][2], psi)], "b": params["b"]}
    got = lg.grad(loss)(mixed, *data)
    by_hand = {"w": [*params["w"][:2], psi], "b": params["b"]}
    want = jax.grad(partial(loss, psi=by_hand, **products))(params, *data)
    assert jax.tree.structure(got) == jax.tree.structure(mixed)
    plain = {"w": [*got["w"][:2], got["w"][2].forward], "b": got["b"]}
    assert_close(plain, want, F64)


def test_several_arguments_and_auxiliary_output():
    draw = Draw()
    w, psi, x = draw(3, 2), draw(3, 2), draw(4, 3)

    def f(x, w):
        h = jnp.tanh(x) @ w
        return jnp.sum(h**2), {"h": h, "name": "hidden"}

    got, aux = lg.grad(f, argnums=(0, 1), has_aux=True)(x, lg.Synapses(w, psi))
    e = 2 * jnp.tanh(x) @ w
    assert aux["name"] == "hidden"
    assert_close((got[0], got[1].forward), ((e @ psi.T) / jnp.cosh(x) ** 2, jnp.tanh(x).T @ e), F64)


@pytest.mark.parametrize("backward", [None, {"w": None, "b": None}, {"w": [None] * 3, "b": None}])
def test_no_feedback_weights(backward):
    loss, params, data, _ = perceptron(Draw())
    got = jax.jit(lg.grad(loss))(lg.Synapses(params, backward), *data)
    assert_equal(got.forward, jax.jit(lg.grad(loss))(params, *data))
    assert jax.tree.structure(got.backward) == jax.tree.structure(backward)


def test_integers_beside_weights():
    loss, params, data, _ = perceptron(Draw())
    params = params | {"step": jnp.asarray(3)}
    got = lg.grad(loss, allow_int=True)(lg.Synapses.copied(params), *data)
    assert got.forward["step"].dtype == got.backward["step"].dtype == jax.dtypes.float0


@pytest.mark.long
def test_equinox_model():
    model = eqx.nn.MLP(3, 2, 8, 2, key=jax.random.key(0))
    x = Draw()(5, 3)
    params, static = eqx.partition(model, eqx.is_array)

    def loss(params, x):
        return jnp.mean(jax.vmap(eqx.combine(params, static))(x) ** 2)

    synapses = lg.Synapses.random(jax.random.key(1), params)
    got = eqx.filter_jit(lg.grad(loss))(synapses, x)
    psi = [layer.weight for layer in synapses.backward.layers]
    hs, h = [x], x
    for layer in model.layers[:-1]:
        h = jax.nn.relu(h @ layer.weight.T + layer.bias)
        hs.append(h)
    out = h @ model.layers[-1].weight.T + model.layers[-1].bias
    e = 2 * out / out.size
    for k in (2, 1, 0):
        want = e.T @ hs[k], e.sum(0)
        assert_close((got.forward.layers[k].weight, got.forward.layers[k].bias), want, F64)
        e = (e @ psi[k]) * (hs[k] > 0)


def test_names_and_backpropagation():
    loss, params, data, _ = perceptron(Draw())
    synapses = lg.Synapses.random(jax.random.key(0), params)
    comparison = lg.compare(loss)(synapses, *data)
    assert comparison.leaves[-1].name == "args[0].forward['w'][2]"
    exact = lg.grad(loss, rule=lg.Backprop())(synapses, *data)
    assert_equal(exact.forward, jax.grad(loss)(params, *data))
    assert not jnp.any(exact.backward["w"][0])


def test_penalties_on_weights_are_no_messages():
    draw = Draw()
    loss, params, data, products = perceptron(draw)
    psi = everywhere(draw, params)

    def penalised(params, *data, **options):
        penalty = sum(jnp.sum(w**2) + jnp.sum(jnp.abs(w)) for w in params["w"])
        return loss(params, *data, **options) + 0.1 * penalty

    got = lg.grad(penalised)(lg.Synapses(params, psi), *data)
    assert_close(got.forward, jax.grad(partial(penalised, psi=psi, **products))(params, *data), F64)


def test_half_precision_products():
    draw = Draw()
    w, psi, x = draw(3, 3), draw(3, 3), draw(4, 3)

    def loss(w, x):
        w = w.astype(jnp.bfloat16)
        return jnp.sum((jnp.tanh(x.astype(jnp.bfloat16) @ w) @ w).astype(float) ** 2)

    got = lg.grad(loss)(lg.Synapses(w, psi), x)
    half, back, x = (a.astype(jnp.bfloat16) for a in (w, psi, x))
    h = jnp.tanh(x @ half)
    e = (2 * (h @ half).astype(float)).astype(jnp.bfloat16)
    first = (e @ back.T) * (1 - h * h)
    want = (h.T @ e + x.T @ first).astype(float)
    assert_close(got.forward, want, 5 * TOLERANCE["bfloat16"])


def test_a_parameter_carried_through_a_scan():
    draw = Draw()
    w, psi, x = draw(3, 3), draw(3, 3), draw(2, 3)

    def loss(w, x):
        body = lambda i, c: (c[0], jnp.tanh(c[1] @ c[0]))  # noqa: E731
        return jnp.sum(lax.fori_loop(0, 4, body, (w, jnp.sin(x)))[1])

    def by_hand(w, x):
        h = jnp.sin(x)
        for _ in range(4):
            h = jnp.tanh(crossed(matmul)(h, w, psi))
        return jnp.sum(h)

    assert_close(lg.grad(loss)(lg.Synapses(w, psi), x).forward, jax.grad(by_hand)(w, x), F64)


# Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bend",
    [jnp.exp, lambda w: w / jnp.sqrt(jnp.sum(w**2)), lambda w: w @ w],
    ids=["exp", "normalised", "squared"],
)
def test_a_parameter_that_enters_non_linearly(bend):
    w = Draw()(3, 3)

    def loss(w, x):
        h = jnp.tanh(x @ w)
        bent = bend(w)
        return jnp.sum(h @ bent)

    with pytest.raises(ValueError, match="enters non-linearly") as caught:
        lg.grad(loss)(lg.Synapses.copied(w), w)
    assert __file__ in str(caught.value)
    assert "what to do: " in str(caught.value)
    lg.grad(loss)(lg.Synapses(w, None), w)


def test_a_parameter_bent_where_it_meets_its_input():
    def loss(w, x):
        return jnp.sum(jnp.maximum(jnp.sin(x) @ w, w) ** 2)

    def angle(w, x):
        return jnp.sum(jnp.arctan2(jnp.sin(x) @ w, w))

    w = Draw()(3, 3)
    for f in (loss, angle):
        with pytest.raises(ValueError, match="enters non-linearly"):
            lg.grad(f)(lg.Synapses.copied(w), w)


def test_a_parameter_changed_by_a_scan():
    def loss(w, x):
        def step(w, x):
            return w - 0.1 * jnp.outer(x, jnp.tanh(x @ w)), x @ w

        return jnp.sum(lax.scan(step, w, x)[1])

    w = Draw()(3, 3)
    with pytest.raises(ValueError, match="changes a parameter") as caught:
        lg.grad(loss)(lg.Synapses.copied(w), w)
    assert __file__ in str(caught.value)


@pytest.mark.parametrize(
    ("backward", "text"),
    [
        ({"w": np.ones((2, 3))}, "backward['w'] is float64[2,3], forward['w'] float64[3,2]"),
        ({"w": np.ones((3, 2), np.float32)}, "backward['w'] is float32[3,2]"),
        ({"v": np.ones((3, 2))}, "do not fit"),
        (np.ones((3, 2)), "no array there"),
    ],
)
def test_backward_weights_that_do_not_fit(backward, text):
    with pytest.raises(ValueError, match="what to do") as caught:
        lg.grad(lambda p: jnp.sum(p["w"]))(lg.Synapses({"w": jnp.ones((3, 2))}, backward))
    assert text in str(caught.value)


@pytest.mark.parametrize("options", [{"decay": -1.0}, {"decay": 0.1, "learns": False}])
def test_decay_that_cannot_be(options):
    with pytest.raises(ValueError, match="decay"):
        lg.Synapses([], [], **options)
