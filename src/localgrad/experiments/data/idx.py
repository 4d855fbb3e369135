"""MNIST and Fashion-MNIST: IDX files, gzipped or not."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from localgrad.experiments.data.dataset import DataError, Dataset
from localgrad.experiments.data.files import need, opened, read
from localgrad.experiments.data.parts import checked_labels, fewer

SHAPE = (1, 28, 28)
UNSIGNED_BYTES = b"\0\0\x08"
GZIP = b"\x1f\x8b"
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
}
INNER = {
    "mnist": ("mnist", "MNIST/raw"),
    "fashion-mnist": ("fashion-mnist", "fashion_mnist", "FashionMNIST/raw"),
}
SOURCES = {
    "mnist": "the four IDX files of MNIST (train-images-idx3-ubyte.gz and so on), by Y. LeCun, "
    "C. Cortes and C. Burges",
    "fashion-mnist": "the four IDX files of Fashion-MNIST (train-images-idx3-ubyte.gz and so on), "
    "by Zalando Research",
}
BEGINS = {
    "train": {
        "mnist": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4),
        "fashion-mnist": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
    },
    "t10k": {
        "mnist": (7, 2, 1, 0, 4, 1, 4, 9, 5, 9),
        "fashion-mnist": (9, 2, 1, 1, 6, 1, 4, 6, 5, 7),
    },
}
"""The first labels of each part. Nothing else tells the two sets' files apart."""


def load_idx(name: str, folder: str | None, seed: int) -> Dataset:
    """MNIST or Fashion-MNIST, by ``name``: 28 x 28 pixels, uint8, with their own test set."""
    folders = opened(name, folder, INNER[name], SOURCES[name])
    train, test = (_part(name, folders, part) for part in ("train", "t10k"))
    return Dataset(
        name,
        *train,
        *test,
        shape=SHAPE,
        classes=len(CLASSES[name]),
        class_names=CLASSES[name],
        description=f"28 x 28 images, from {SOURCES[name]}.",
        partial=fewer(train[1], 60_000, test[1], 10_000),
    )


def _part(name: str, folders: list[Path], part: str) -> tuple[np.ndarray, np.ndarray]:
    images_file, labels_file = (
        need(folders, _spellings(f"{part}-{kind}"), SOURCES[name])
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if images.shape[1:] != SHAPE[1:]:
        raise DataError(
            f"images of {images.shape[1]} x {images.shape[2]} pixels, where 28 x 28 were expected",
            images_file,
            f"get {SOURCES[name]}",
        )
    labels = checked_labels(labels, len(images), len(CLASSES[name]), labels_file)
    for other, begin in BEGINS[part].items():
        if other != name and tuple(labels[: len(begin)]) == begin:
            raise DataError(
                f"these are the labels of {other}, not of {name}",
                labels_file,
                f"choose the data set {other!r}, or get {SOURCES[name]}",
            )
    return images[:, None], labels


def _spellings(name: str) -> list[str]:
    """With a hyphen or a dot, gzipped or not."""
    names = (name, name.replace("-idx", ".idx"))
    return [f"{name}{ending}" for name in names for ending in (".gz", "")]


def read_idx(file: Path, axes: int) -> np.ndarray:
    """An IDX file of unsigned bytes with so many axes, gzipped or not.

    Raises:
        DataError: if it is anything else, or damaged.
    """
    data = read(file)
    if data.startswith(GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged(file, f"the compressed data are damaged: {error}") from error
    header = 4 + 4 * axes
    if data[:4] != UNSIGNED_BYTES + bytes([axes]) or len(data) < header:
        raise _damaged(file, f"this is no IDX file of unsigned bytes with {axes} axes")
    shape = tuple(map(int, np.frombuffer(data, ">u4", axes, 4)))
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise _damaged(
            file, f"{len(data):,} bytes, where {expected:,} were expected for the shape {shape}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _damaged(file: Path, met: str) -> DataError:
    return DataError(met, file, "get the file anew")
