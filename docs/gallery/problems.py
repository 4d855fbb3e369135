"""The networks of the gallery and the data they see: small enough to be recorded whole.

A network is a function of its parameters and of images of shape (n, rows, columns); its vertices
are the values that `lg.vertex` marks.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax import Array, lax

import localgrad as lg
from localgrad.experiments.data import Dataset

CLASSES = 10
Params = Any
Loss = Callable[[Params, Array, Array], Array]


class Sources(NamedTuple):
    """The data sets; `mnist` is None where no folder was given."""

    digits: Dataset
    mnist: Dataset | None

    @property
    def given(self) -> list[Dataset]:
        """Those that are there."""
        return [data for data in self if data is not None]


def title(name: str) -> str:
    """A data set as prose calls it."""
    return name.upper() if name == "mnist" else name


def images(inputs: Any) -> Array:
    """Images of one channel, float32 in [0, 1], of shape (n, rows, columns)."""
    scale = 255 if inputs.dtype == "uint8" else 1
    return jnp.asarray(inputs[:, 0], jnp.float32) / scale


def batch(data: Dataset, size: int = 32) -> tuple[Array, Array]:
    """The first images of the training set, and their classes as one-hot vectors."""
    return images(data.train_inputs[:size]), jax.nn.one_hot(data.train_labels[:size], CLASSES)


def cross_entropy(logits: Array, y: Array) -> Array:
    """Of each example, in nats."""
    return -jnp.sum(y * jax.nn.log_softmax(logits), axis=-1)


def weights(key: Array, sizes: Sequence[int]) -> dict[str, Array]:
    """The weights ``w1``, ``w2``, ... of a perceptron without biases, drawn from N(0, 1/n)."""
    keys = jr.split(key, len(sizes) - 1)
    pairs = enumerate(zip(keys, pairwise(sizes), strict=True), 1)
    return {f"w{k}": jr.normal(key, (n, m)) / n**0.5 for k, (key, (n, m)) in pairs}


def perceptron(
    params: dict[str, Array], x: Array, unit: Callable[[Array], Array] = jnp.tanh
) -> Array:
    """Logits; the vertices are the outputs of the hidden units, ``h1``, ``h2`` and so on."""
    x = x.reshape(len(x), -1)
    for k in range(1, len(params)):
        x = lg.vertex(unit(x @ params[f"w{k}"]), f"h{k}")
    return x @ params[f"w{len(params)}"]


def residual_weights(key: Array, blocks: int, channels: int) -> Params:
    """He's initialisation of the convolutions of a residual network, each 3 x 3."""
    entry, readout, *keys = jr.split(key, 2 + 2 * blocks)

    def kernel(key: Array, n: int) -> Array:
        return jr.normal(key, (3, 3, n, channels)) * (2 / (9 * n)) ** 0.5

    return {
        "entry": kernel(entry, 1),
        "blocks": [
            (kernel(first, channels), kernel(second, channels))
            for first, second in zip(keys[::2], keys[1::2], strict=True)
        ],
        "readout": jr.normal(readout, (channels, CLASSES)) / channels**0.5,
    }


def residual(params: Params, x: Array) -> Array:
    """Logits of a network of residual blocks before which units are normalised.

    Block `k` adds a branch of two convolutions to its input; the vertices are the value between
    them, ``h_k``, and the sum, ``x_k``.
    """
    x = lg.vertex(_convolve(x[..., None], params["entry"]), "x0")
    for k, (first, second) in enumerate(params["blocks"], 1):
        h = lg.vertex(_convolve(_active(x), first), f"h{k}")
        x = lg.vertex(x + _convolve(_active(h), second), f"x{k}")
    return _active(x).mean((1, 2)) @ params["readout"]


def residual_loss(params: Params, x: Array, y: Array) -> Array:
    """The mean cross-entropy of the residual network."""
    return cross_entropy(residual(params, x), y).mean()


def perceptron_loss(params: Params, x: Array, y: Array) -> Array:
    """The mean cross-entropy of the perceptron with tanh units."""
    return cross_entropy(perceptron(params, x), y).mean()


def summed_loss(params: Params, x: Array, y: Array) -> Array:
    """The same summed over the examples, so that nudge 1 is classical predictive coding."""
    return cross_entropy(perceptron(params, x), y).sum()


def recurrent_weights(key: Array, rows: int, units: int) -> Params:
    """N(0, 1/n) weights of the recurrent network, for images of so many numbers in a row."""
    keys = jr.split(key, 7)
    sizes = [(rows, units), *[(units, units)] * 5, (units, CLASSES)]
    names = ("rows", "a to a", "a to b", "b to b", "b to u", "u to v", "readout")
    pairs = zip(keys, sizes, strict=True)
    return dict(zip(names, (jr.normal(k, (n, m)) / n**0.5 for k, (n, m) in pairs), strict=True))


def recurrent_loss(params: Params, x: Array, y: Array) -> Array:
    """The mean cross-entropy of two recurrent layers that read an image row by row.

    Behind the last row stands one residual block.
    """

    def read(held: tuple[Array, Array], row: Array) -> tuple[tuple[Array, Array], None]:
        a, b = held
        a = lg.vertex(jnp.tanh(row @ params["rows"] + a @ params["a to a"]), "a")
        b = lg.vertex(jnp.tanh(a @ params["a to b"] + b @ params["b to b"]), "b")
        return (a, b), None

    start = jnp.zeros((len(x), len(params["a to a"])))
    (_, b), _ = lax.scan(read, (start, start), x.swapaxes(0, 1))
    u = lg.vertex(jnp.tanh(b @ params["b to u"]), "u")
    v = lg.vertex(b + u @ params["u to v"], "v")
    return cross_entropy(v @ params["readout"], y).mean()


def _active(x: Array) -> Array:
    """ReLU of the image normalised to mean 0 and variance 1."""
    axes = (1, 2, 3)
    centred = x - x.mean(axes, keepdims=True)
    return jax.nn.relu(centred * lax.rsqrt(x.var(axes, keepdims=True) + 1e-5))


def _convolve(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
