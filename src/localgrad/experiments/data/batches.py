"""Batches: which examples each of them has."""

import numpy as np


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """How many whole batches an epoch has. The examples left over wait for another epoch.

    Raises:
        ValueError: if not one whole batch can be drawn.
    """
    if not 1 <= batch_size <= examples:
        raise ValueError(
            f"a batch of {batch_size} cannot be drawn from {examples} training examples; "
            f"choose a batch size from 1 to {examples}"
        )
    return examples // batch_size


def batch_indices(seed: int, step: int, examples: int, batch_size: int) -> np.ndarray:
    """The examples of batch number ``step``: a pure function of its arguments.

    Every epoch visits the examples in an order of its own, without repetition.
    Returns ``batch_size`` indices below ``examples``.
    """
    epoch, position = divmod(step, steps_per_epoch(examples, batch_size))
    return order(seed, epoch, examples)[position * batch_size : (position + 1) * batch_size]


def order(seed: int, epoch: int, examples: int) -> np.ndarray:
    """The order in which an epoch visits the examples: a pure function of its arguments."""
    return np.random.default_rng((seed, epoch)).permutation(examples)
