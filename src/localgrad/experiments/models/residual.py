"""Residual networks: a small one that normalises first, and ResNet-18 for small images.

Group normalisation stands where batch normalisation stood: it needs no running statistics, and no
unit reads the other examples of the batch.
"""

from collections.abc import Sequence
from itertools import pairwise

import equinox as eqx
import jax
from jax import Array

import localgrad as lg
from localgrad.experiments.models.needs import need, need_images

GROUP = 16
"""Channels that are normalised together; all of them where 16 does not divide their number."""


class ResidualBlock(eqx.Module):
    """Two normalised 3 x 3 convolutions around a skip connection."""

    norms: list[eqx.nn.GroupNorm]
    convolutions: list[eqx.nn.Conv2d]

    def __init__(self, channels: int, *, key: Array) -> None:
        self.norms = [_norm(channels) for _ in range(2)]
        self.convolutions = [_convolution(channels, channels, key=k) for k in jax.random.split(key)]

    def __call__(self, x: Array, name: str) -> Array:
        first, second = zip(self.norms, self.convolutions, strict=True)
        y = lg.vertex(_sum_of(first, x), f"{name}.convolutions[0]")
        return lg.vertex(x + _sum_of(second, y), name)


class ResidualCNN(eqx.Module):
    """Stages of one residual block each, halving the image between them; ``hidden`` are channels.

    Value nodes: the sums of the convolutions; of a block's last one, with the skip connection.
    """

    entries: list[eqx.nn.Conv2d]
    blocks: list[ResidualBlock]
    readout: eqx.nn.Linear

    def __init__(
        self, hidden: Sequence[int], shape: Sequence[int], classes: int, *, key: Array
    ) -> None:
        channels, _, _ = need_images("residual", shape)
        entry_key, block_key, readout_key = jax.random.split(key, 3)
        entry_keys = jax.random.split(entry_key, len(hidden))
        self.entries = [
            eqx.nn.Conv2d(a, b, 3, stride=1 if i == 0 else 2, padding=1, key=entry_keys[i])
            for i, (a, b) in enumerate(pairwise([channels, *hidden]))
        ]
        block_keys = jax.random.split(block_key, len(hidden))
        self.blocks = [ResidualBlock(c, key=k) for c, k in zip(hidden, block_keys, strict=True)]
        self.readout = eqx.nn.Linear(hidden[-1], classes, key=readout_key)

    def __call__(self, image: Array) -> Array:
        x = image
        for k, (entry, block) in enumerate(zip(self.entries, self.blocks, strict=True)):
            with jax.named_scope(f"block {k + 1}"):
                x = block(lg.vertex(entry(x), f"entries[{k}]"), f"blocks[{k}]")
        return self.readout(jax.nn.relu(x).mean(axis=(1, 2)))


class BasicBlock(eqx.Module):
    """ResNet's block: two 3 x 3 convolutions, each normalised, added to the input.

    The input and the output are sums, before the activation.
    """

    convolutions: list[eqx.nn.Conv2d]
    norms: list[eqx.nn.GroupNorm]
    shortcut: eqx.nn.Sequential

    def __init__(self, into: int, channels: int, stride: int, *, key: Array) -> None:
        keys = jax.random.split(key, 3)
        self.convolutions = [
            _convolution(into, channels, stride, key=keys[0]),
            _convolution(channels, channels, key=keys[1]),
        ]
        self.norms = [_norm(channels) for _ in range(2)]
        project = eqx.nn.Conv2d(into, channels, 1, stride, use_bias=False, key=keys[2])
        is_same = (into, 1) == (channels, stride)
        self.shortcut = eqx.nn.Sequential([] if is_same else [project, _norm(channels)])

    def __call__(self, x: Array, name: str) -> Array:
        x = jax.nn.relu(x)
        (first, second), (norm, last_norm) = self.convolutions, self.norms
        y = jax.nn.relu(lg.vertex(norm(first(x)), f"{name}.convolutions[0]"))
        return lg.vertex(self.shortcut(x) + last_norm(second(y)), name)


class ResNet18(eqx.Module):
    """ResNet-18 with the stem for small images: 3 x 3, nothing pooled before the blocks.

    ``hidden`` are the channels of the four stages. Value nodes: the normalised sums of the
    convolutions; of a block's last one, with the skip connection.
    """

    stem: eqx.nn.Conv2d
    norm: eqx.nn.GroupNorm
    blocks: list[BasicBlock]
    readout: eqx.nn.Linear

    def __init__(
        self, hidden: Sequence[int], shape: Sequence[int], classes: int, *, key: Array
    ) -> None:
        need(len(hidden) == 4, f"hidden needs four numbers of channels for resnet18, got {hidden}")
        channels, _, _ = need_images("resnet18", shape, 8)
        keys = iter(jax.random.split(key, 10))
        self.stem = _convolution(channels, hidden[0], key=next(keys))
        self.norm = _norm(hidden[0])
        self.blocks = []
        for stage, (into, width) in enumerate(pairwise([hidden[0], *hidden])):
            stride = 1 if stage == 0 else 2
            self.blocks += [
                BasicBlock(into, width, stride, key=next(keys)),
                BasicBlock(width, width, 1, key=next(keys)),
            ]
        self.readout = eqx.nn.Linear(hidden[-1], classes, key=next(keys))

    def __call__(self, image: Array) -> Array:
        x = lg.vertex(self.norm(self.stem(image)), "stem")
        for k, block in enumerate(self.blocks):
            with jax.named_scope(f"block {k + 1}"):
                x = block(x, f"blocks[{k}]")
        return self.readout(jax.nn.relu(x).mean(axis=(1, 2)))


def _convolution(into: int, out: int, stride: int = 1, *, key: Array) -> eqx.nn.Conv2d:
    return eqx.nn.Conv2d(into, out, 3, stride, padding=1, use_bias=False, key=key)


def _norm(channels: int) -> eqx.nn.GroupNorm:
    return eqx.nn.GroupNorm(1 if channels % GROUP else channels // GROUP, channels)


def _sum_of(layer: tuple[eqx.nn.GroupNorm, eqx.nn.Conv2d], x: Array) -> Array:
    norm, convolution = layer
    return convolution(jax.nn.relu(norm(x)))
