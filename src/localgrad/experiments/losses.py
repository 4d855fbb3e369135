"""The losses of the papers, by name. Each is a mean over the examples of a batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

Loss = Callable[[Array, Array], Array]
"""(outputs of shape (..., classes), integer labels of shape (...)) -> a scalar."""


def cross_entropy(outputs: Array, labels: Array) -> Array:
    """Mean cross-entropy of the softmax of ``outputs``, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def squared(outputs: Array, labels: Array) -> Array:
    """Mean of half the squared distance between ``outputs`` and the labels, 1 among zeros."""
    targets = jax.nn.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)
    return 0.5 * jnp.sum((outputs - targets) ** 2, axis=-1).mean()


def squared_softmax(outputs: Array, labels: Array) -> Array:
    """The same of the softmax of ``outputs``."""
    return squared(jax.nn.softmax(outputs), labels)


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "squared": squared,
    "squared-softmax": squared_softmax,
}
