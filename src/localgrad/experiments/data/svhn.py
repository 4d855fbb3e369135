"""The street view house numbers: cropped digits in MATLAB files."""

from pathlib import Path

import numpy as np

from localgrad.experiments.data.dataset import DataError, Dataset
from localgrad.experiments.data.files import need, opened
from localgrad.experiments.data.parts import checked_labels, fewer

SHAPE = (3, 32, 32)
SOURCE = (
    "train_32x32.mat and test_32x32.mat, the cropped digits of the Street View House Numbers, by "
    "Y. Netzer and others"
)


def load_svhn(name: str, folder: str | None, seed: int) -> Dataset:
    """House numbers: 32 x 32 pixels in three colours, uint8, with their own test set."""
    folders = opened(name, folder, ("svhn", "SVHN"), SOURCE)
    train, test = (
        _part(need(folders, [f"{part}_32x32.mat"], SOURCE)) for part in ("train", "test")
    )
    return Dataset(
        name,
        *train,
        *test,
        shape=SHAPE,
        classes=10,
        class_names=tuple("0123456789"),
        description=f"32 x 32 images in colour, from {SOURCE}.",
        partial=fewer(train[1], 73_257, test[1], 26_032),
    )


def _part(file: Path) -> tuple[np.ndarray, np.ndarray]:
    from scipy.io import loadmat  # slow to import

    try:
        found = loadmat(file, variable_names=("X", "y"))
    except Exception as error:  # a damaged file raises almost anything
        raise DataError(
            f"the MATLAB file cannot be read: {type(error).__name__}: {error}",
            file,
            "get the file anew",
        ) from error
    images, labels = found.get("X"), found.get("y")
    is_images = images is not None and images.dtype == np.uint8 and images.ndim == 4
    is_labels = labels is not None and labels.dtype.kind in "uif"
    if not is_images or images.shape[:3] != (32, 32, 3) or not is_labels:
        raise DataError(
            "X of 32 x 32 x 3 x n unsigned bytes and n numbers y were expected, and "
            f"{', '.join(_described(found)) or 'neither'} found",
            file,
            f"get {SOURCE}",
        )
    labels = np.where(labels.ravel() == 10, 0, labels.ravel())  # 10 stands for the digit 0
    labels = checked_labels(labels, images.shape[3], 10, file)
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels


def _described(found: dict[str, np.ndarray]) -> list[str]:
    return [f"{key} of {found[key].dtype} {found[key].shape}" for key in ("X", "y") if key in found]
