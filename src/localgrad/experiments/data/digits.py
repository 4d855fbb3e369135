"""The handwritten digits that scikit-learn carries."""

import numpy as np

from localgrad.experiments.data.dataset import Dataset
from localgrad.experiments.data.parts import held_out


def load_digits(name: str, folder: str | None, seed: int) -> Dataset:
    """1,797 images of 8 x 8 pixels; a fifth of each class, drawn from ``seed``, is the test set."""
    from sklearn import datasets  # slow to import

    bunch = datasets.load_digits()
    images = (bunch.images / 16.0).astype(np.float32)[:, None, :, :]
    return Dataset(
        name,
        *held_out(images, bunch.target, seed),
        shape=(1, 8, 8),
        classes=10,
        class_names=tuple("0123456789"),
        description="Handwritten digits of the UCI repository, as scikit-learn carries them.",
    )
