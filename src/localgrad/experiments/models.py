"""Small Equinox classifiers for 8 x 8 images with one channel.

Every model maps one image of shape (1, 8, 8) to 10 logits. ``hidden`` holds one number per layer
or block; what the number counts is said in each class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

SIZE = 8
CLASSES = 10
NORM_GROUPS = 4
TOKEN_WIDTH = 32
HEADS = 4

Params = Any
"""A pytree of the arrays that learn."""


class MLP(eqx.Module):
    """Fully connected layers with ReLU; ``hidden`` are their widths."""

    layers: list[eqx.nn.Linear]

    def __init__(self, hidden: Sequence[int], *, key: Array) -> None:
        widths = [SIZE * SIZE, *hidden, CLASSES]
        keys = jax.random.split(key, len(widths) - 1)
        self.layers = [
            eqx.nn.Linear(widths[i], widths[i + 1], key=keys[i]) for i in range(len(keys))
        ]

    def __call__(self, image: Array) -> Array:
        x = image.ravel()
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)


class CNN(eqx.Module):
    """3 x 3 convolutions with ReLU, 2 x 2 max-pooling after the first; ``hidden`` are channels."""

    convolutions: list[eqx.nn.Conv2d]
    pool: eqx.nn.MaxPool2d
    readout: eqx.nn.Linear

    def __init__(self, hidden: Sequence[int], *, key: Array) -> None:
        channels = [1, *hidden]
        *keys, readout_key = jax.random.split(key, len(channels))
        self.convolutions = [
            eqx.nn.Conv2d(channels[i], channels[i + 1], 3, padding=1, key=keys[i])
            for i in range(len(keys))
        ]
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.readout = eqx.nn.Linear(channels[-1] * (SIZE // 2) ** 2, CLASSES, key=readout_key)

    def __call__(self, image: Array) -> Array:
        first, *rest = self.convolutions
        x = self.pool(jax.nn.relu(first(image)))
        for convolution in rest:
            x = jax.nn.relu(convolution(x))
        return self.readout(x.ravel())


class GRU(eqx.Module):
    """Gated recurrent layers that read the image row by row; ``hidden`` are their state sizes."""

    cells: list[eqx.nn.GRUCell]
    readout: eqx.nn.Linear

    def __init__(self, hidden: Sequence[int], *, key: Array) -> None:
        widths = [SIZE, *hidden]
        *keys, readout_key = jax.random.split(key, len(widths))
        self.cells = [
            eqx.nn.GRUCell(widths[i], widths[i + 1], key=keys[i]) for i in range(len(keys))
        ]
        self.readout = eqx.nn.Linear(widths[-1], CLASSES, key=readout_key)

    def __call__(self, image: Array) -> Array:
        sequence = image[0]
        for cell in self.cells:
            sequence = _states(cell, sequence)
        return self.readout(sequence[-1])


def _states(cell: eqx.nn.GRUCell, inputs: Array) -> Array:
    """The states of ``cell`` as it reads ``inputs`` from a zero state; both by time first."""

    def advance(state: Array, now: Array) -> tuple[Array, Array]:
        state = cell(now, state)
        return state, state

    return jax.lax.scan(advance, jnp.zeros(cell.hidden_size), inputs)[1]


class ResidualBlock(eqx.Module):
    """Two normalised 3 x 3 convolutions around a skip connection."""

    norms: list[eqx.nn.GroupNorm]
    convolutions: list[eqx.nn.Conv2d]

    def __init__(self, channels: int, *, key: Array) -> None:
        self.norms = [eqx.nn.GroupNorm(NORM_GROUPS, channels) for _ in range(2)]
        self.convolutions = [
            eqx.nn.Conv2d(channels, channels, 3, padding=1, use_bias=False, key=k)
            for k in jax.random.split(key)
        ]

    def __call__(self, x: Array) -> Array:
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(jax.nn.relu(norm(y)))
        return x + y


class ResidualCNN(eqx.Module):
    """Stages of one residual block each, halving the image between them; ``hidden`` are channels.

    Group normalisation needs no running statistics, so that the model stays a pure function.
    """

    entries: list[eqx.nn.Conv2d]
    blocks: list[ResidualBlock]
    readout: eqx.nn.Linear

    def __init__(self, hidden: Sequence[int], *, key: Array) -> None:
        entry_key, block_key, readout_key = jax.random.split(key, 3)
        channels = [1, *hidden]
        entry_keys = jax.random.split(entry_key, len(hidden))
        self.entries = [
            eqx.nn.Conv2d(
                channels[i], channels[i + 1], 3, stride=min(i + 1, 2), padding=1, key=entry_keys[i]
            )
            for i in range(len(hidden))
        ]
        block_keys = jax.random.split(block_key, len(hidden))
        self.blocks = [ResidualBlock(c, key=k) for c, k in zip(hidden, block_keys, strict=True)]
        self.readout = eqx.nn.Linear(channels[-1], CLASSES, key=readout_key)

    def __call__(self, image: Array) -> Array:
        x = image
        for entry, block in zip(self.entries, self.blocks, strict=True):
            x = block(entry(x))
        return self.readout(jax.nn.relu(x).mean(axis=(1, 2)))


class TransformerBlock(eqx.Module):
    """Self-attention and a feed-forward layer, each normalised first and added to its input."""

    attention_norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    forward_norm: eqx.nn.LayerNorm
    expand: eqx.nn.Linear
    contract: eqx.nn.Linear

    def __init__(self, hidden: int, *, key: Array) -> None:
        attention_key, expand_key, contract_key = jax.random.split(key, 3)
        self.attention_norm = eqx.nn.LayerNorm(TOKEN_WIDTH)
        self.attention = eqx.nn.MultiheadAttention(HEADS, TOKEN_WIDTH, key=attention_key)
        self.forward_norm = eqx.nn.LayerNorm(TOKEN_WIDTH)
        self.expand = eqx.nn.Linear(TOKEN_WIDTH, hidden, key=expand_key)
        self.contract = eqx.nn.Linear(hidden, TOKEN_WIDTH, key=contract_key)

    def __call__(self, tokens: Array) -> Array:
        x = jax.vmap(self.attention_norm)(tokens)
        tokens = tokens + self.attention(x, x, x)
        x = jax.vmap(self.forward_norm)(tokens)
        return tokens + jax.vmap(self.contract)(jax.nn.gelu(jax.vmap(self.expand)(x)))


class Transformer(eqx.Module):
    """Rows are tokens; ``hidden`` are the widths of the blocks' feed-forward layers."""

    embed: eqx.nn.Linear
    positions: Array
    blocks: list[TransformerBlock]
    norm: eqx.nn.LayerNorm
    readout: eqx.nn.Linear

    def __init__(self, hidden: Sequence[int], *, key: Array) -> None:
        embed_key, position_key, readout_key, *keys = jax.random.split(key, 3 + len(hidden))
        self.embed = eqx.nn.Linear(SIZE, TOKEN_WIDTH, key=embed_key)
        self.positions = 0.1 * jax.random.normal(position_key, (SIZE, TOKEN_WIDTH))
        self.blocks = [TransformerBlock(h, key=k) for h, k in zip(hidden, keys, strict=True)]
        self.norm = eqx.nn.LayerNorm(TOKEN_WIDTH)
        self.readout = eqx.nn.Linear(TOKEN_WIDTH, CLASSES, key=readout_key)

    def __call__(self, image: Array) -> Array:
        tokens = jax.vmap(self.embed)(image[0]) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        return self.readout(self.norm(tokens.mean(axis=0)))


MODELS: dict[str, tuple[Callable[..., eqx.Module], tuple[int, ...]]] = {
    "mlp": (MLP, (512, 256)),
    "cnn": (CNN, (16, 32)),
    "gru": (GRU, (128,)),
    "residual": (ResidualCNN, (16, 32)),
    "transformer": (Transformer, (64, 64)),
}
"""Model and default ``hidden`` by name."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model split into what learns and what does not.

    ``apply(params, images)`` maps images of shape (n, 1, 8, 8) to logits of shape (n, 10).
    """

    params: Params
    apply: Callable[[Params, Array], Array]


def build(name: str, hidden: Sequence[int], seed: int) -> Model:
    """Initialise the model ``name`` from ``seed``; an empty ``hidden`` stands for its default.

    Raises:
        ValueError: if there is no such model, or ``hidden`` does not fit it.
    """
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; models: {', '.join(MODELS)}")
    make, default = MODELS[name]
    hidden = tuple(hidden) or default
    if min(hidden) < 1:
        raise ValueError(f"hidden sizes must be positive, got {hidden}")
    if make is ResidualCNN and any(channels % NORM_GROUPS for channels in hidden):
        raise ValueError(f"residual needs channels that {NORM_GROUPS} divides, got {hidden}")
    module = make(hidden, key=jax.random.key(seed))
    params, static = eqx.partition(module, eqx.is_inexact_array)

    def apply(params: Params, images: Array) -> Array:
        return jax.vmap(eqx.combine(params, static))(images)

    return Model(params, apply)
