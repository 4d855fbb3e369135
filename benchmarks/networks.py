"""Networks with marks for `inference.py`, and their inference loops written by hand.

A network is one function `net(params, inputs, labels, mark, scan)`: the user's, with marks, where
`mark` is `lg.vertex` and `scan` is `jax.lax.scan`; the reference's, where they are a recorder and a
Python loop. The hand-written loops hold nothing but the products or convolutions that a step cannot
do without, in the layout that this machine likes best; the user's network is in the layout that
users write.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import lax

from models import CLASSES, cross_entropy, dense_init

Arrays = Any
Net = Callable[..., jax.Array]
Loop = Callable[[Any, jax.Array, jax.Array, int, float], Any]
"""(params, inputs, labels, steps, rate) -> gradients of the parameters."""


class Case(NamedTuple):
    """A network and all that is measured on it; `build(key, is_small)` gives its arguments."""

    values: str
    net: Net
    build: Callable[[jax.Array, bool], tuple[Any, jax.Array, jax.Array]]
    live: Loop
    frozen: Loop


# --- The loops of a network that is cut by hand ---------------------------------------------------
#
# `forward(params, inputs, labels)` gives the values of all vertices, as a dictionary, and
# `cut(params, inputs, labels, values)` their predictions from given values, and the loss.
# Predictions of vertices in `still` depend on no other vertex: they stay what they were.


def live_loop(
    forward: Callable, cut: Callable, still: set[str], params, inputs, labels, steps, rate
) -> Any:
    """Inference learning with the error carried as state."""
    first = forward(params, inputs, labels)

    def predict(values):
        predictions, loss = cut(params, inputs, labels, values)
        return {k: p for k, p in predictions.items() if k not in still}, loss

    def step(_, state):
        values, errors, last = state
        (predictions, loss), pull = jax.vjp(predict, values)
        errors = errors | {k: errors[k] + p - last[k] for k, p in predictions.items()}
        (feedback,) = pull(({k: errors[k] for k in predictions}, jnp.ones_like(loss)))
        values = {k: x + rate * (errors[k] - feedback[k]) for k, x in values.items()}
        errors = {k: (1 - rate) * e + rate * feedback[k] for k, e in errors.items()}
        return values, errors, predictions

    silent = jax.tree.map(jnp.zeros_like, first)
    moving = {k: x for k, x in first.items() if k not in still}
    values, errors, last = lax.fori_loop(0, steps, step, (first, silent, moving))
    (predictions, loss), pull = jax.vjp(lambda p: cut(p, inputs, labels, values), params)
    errors = errors | {k: errors[k] + predictions[k] - last[k] for k in moving}
    return pull((errors, jnp.ones_like(loss)))[0]


def frozen_loop(
    forward: Callable, cut: Callable, still: set[str], params, inputs, labels, steps, rate
) -> Any:
    """Fixed prediction, and activation relaxation from a zero start: a linear recursion."""
    first = forward(params, inputs, labels)

    def predictions_of(values):
        predictions, _ = cut(params, inputs, labels, values)
        return {k: p for k, p in predictions.items() if k not in still}

    _, pull = jax.vjp(predictions_of, first)
    from_loss = jax.grad(lambda values: cut(params, inputs, labels, values)[1])(first)

    def step(_, errors):
        (feedback,) = pull({k: e for k, e in errors.items() if k not in still})
        return {k: (1 - rate) * e + rate * (feedback[k] + from_loss[k]) for k, e in errors.items()}

    errors = lax.fori_loop(0, steps, step, jax.tree.map(jnp.zeros_like, first))
    (_, loss), pull = jax.vjp(lambda p: cut(p, inputs, labels, first), params)
    return pull((errors, jnp.ones_like(loss)))[0]


def recorded(net: Callable) -> tuple[Callable, Callable]:
    """`forward` and `cut` of a network in which every mark has a name of its own."""

    def forward(params, inputs, labels):
        values: dict[str, jax.Array] = {}
        net(params, inputs, labels, lambda x, name: values.setdefault(name, x))
        return values

    def cut(params, inputs, labels, values):
        predictions: dict[str, jax.Array] = {}

        def mark(x, name):
            predictions[name] = x
            return values[name]

        loss = net(params, inputs, labels, mark)
        return predictions, loss

    return forward, cut


# --- Multilayer perceptron: 784-256-256-256-10, tanh ----------------------------------------------


def mlp_net(params, inputs, labels, mark, scan=None):
    x = inputs
    for k, (weight, bias) in enumerate(params[:-1]):
        x = jnp.tanh(mark(x @ weight + bias, f"h{k}"))
    weight, bias = params[-1]
    return cross_entropy(x @ weight + bias, labels)


def mlp_build(key, is_small):
    widths, batch = ((5, 4, 4, 3, CLASSES), 3) if is_small else ((784, 256, 256, 256, CLASSES), 64)
    keys = iter(jr.split(key, 6))
    params = [(dense_init(next(keys), m, n), jnp.zeros(n)) for m, n in itertools.pairwise(widths)]
    labels = jr.randint(next(keys), (batch,), 0, CLASSES)
    return params, jr.normal(next(keys), (batch, widths[0])), labels


def mlp_gradients(params, inputs, values, errors, output):
    below = [inputs, *map(jnp.tanh, values)]
    errors = [*errors, output]
    return [(x.T @ e, e.sum(0)) for x, e in zip(below, errors, strict=True)]


def mlp_output(active, params, labels):
    """The gradient of the loss in the logits."""
    weight, bias = params[-1]
    wanted = jax.nn.one_hot(labels, CLASSES, dtype=active.dtype)
    return (jax.nn.softmax(active @ weight + bias) - wanted) / len(labels)


def mlp_live(params, inputs, labels, steps, rate):
    """Three products forward and three back per step."""
    (w1, b1), (w2, b2), (w3, b3), (w4, _) = params
    h1 = inputs @ w1 + b1
    h2 = jnp.tanh(h1) @ w2 + b2
    h3 = jnp.tanh(h2) @ w3 + b3

    def predict(x):
        a = [jnp.tanh(h) for h in x]
        return a, (a[0] @ w2 + b2, a[1] @ w3 + b3)

    def step(_, state):
        x, (e1, e2, e3), (m2, m3) = state
        a, (n2, n3) = predict(x)
        e = (e1, e2 + (n2 - m2), e3 + (n3 - m3))
        output = mlp_output(a[2], params, labels)
        back = (e[1] @ w2.T, e[2] @ w3.T, output @ w4.T)
        fb = [b * (1 - t * t) for b, t in zip(back, a, strict=True)]
        x = tuple(x + rate * (e - f) for x, e, f in zip(x, e, fb, strict=True))
        return x, tuple((1 - rate) * e + rate * f for e, f in zip(e, fb, strict=True)), (n2, n3)

    silent = (jnp.zeros_like(h1), jnp.zeros_like(h2), jnp.zeros_like(h3))
    x, (e1, e2, e3), (m2, m3) = lax.fori_loop(0, steps, step, ((h1, h2, h3), silent, (h2, h3)))
    a, (n2, n3) = predict(x)
    errors = (e1, e2 + (n2 - m2), e3 + (n3 - m3))
    return mlp_gradients(params, inputs, x, errors, mlp_output(a[2], params, labels))


def mlp_frozen(params, inputs, labels, steps, rate):
    """Two products back per step."""
    (w1, b1), (w2, b2), (w3, b3), (w4, _) = params
    h1 = inputs @ w1 + b1
    h2 = jnp.tanh(h1) @ w2 + b2
    h3 = jnp.tanh(h2) @ w3 + b3
    f1, f2, f3 = (1 - jnp.tanh(h) ** 2 for h in (h1, h2, h3))
    output = mlp_output(jnp.tanh(h3), params, labels)
    fb3 = output @ w4.T * f3

    def step(_, state):
        _, e2, e3 = state
        fb = (e2 @ w2.T * f1, e3 @ w3.T * f2, fb3)
        return tuple((1 - rate) * e + rate * f for e, f in zip(state, fb, strict=True))

    silent = (jnp.zeros_like(h1), jnp.zeros_like(h2), jnp.zeros_like(h3))
    errors = lax.fori_loop(0, steps, step, silent)
    return mlp_gradients(params, inputs, (h1, h2, h3), errors, output)


# --- A convolution that XLA's CPU compiler keeps fast inside a loop -------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """x: (batch, height, width, in), kernel: (k, k, in, out), k odd; padding k // 2."""
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x, kernel, (stride,) * 2, [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def conv_keep(x, kernel, stride):
    return conv(x, kernel, stride), (x, kernel)


def conv_pull(stride, kept, error):
    x, kernel = kept
    size = kernel.shape[0]
    pad = size - 1 - size // 2
    missing = x.shape[1] - (error.shape[1] - 1) * stride - 1
    to_x = lax.conv_general_dilated(
        error,
        kernel[::-1, ::-1].swapaxes(2, 3),
        (1, 1),
        [(pad, pad + missing)] * 2,
        lhs_dilation=(stride,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    (to_kernel,) = jax.vjp(lambda k: conv.fun(x, k, stride), kernel)[1](error)
    return to_x, to_kernel


conv.defvjp(conv_keep, conv_pull)


def user_conv(x: jax.Array, kernel: jax.Array, stride: int, layout: str) -> jax.Array:
    """The same as a user writes it, in `layout` "NCHW" (kernels OIHW) or "NHWC" (kernels HWIO)."""
    kernels = {"NCHW": "OIHW", "NHWC": "HWIO"}[layout]
    pad = kernel.shape[kernels.index("H")] // 2
    return lax.conv_general_dilated(
        x, kernel, (stride,) * 2, [(pad, pad)] * 2, dimension_numbers=(layout, kernels, layout)
    )


def conv_init(key, size, into, out, layout):
    kernel = jr.normal(key, (size, size, into, out)) / jnp.sqrt(size * size * into)
    return kernel if layout == "NHWC" else kernel.transpose(3, 2, 0, 1)


def image(key, batch, size, features, layout):
    shape = (batch, features, size, size) if layout == "NCHW" else (batch, size, size, features)
    return jr.normal(key, shape)


def channels_last(params, inputs, layout):
    """Kernels and images in the layout of `conv`."""
    if layout == "NHWC":
        return params, inputs
    moved = jax.tree.map(lambda p: p.transpose(2, 3, 1, 0) if p.ndim == 4 else p, params)
    return moved, inputs.transpose(0, 2, 3, 1)


# --- Convolutional network: 3x32x32, 16, 32 and 32 features, the last two with stride 2 -----------


def cnn_net(layout, params, inputs, labels, mark, scan=None):
    x = inputs
    for k, kernel in enumerate(params["kernels"]):
        x = jnp.tanh(mark(user_conv(x, kernel, 1 if k == 0 else 2, layout), f"h{k}"))
    return cross_entropy(x.reshape(len(x), -1) @ params["output"], labels)


def cnn_build(layout, key, is_small):
    features, size, batch = ((2, 3, 2, 3), 8, 2) if is_small else ((3, 16, 32, 32), 32, 64)
    keys = iter(jr.split(key, 6))
    sizes = zip((5, 3, 3), features[:-1], features[1:], strict=True)
    params = {
        "kernels": [conv_init(next(keys), k, m, n, layout) for k, m, n in sizes],
        "output": dense_init(next(keys), features[-1] * (size // 4) ** 2, CLASSES),
    }
    labels = jr.randint(next(keys), (batch,), 0, CLASSES)
    return params, image(next(keys), batch, size, features[0], layout), labels


def cnn_by_hand(layout, params, inputs, labels, mark):
    params, x = channels_last(params, inputs, layout)
    for k, kernel in enumerate(params["kernels"]):
        x = jnp.tanh(mark(conv(x, kernel, 1 if k == 0 else 2), f"h{k}"))
    if layout == "NCHW":
        x = x.transpose(0, 3, 1, 2)
    return cross_entropy(x.reshape(len(x), -1) @ params["output"], labels)


# --- Residual network with batch statistics: four blocks ------------------------------------------


def normalised(x, scale, shift, axis):
    axes = tuple(k for k in range(4) if k != axis)
    shape = [1] * 4
    shape[axis] = -1
    centred = x - x.mean(axes, keepdims=True)
    var = jnp.square(centred).mean(axes, keepdims=True)
    return centred * lax.rsqrt(var + 1e-5) * scale.reshape(shape) + shift.reshape(shape)


def resnet(convolve, axis, params, x, labels, mark):
    """Vertices: every convolution within a block, and every block's sum, before the ReLU."""

    def conv_norm(x, p, stride):
        return normalised(convolve(x, p["kernel"], stride), p["scale"], p["shift"], axis)

    x = jax.nn.relu(conv_norm(mark(convolve(x, params["stem"], 1), "stem"), params["first"], 1))
    for k, block in enumerate(params["blocks"]):
        stride = 2 if "shortcut" in block else 1
        inner = mark(conv_norm(x, block["a"], stride), f"inner{k}")
        outer = conv_norm(jax.nn.relu(inner), block["b"], 1)
        skip = conv_norm(x, block["shortcut"], stride) if "shortcut" in block else x
        x = jax.nn.relu(mark(outer + skip, f"block{k}"))
    pooled = x.mean(tuple(k for k in (1, 2, 3) if k != axis))
    return cross_entropy(pooled @ params["output"], labels)


def resnet_net(layout, params, inputs, labels, mark, scan=None):
    convolve = partial(user_conv, layout=layout)
    return resnet(convolve, layout.index("C"), params, inputs, labels, mark)


def resnet_by_hand(layout, params, inputs, labels, mark):
    params, inputs = channels_last(params, inputs, layout)
    return resnet(conv, 3, params, inputs, labels, mark)


def resnet_build(layout, key, is_small):
    widths, size, batch = ((2, 2, 3), 8, 3) if is_small else ((16, 32, 64), 32, 16)
    keys = iter(jr.split(key, 40))

    def conv_norm(kernel, into, out):
        return {
            "kernel": conv_init(next(keys), kernel, into, out, layout),
            "scale": jnp.ones(out),
            "shift": jnp.zeros(out),
        }

    first, middle, last = widths
    blocks = []
    for into, out in ((first, first), (first, middle), (middle, middle), (middle, last)):
        block = {"a": conv_norm(3, into, out), "b": conv_norm(3, out, out)}
        blocks.append(block | ({"shortcut": conv_norm(1, into, out)} if into != out else {}))
    params = {
        "stem": conv_init(next(keys), 3, 3, first, layout),
        "first": conv_norm(3, first, first),
        "blocks": blocks,
        "output": dense_init(next(keys), last, CLASSES),
    }
    labels = jr.randint(next(keys), (batch,), 0, CLASSES)
    return params, image(next(keys), batch, size, 3, layout), labels


# --- Gated recurrent network over 100 steps -------------------------------------------------------


def gru_cell(params, hidden, drive):
    """`drive` is the input's part: (..., 3 * width)."""
    width = hidden.shape[-1]
    inner = hidden @ params["recurrent"]
    reset, update = jnp.split(
        jax.nn.sigmoid(drive[..., : 2 * width] + inner[..., : 2 * width]), 2, -1
    )
    new = jnp.tanh(drive[..., 2 * width :] + reset * inner[..., 2 * width :])
    return (1 - update) * new + update * hidden


def gru_net(params, inputs, labels, mark, scan):
    def step(hidden, x):
        drive = x @ params["input"] + params["bias"]
        return mark(gru_cell(params, hidden, drive), "hidden"), None

    start = jnp.zeros((inputs.shape[1], params["recurrent"].shape[0]), inputs.dtype)
    hidden, _ = scan(step, start, inputs)
    return cross_entropy(hidden @ params["output"], labels)


def gru_build(key, is_small):
    length, features, width, batch = (4, 3, 5, 2) if is_small else (100, 28, 64, 32)
    keys = jr.split(key, 5)
    params = {
        "input": dense_init(keys[0], features, 3 * width),
        "recurrent": dense_init(keys[1], width, 3 * width),
        "bias": jnp.zeros(3 * width),
        "output": dense_init(keys[2], width, CLASSES),
    }
    inputs = jr.normal(keys[3], (length, batch, features))
    return params, inputs, jr.randint(keys[4], (batch,), 0, CLASSES)


def gru_forward(params, inputs, labels):
    drive = inputs @ params["input"] + params["bias"]

    def step(hidden, drive):
        hidden = gru_cell(params, hidden, drive)
        return hidden, hidden

    start = jnp.zeros((inputs.shape[1], params["recurrent"].shape[0]), inputs.dtype)
    return {"hidden": lax.scan(step, start, drive)[1]}


def gru_cut(params, inputs, labels, values):
    """All time steps in one product."""
    hidden = values["hidden"]
    drive = inputs @ params["input"] + params["bias"]
    shifted = jnp.concatenate([jnp.zeros_like(hidden[:1]), hidden[:-1]])
    loss = cross_entropy(hidden[-1] @ params["output"], labels)
    return {"hidden": gru_cell(params, shifted, drive)}, loss


# --- A deep perceptron as a scan over its layers --------------------------------------------------


def deep_net(params, inputs, labels, mark, scan):
    def layer(x, weights):
        weight, bias = weights
        return mark(jnp.tanh(x) @ weight + bias, "hidden"), None

    x, _ = scan(layer, inputs, params["layers"])
    return cross_entropy(x @ params["output"], labels)


def deep_build(depth, key, is_small):
    depth, width, batch = (4, 5, 2) if is_small else (depth, 128, 64)
    keys = jr.split(key, 4)
    weights = jr.normal(keys[0], (depth, width, width)) / jnp.sqrt(width)
    params = {
        "layers": (weights, jnp.zeros((depth, width))),
        "output": dense_init(keys[1], width, CLASSES),
    }
    inputs = jr.normal(keys[2], (batch, width))
    return params, inputs, jr.randint(keys[3], (batch,), 0, CLASSES)


def deep_forward(params, inputs):
    def layer(x, weights):
        weight, bias = weights
        x = jnp.tanh(x) @ weight + bias
        return x, x

    return lax.scan(layer, inputs, params["layers"])[1]


def deep_output(x, params, labels):
    """The gradient of the loss in the values of the last layer, and in the logits."""
    wanted = jax.nn.one_hot(labels, CLASSES, dtype=x.dtype)
    output = (jax.nn.softmax(x @ params["output"]) - wanted) / len(labels)
    return output @ params["output"].T, output


def deep_gradients(params, inputs, x, errors, output):
    below = jnp.tanh(jnp.concatenate([inputs[None], x[:-1]]))
    layers = jnp.einsum("lbm,lbn->lmn", below, errors), errors.sum(1)
    return {"layers": layers, "output": x[-1].T @ output}


def deep_live(params, inputs, labels, steps, rate):
    """All layers but the first, whose prediction stays, in one batched product each way."""
    weights, biases = params["layers"]
    weights, biases = weights[1:], biases[1:]
    back = weights.swapaxes(1, 2)
    first = deep_forward(params, inputs)

    def predict(x):
        active = jnp.tanh(x[:-1])
        return active, active @ weights + biases[:, None]

    def step(_, state):
        x, e, m = state
        active, n = predict(x)
        moved = e[1:] + (n - m)
        e = jnp.concatenate([e[:1], moved])
        feedback = (moved @ back) * (1 - active * active)
        feedback = jnp.concatenate([feedback, deep_output(x[-1], params, labels)[0][None]])
        return x + rate * (e - feedback), (1 - rate) * e + rate * feedback, n

    state = (first, jnp.zeros_like(first), first[1:])
    x, e, m = lax.fori_loop(0, steps, step, state)
    errors = e.at[1:].add(predict(x)[1] - m)
    return deep_gradients(params, inputs, x, errors, deep_output(x[-1], params, labels)[1])


def deep_frozen(params, inputs, labels, steps, rate):
    """One batched product back per step."""
    back = params["layers"][0][1:].swapaxes(1, 2)
    first = deep_forward(params, inputs)
    slope = 1 - jnp.tanh(first[:-1]) ** 2
    last, output = deep_output(first[-1], params, labels)

    def step(_, e):
        feedback = jnp.concatenate([(e[1:] @ back) * slope, last[None]])
        return (1 - rate) * e + rate * feedback

    errors = lax.fori_loop(0, steps, step, jnp.zeros_like(first))
    return deep_gradients(params, inputs, first, errors, output)


# --- All of them ----------------------------------------------------------------------------------


def cut_case(values, net, build, forward, cut, still) -> Case:
    return Case(
        values,
        net,
        build,
        partial(live_loop, forward, cut, still),
        partial(frozen_loop, forward, cut, still),
    )


def image_case(values, net, build, by_hand, still, layout) -> Case:
    forward, cut = recorded(partial(by_hand, layout))
    return cut_case(values, partial(net, layout), partial(build, layout), forward, cut, still)


def deep_case(depth: int) -> Case:
    return Case("before the tanh", deep_net, partial(deep_build, depth), deep_live, deep_frozen)


CASES: dict[str, Case] = {
    "MLP": Case("before the tanh", mlp_net, mlp_build, mlp_live, mlp_frozen),
    **{
        f"CNN {layout}": image_case(
            "before the tanh", cnn_net, cnn_build, cnn_by_hand, {"h0"}, layout
        )
        for layout in ("NCHW", "NHWC")
    },
    "ResNet": image_case(
        "before the ReLU", resnet_net, resnet_build, resnet_by_hand, {"stem"}, "NCHW"
    ),
    "GRU x100": cut_case("hidden states", gru_net, gru_build, gru_forward, gru_cut, set()),
    "scan x32": deep_case(32),
    "scan x64": deep_case(64),
}
