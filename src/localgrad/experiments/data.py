"""The handwritten digits that scikit-learn carries, and batches of them."""

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits as sklearn_digits
from sklearn.model_selection import train_test_split

TEST_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Digits:
    """1,797 images of the ten digits, split into a training and a test set.

    Images are float32 of shape (n, 1, 8, 8): one channel, rows, columns, in [0, 1].
    Labels are int32 of shape (n,), from 0 to 9.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_digits(seed: int) -> Digits:
    """Load the digits; a fifth of each class, drawn from ``seed``, is held out as the test set."""
    bunch = sklearn_digits()
    images = (bunch.images / 16.0).astype(np.float32)[:, None, :, :]
    labels = bunch.target.astype(np.int32)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=TEST_FRACTION, stratify=labels, random_state=seed
    )
    return Digits(train_images, train_labels, test_images, test_labels)


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
    order = np.random.default_rng((seed, epoch)).permutation(examples)
    return order[position * batch_size : (position + 1) * batch_size]
