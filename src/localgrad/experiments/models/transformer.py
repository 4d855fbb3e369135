"""Transformers: an encoder that classifies images, a decoder that predicts the next character.

``hidden`` are the widths of the blocks' feed-forward layers; tokens are a quarter of the widest one
wide. Value nodes: every sum that weights make, that is the queries, the keys, the values, the
hidden layer, and the residual stream once attention, and once the feed-forward layer, is added.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

import localgrad as lg
from localgrad.experiments.models.needs import need, need_images, need_text

HEADS = 4
PATCH = 4
SCALE = 0.5
"""Of positions and embedded characters: normalising tokens far below 1 makes inference stiff."""


class TransformerBlock(eqx.Module):
    """Self-attention and a feed-forward layer, each normalised first and added to its input."""

    attention_norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    forward_norm: eqx.nn.LayerNorm
    expand: eqx.nn.Linear
    contract: eqx.nn.Linear

    def __init__(self, width: int, hidden: int, *, key: Array) -> None:
        attention_key, expand_key, contract_key = jax.random.split(key, 3)
        self.attention_norm = eqx.nn.LayerNorm(width)
        self.attention = eqx.nn.MultiheadAttention(HEADS, width, key=attention_key)
        self.forward_norm = eqx.nn.LayerNorm(width)
        self.expand = eqx.nn.Linear(width, hidden, key=expand_key)
        self.contract = eqx.nn.Linear(hidden, width, key=contract_key)

    def __call__(self, stream: Array, mask: Array | None, name: str) -> Array:
        def mark(query: Array, key: Array, value: Array) -> tuple[Array, Array, Array]:
            return (
                lg.vertex(query, f"{name}.query"),
                lg.vertex(key, f"{name}.key"),
                lg.vertex(value, f"{name}.value"),
            )

        x = jax.vmap(self.attention_norm)(stream)
        attended = self.attention(x, x, x, mask, process_heads=mark)
        stream = lg.vertex(stream + attended, f"{name}.attention")
        x = jax.vmap(self.expand)(jax.vmap(self.forward_norm)(stream))
        x = jax.nn.gelu(lg.vertex(x, f"{name}.expand"))
        return lg.vertex(stream + jax.vmap(self.contract)(x), name)


class Encoder(eqx.Module):
    """A vision transformer: square patches of the image are tokens, their mean is read out."""

    embed: eqx.nn.Linear
    positions: Array
    blocks: list[TransformerBlock]
    norm: eqx.nn.LayerNorm
    readout: eqx.nn.Linear

    def __init__(
        self, hidden: Sequence[int], shape: Sequence[int], classes: int, *, key: Array
    ) -> None:
        channels, rows, columns = need_images("transformer", shape, PATCH)
        need(
            rows % PATCH == 0 and columns % PATCH == 0,
            f"transformer cuts images into patches of {PATCH} x {PATCH} pixels, which do not fill "
            f"{rows} x {columns}; choose other data or another model",
        )
        width = _token_width(hidden)
        tokens = (rows // PATCH) * (columns // PATCH)
        embed_key, position_key, readout_key, *keys = jax.random.split(key, 3 + len(hidden))
        self.embed = eqx.nn.Linear(channels * PATCH**2, width, key=embed_key)
        self.positions = SCALE * jax.random.normal(position_key, (tokens, width))
        self.blocks = [TransformerBlock(width, h, key=k) for h, k in zip(hidden, keys, strict=True)]
        self.norm = eqx.nn.LayerNorm(width)
        self.readout = eqx.nn.Linear(width, classes, key=readout_key)

    def __call__(self, image: Array) -> Array:
        tokens = jax.vmap(self.embed)(_patches(image)) + self.positions
        stream = _through(self.blocks, lg.vertex(tokens, "embed"), None)
        return self.readout(self.norm(stream.mean(axis=0)))


class Decoder(eqx.Module):
    """A character model: each position attends to those before it and predicts the next one."""

    embed: Array
    positions: Array
    blocks: list[TransformerBlock]
    norm: eqx.nn.LayerNorm
    readout: eqx.nn.Linear

    def __init__(
        self, hidden: Sequence[int], shape: Sequence[int], classes: int, *, key: Array
    ) -> None:
        length = need_text("decoder", shape)
        width = _token_width(hidden)
        embed_key, position_key, readout_key, *keys = jax.random.split(key, 3 + len(hidden))
        self.embed = SCALE * jax.random.normal(embed_key, (classes, width))
        self.positions = SCALE * jax.random.normal(position_key, (length, width))
        self.blocks = [TransformerBlock(width, h, key=k) for h, k in zip(hidden, keys, strict=True)]
        self.norm = eqx.nn.LayerNorm(width)
        self.readout = eqx.nn.Linear(width, classes, key=readout_key)

    def __call__(self, characters: Array) -> Array:
        length = len(characters)
        stream = lg.vertex(self.embed[characters] + self.positions, "embed")
        stream = _through(self.blocks, stream, jnp.tri(length, dtype=bool))
        return jax.vmap(self.readout)(jax.vmap(self.norm)(stream))


def _token_width(hidden: Sequence[int]) -> int:
    """A quarter of the widest feed-forward layer, as the heads can share it."""
    return max(1, max(hidden) // 4 // HEADS) * HEADS


def _through(blocks: list[TransformerBlock], stream: Array, mask: Array | None) -> Array:
    for k, block in enumerate(blocks):
        with jax.named_scope(f"block {k + 1}"):
            stream = block(stream, mask, f"blocks[{k}]")
    return stream


def _patches(image: Array) -> Array:
    """Square patches of an image, row by row: (patches, channels * PATCH * PATCH)."""
    channels, rows, columns = image.shape
    image = image.reshape(channels, rows // PATCH, PATCH, columns // PATCH, PATCH)
    return image.transpose(1, 3, 0, 2, 4).reshape(-1, channels * PATCH**2)
