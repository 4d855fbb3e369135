"""The losses of the papers, by name."""

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


def squared_sum(outputs: Array, labels: Array) -> Array:
    """Sum over the batch of the squared distance between ``outputs`` and the labels.

    The gradient is that of `squared` times twice the number of examples. How large it is against
    the activities matters where inference starts from these (Millidge et al. 2020, AR).
    """
    return 2 * labels.size * squared(outputs, labels)


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "squared": squared,
    "squared-sum": squared_sum,
    "squared-softmax": squared_softmax,
}
