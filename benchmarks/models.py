"""Six models to measure on: each builder gives a scalar loss and its arguments.

The first five are the architectures of Salvatori et al. (2022), the sixth is a GPT-style decoder.
A builder takes a PRNG key and a size and returns `(loss, (params, inputs, targets))` in float32;
the loss is a mean cross-entropy, to be differentiated in its first argument. `small` is sized for
a few CPU cores, `paper` has the widths with which these architectures are usually published.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

SIZES = ("small", "paper")
CLASSES = 10

Loss = Callable[..., jax.Array]
Problem = tuple[Loss, tuple[Any, jax.Array, jax.Array]]


def build(name: str, size: str, seed: int) -> Problem:
    """The model `name` (a key of `MODELS`) at `size` (one of `SIZES`)."""
    return MODELS[name](jr.key(seed), size)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def classifier(model: Callable, inputs: jax.Array, key: jax.Array) -> Problem:
    """The loss of an Equinox model that maps one example to its logits; labels are random."""
    params, static = eqx.partition(model, eqx.is_array)

    def loss(params, inputs, labels):
        return cross_entropy(jax.vmap(eqx.combine(params, static))(inputs), labels)

    return loss, (params, inputs, jr.randint(key, inputs.shape[:1], 0, CLASSES))


def dense_init(key: jax.Array, fan_in: int, fan_out: int) -> jax.Array:
    return jr.normal(key, (fan_in, fan_out)) / jnp.sqrt(fan_in)


# --- Multilayer perceptron ------------------------------------------------------------------------


def mlp(key: jax.Array, size: str) -> Problem:
    width, depth, batch = {"small": (768, 3, 128), "paper": (2048, 3, 256)}[size]
    model_key, input_key, label_key = jr.split(key, 3)
    model = eqx.nn.MLP(784, CLASSES, width, depth, jnp.tanh, key=model_key)
    return classifier(model, jr.normal(input_key, (batch, 784)), label_key)


# --- AlexNet for 32x32 images ---------------------------------------------------------------------


def alexnet(key: jax.Array, size: str) -> Problem:
    widths, dense, batch = {
        "small": ((16, 48, 96, 64, 64), 256, 32),
        "paper": ((64, 192, 384, 256, 256), 4096, 128),
    }[size]
    keys = iter(jr.split(key, 10))
    channels = (3, *widths)
    convs = [
        eqx.nn.Conv2d(channels[i], channels[i + 1], 3, padding=1, key=next(keys)) for i in range(5)
    ]
    pool, relu = eqx.nn.MaxPool2d(2, 2), eqx.nn.Lambda(jax.nn.relu)
    model = eqx.nn.Sequential(
        [
            *(convs[0], relu, pool),
            *(convs[1], relu, pool),
            *(convs[2], relu),
            *(convs[3], relu),
            *(convs[4], relu, pool),
            eqx.nn.Lambda(jnp.ravel),
            *(eqx.nn.Linear(widths[-1] * 4 * 4, dense, key=next(keys)), relu),
            *(eqx.nn.Linear(dense, dense, key=next(keys)), relu),
            eqx.nn.Linear(dense, CLASSES, key=next(keys)),
        ]
    )
    return classifier(model, jr.normal(next(keys), (batch, 3, 32, 32)), next(keys))


# --- Many-to-one recurrent network ----------------------------------------------------------------


def rnn(key: jax.Array, size: str) -> Problem:
    """A tanh network that reads the rows of an image in a `lax.scan` and answers at the end."""
    width, batch = {"small": (256, 128), "paper": (1024, 256)}[size]
    steps, features = 28, 28
    keys = jr.split(key, 5)
    params = {
        "input": dense_init(keys[0], features, width),
        "recurrent": dense_init(keys[1], width, width),
        "bias": jnp.zeros(width),
        "output": dense_init(keys[2], width, CLASSES),
    }

    def loss(params, inputs, labels):
        def step(hidden, row):
            drive = row @ params["input"] + hidden @ params["recurrent"] + params["bias"]
            return jnp.tanh(drive), None

        start = jnp.zeros((inputs.shape[1], width))
        hidden, _ = jax.lax.scan(step, start, inputs)
        return cross_entropy(hidden @ params["output"], labels)

    inputs = jr.normal(keys[3], (steps, batch, features))
    return loss, (params, inputs, jr.randint(keys[4], (batch,), 0, CLASSES))


# --- ResNet-18 with batch statistics --------------------------------------------------------------


class ConvNorm(eqx.Module):
    """A convolution without bias, then batch normalisation in training mode."""

    conv: eqx.nn.Conv2d
    scale: jax.Array
    shift: jax.Array

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int, key: jax.Array):
        padding = kernel // 2
        self.conv = eqx.nn.Conv2d(
            channels_in, channels, kernel, stride, padding, use_bias=False, key=key
        )
        self.scale, self.shift = jnp.ones((channels, 1, 1)), jnp.zeros((channels, 1, 1))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x: (batch, channels, height, width)."""
        x = jax.vmap(self.conv)(x)
        mean = x.mean((0, 2, 3), keepdims=True)
        var = x.var((0, 2, 3), keepdims=True)
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * self.scale + self.shift


class ResidualBlock(eqx.Module):
    first: ConvNorm
    second: ConvNorm
    shortcut: ConvNorm | None

    def __init__(self, channels_in: int, channels: int, stride: int, key: jax.Array):
        keys = jr.split(key, 3)
        self.first = ConvNorm(channels_in, channels, 3, stride, keys[0])
        self.second = ConvNorm(channels, channels, 3, 1, keys[1])
        same = stride == 1 and channels_in == channels
        self.shortcut = None if same else ConvNorm(channels_in, channels, 1, stride, keys[2])

    def __call__(self, x: jax.Array) -> jax.Array:
        skip = x if self.shortcut is None else self.shortcut(x)
        return jax.nn.relu(self.second(jax.nn.relu(self.first(x))) + skip)


class ResNet18(eqx.Module):
    stem: ConvNorm
    blocks: list[ResidualBlock]
    head: eqx.nn.Linear

    def __init__(self, widths: Sequence[int], key: jax.Array):
        keys = iter(jr.split(key, 10))
        self.stem = ConvNorm(3, widths[0], 3, 1, next(keys))
        self.blocks = []
        channels = widths[0]
        for stage, width in enumerate(widths):
            for stride in (1 if stage == 0 else 2, 1):
                self.blocks.append(ResidualBlock(channels, width, stride, next(keys)))
                channels = width
        self.head = eqx.nn.Linear(channels, CLASSES, key=next(keys))

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return jax.vmap(self.head)(x.mean((2, 3)))


def resnet18(key: jax.Array, size: str) -> Problem:
    widths, batch = {"small": ((16, 32, 64, 128), 16), "paper": ((64, 128, 256, 512), 128)}[size]
    model_key, input_key, label_key = jr.split(key, 3)
    params, static = eqx.partition(ResNet18(widths, model_key), eqx.is_array)

    def loss(params, inputs, labels):
        return cross_entropy(eqx.combine(params, static)(inputs), labels)

    inputs = jr.normal(input_key, (batch, 3, 32, 32))
    return loss, (params, inputs, jr.randint(label_key, (batch,), 0, CLASSES))


# --- Transformer encoder --------------------------------------------------------------------------


class EncoderLayer(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    attention_norm: eqx.nn.LayerNorm
    hidden: eqx.nn.Linear
    output: eqx.nn.Linear
    output_norm: eqx.nn.LayerNorm

    def __init__(self, width: int, heads: int, key: jax.Array):
        keys = jr.split(key, 3)
        self.attention = eqx.nn.MultiheadAttention(heads, width, key=keys[0])
        self.attention_norm = eqx.nn.LayerNorm(width)
        self.hidden = eqx.nn.Linear(width, 4 * width, key=keys[1])
        self.output = eqx.nn.Linear(4 * width, width, key=keys[2])
        self.output_norm = eqx.nn.LayerNorm(width)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.vmap(self.attention_norm)(x + self.attention(x, x, x))
        hidden = jax.nn.relu(jax.vmap(self.hidden)(x))
        return jax.vmap(self.output_norm)(x + jax.vmap(self.output)(hidden))


class Encoder(eqx.Module):
    embedding: eqx.nn.Embedding
    positions: jax.Array
    layers: list[EncoderLayer]
    head: eqx.nn.Linear

    def __init__(self, vocab: int, length: int, width: int, heads: int, depth: int, key: jax.Array):
        keys = iter(jr.split(key, depth + 3))
        self.embedding = eqx.nn.Embedding(vocab, width, key=next(keys))
        self.positions = 0.02 * jr.normal(next(keys), (length, width))
        self.layers = [EncoderLayer(width, heads, next(keys)) for _ in range(depth)]
        self.head = eqx.nn.Linear(width, CLASSES, key=next(keys))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = jax.vmap(self.embedding)(tokens) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(0))


def transformer(key: jax.Array, size: str) -> Problem:
    vocab, length, width, heads, depth, batch = {
        "small": (512, 64, 128, 4, 4, 16),
        "paper": (8192, 128, 512, 8, 6, 64),
    }[size]
    model_key, input_key, label_key = jr.split(key, 3)
    model = Encoder(vocab, length, width, heads, depth, model_key)
    return classifier(model, jr.randint(input_key, (batch, length), 0, vocab), label_key)


# --- GPT-style decoder ----------------------------------------------------------------------------


def gpt(key: jax.Array, size: str) -> Problem:
    """Twelve pre-norm layers unrolled in Python, causal attention, tied embeddings."""
    vocab, length, width, heads, batch = {
        "small": (512, 64, 128, 4, 4),
        "paper": (50257, 512, 768, 12, 8),
    }[size]
    depth = 12
    keys = iter(jr.split(key, 4 * depth + 3))
    params = {
        "embedding": 0.02 * jr.normal(next(keys), (vocab, width)),
        "positions": 0.02 * jr.normal(next(keys), (length, width)),
        "layers": [
            {
                "attention_norm": (jnp.ones(width), jnp.zeros(width)),
                "qkv": dense_init(next(keys), width, 3 * width),
                "projection": dense_init(next(keys), width, width),
                "mlp_norm": (jnp.ones(width), jnp.zeros(width)),
                "hidden": (dense_init(next(keys), width, 4 * width), jnp.zeros(4 * width)),
                "output": (dense_init(next(keys), 4 * width, width), jnp.zeros(width)),
            }
            for _ in range(depth)
        ],
        "final_norm": (jnp.ones(width), jnp.zeros(width)),
    }

    def layer_norm(x, scale, shift):
        centred = x - x.mean(-1, keepdims=True)
        var = jnp.square(centred).mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt(var + 1e-5) * scale + shift

    def split_heads(x):
        return x.reshape(batch, length, heads, width // heads).swapaxes(1, 2)

    def attention(x, qkv, projection):
        query, key, value = jnp.split(x @ qkv, 3, -1)
        query, key, value = (split_heads(a) for a in (query, key, value))
        scores = query @ key.swapaxes(2, 3) / jnp.sqrt(width // heads)
        scores = jnp.where(jnp.tri(length, dtype=bool), scores, -jnp.inf)
        mixed = jax.nn.softmax(scores) @ value
        return mixed.swapaxes(1, 2).reshape(batch, length, width) @ projection

    def loss(params, tokens, targets):
        x = params["embedding"][tokens] + params["positions"]
        for layer in params["layers"]:
            x += attention(
                layer_norm(x, *layer["attention_norm"]), layer["qkv"], layer["projection"]
            )
            weight, bias = layer["hidden"]
            hidden = jax.nn.gelu(layer_norm(x, *layer["mlp_norm"]) @ weight + bias)
            weight, bias = layer["output"]
            x += hidden @ weight + bias
        logits = layer_norm(x, *params["final_norm"]) @ params["embedding"].T
        return cross_entropy(logits, targets)

    text = jr.randint(next(keys), (batch, length + 1), 0, vocab)
    return loss, (params, text[:, :-1], text[:, 1:])


MODELS: dict[str, Callable[[jax.Array, str], Problem]] = {
    "MLP": mlp,
    "AlexNet": alexnet,
    "RNN": rnn,
    "ResNet-18": resnet18,
    "Transformer": transformer,
    "GPT": gpt,
}
