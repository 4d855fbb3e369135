"""Multilayer perceptrons: the classical networks of predictive coding."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

import localgrad as lg
from localgrad.experiments.models.needs import need_images

PUBLISHED_SCALE = 0.05


class MLP(eqx.Module):
    """Fully connected layers with ReLU; ``hidden`` are their widths.

    Value nodes: the sums of the hidden layers, before the activation.
    """

    layers: list[eqx.nn.Linear]

    def __init__(
        self, hidden: Sequence[int], shape: Sequence[int], classes: int, *, key: Array
    ) -> None:
        channels, rows, columns = need_images("mlp", shape)
        self.layers = _layers([channels * rows * columns, *hidden, classes], key)

    def __call__(self, image: Array) -> Array:
        x = image.ravel()
        for k, layer in enumerate(self.layers[:-1]):
            x = jax.nn.relu(lg.vertex(layer(x), f"layers[{k}]"))
        return self.layers[-1](x)


class PublishedMLP(eqx.Module):
    """The perceptron of activation relaxation; ``hidden`` are its widths.

    Weights are N(0, .05^2) and biases zero, as published. Value nodes: the outputs of the
    activation, for there a unit and its activity are one.
    """

    layers: list[eqx.nn.Linear]
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
        channels, rows, columns = need_images("mlp-ar", shape)
        layers = _layers([channels * rows * columns, *hidden, classes], key)
        keys = jax.random.split(key, len(layers))
        self.layers = [_published(layer, k) for layer, k in zip(layers, keys, strict=True)]
        self.activation = activation

    def __call__(self, image: Array) -> Array:
        x = image.ravel()
        for k, layer in enumerate(self.layers[:-1]):
            x = lg.vertex(self.activation(layer(x)), f"layers[{k}]")
        return self.layers[-1](x)


def _layers(widths: Sequence[int], key: Array) -> list[eqx.nn.Linear]:
    keys = jax.random.split(key, len(widths) - 1)
    return [eqx.nn.Linear(a, b, key=k) for (a, b), k in zip(pairwise(widths), keys, strict=True)]


def _published(layer: eqx.nn.Linear, key: Array) -> eqx.nn.Linear:
    drawn = (
        PUBLISHED_SCALE * jax.random.normal(key, layer.weight.shape),
        jnp.zeros(layer.out_features),
    )
    return eqx.tree_at(lambda x: (x.weight, x.bias), layer, drawn)
