"""Convolutional networks: a small one, those of the papers, and AlexNet."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import equinox as eqx
import jax
from jax import Array

import localgrad as lg
from localgrad.experiments.models.needs import need, need_images

POOLED = (0, 1, 4)
"""The convolutions of AlexNet that a pool follows."""


class CNN(eqx.Module):
    """3 x 3 convolutions with ReLU, 2 x 2 max-pooling after the first; ``hidden`` are channels.

    Value nodes: the sums of the convolutions, before the activation.
    """

    convolutions: list[eqx.nn.Conv2d]
    pool: eqx.nn.MaxPool2d
    readout: eqx.nn.Linear

    def __init__(
        self, hidden: Sequence[int], shape: Sequence[int], classes: int, *, key: Array
    ) -> None:
        channels, rows, columns = need_images("cnn", shape, 2)
        *keys, readout_key = jax.random.split(key, 1 + len(hidden))
        self.convolutions = [
            eqx.nn.Conv2d(a, b, 3, padding=1, key=k)
            for (a, b), k in zip(pairwise([channels, *hidden]), keys, strict=True)
        ]
        self.pool = eqx.nn.MaxPool2d(2, 2)
        features = hidden[-1] * (rows // 2) * (columns // 2)
        self.readout = eqx.nn.Linear(features, classes, key=readout_key)

    def __call__(self, image: Array) -> Array:
        x = image
        for k, convolution in enumerate(self.convolutions):
            x = jax.nn.relu(lg.vertex(convolution(x), f"convolutions[{k}]"))
            x = self.pool(x) if k == 0 else x
        return self.readout(x.ravel())


class PublishedCNN(eqx.Module):
    """5 x 5 convolution, 2 x 2 max-pooling, 5 x 5 convolution, dense layers, nothing padded.

    ``hidden`` are the channels of the two convolutions and the widths of the dense layers. Value
    nodes: the outputs of the activation, as in the papers.
    """

    convolutions: list[eqx.nn.Conv2d]
    pool: eqx.nn.MaxPool2d
    dense: list[eqx.nn.Linear]
    readout: eqx.nn.Linear
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self,
        hidden: Sequence[int],
        shape: Sequence[int],
        classes: int,
        *,
        key: Array,
        activation: Callable[[Array], Array],
    ) -> None:
        need(len(hidden) >= 2, f"hidden needs two numbers of channels at least, got {hidden}")
        channels, rows, columns = need_images("this network", shape, 14)
        first, second, *widths = hidden
        keys = iter(jax.random.split(key, len(hidden) + 1))
        self.convolutions = [
            eqx.nn.Conv2d(channels, first, 5, key=next(keys)),
            eqx.nn.Conv2d(first, second, 5, key=next(keys)),
        ]
        self.pool = eqx.nn.MaxPool2d(2, 2)
        height, width = ((side - 4) // 2 - 4 for side in (rows, columns))
        sizes = [second * height * width, *widths]
        self.dense = [eqx.nn.Linear(a, b, key=next(keys)) for a, b in pairwise(sizes)]
        self.readout = eqx.nn.Linear(sizes[-1], classes, key=next(keys))
        self.activation = activation

    def __call__(self, image: Array) -> Array:
        first, second = self.convolutions
        x = lg.vertex(self.activation(first(image)), "convolutions[0]")
        x = lg.vertex(self.activation(second(self.pool(x))), "convolutions[1]").ravel()
        for k, layer in enumerate(self.dense):
            x = lg.vertex(self.activation(layer(x)), f"dense[{k}]")
        return self.readout(x)


class AlexNet(eqx.Module):
    """AlexNet for small images: five 3 x 3 convolutions, three pools, two dense layers, ReLU.

    ``hidden`` are five numbers of channels and two widths. There is no dropout. Value nodes: the
    sums of the layers, before the activation.
    """

    convolutions: list[eqx.nn.Conv2d]
    pool: eqx.nn.MaxPool2d
    dense: list[eqx.nn.Linear]
    readout: eqx.nn.Linear

    def __init__(
        self, hidden: Sequence[int], shape: Sequence[int], classes: int, *, key: Array
    ) -> None:
        need(
            len(hidden) == 7,
            f"hidden needs five numbers of channels and two widths for alexnet, got {hidden}",
        )
        channels, rows, columns = need_images("alexnet", shape, 8)
        keys = iter(jax.random.split(key, 8))
        self.convolutions = [
            eqx.nn.Conv2d(a, b, 3, padding=1, key=next(keys))
            for a, b in pairwise([channels, *hidden[:5]])
        ]
        self.pool = eqx.nn.MaxPool2d(2, 2)
        sizes = [hidden[4] * (rows // 8) * (columns // 8), *hidden[5:]]
        self.dense = [eqx.nn.Linear(a, b, key=next(keys)) for a, b in pairwise(sizes)]
        self.readout = eqx.nn.Linear(sizes[-1], classes, key=next(keys))

    def __call__(self, image: Array) -> Array:
        x = image
        with jax.named_scope("convolutions"):
            for k, convolution in enumerate(self.convolutions):
                x = jax.nn.relu(lg.vertex(convolution(x), f"convolutions[{k}]"))
                x = self.pool(x) if k in POOLED else x
        x = x.ravel()
        with jax.named_scope("dense"):
            for k, layer in enumerate(self.dense):
                x = jax.nn.relu(lg.vertex(layer(x), f"dense[{k}]"))
        return self.readout(x)
