"""CIFAR-10 and CIFAR-100: the binary batches, or the pickled ones for Python."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from localgrad.experiments.data.dataset import DataError, Dataset
from localgrad.experiments.data.files import find, need, opened, read
from localgrad.experiments.data.parts import checked_labels, fewer
from localgrad.experiments.data.pickled import read_pickle

SHAPE = (3, 32, 32)
PIXELS = 3072


class Layout(NamedTuple):
    """How a set is laid out: the batches' names, which have ``.bin`` behind them in the binary one.

    A binary record is ``label_bytes`` bytes, the label the last of them, and the pixels. A pickle
    has the labels under ``labels``. ``names`` hold the classes' names, in a binary and in a
    pickled set.
    """

    classes: int
    train: tuple[str, ...]
    test: str
    label_bytes: int
    labels: str
    names: tuple[str, str]
    inner: tuple[str, ...]
    source: str


LAYOUTS = {
    "cifar10": Layout(
        10,
        tuple(f"data_batch_{k}" for k in range(1, 6)),
        "test_batch",
        1,
        "labels",
        ("batches.meta.txt", "batches.meta"),
        ("cifar-10-batches-bin", "cifar-10-batches-py"),
        "the binary or the Python version of CIFAR-10 (data_batch_1.bin and so on, or "
        "data_batch_1 and so on), by A. Krizhevsky, V. Nair and G. Hinton",
    ),
    "cifar100": Layout(
        100,
        ("train",),
        "test",
        2,
        "fine_labels",
        ("fine_label_names.txt", "meta"),
        ("cifar-100-binary", "cifar-100-python"),
        "the binary or the Python version of CIFAR-100 (train.bin and test.bin, or train and "
        "test), by A. Krizhevsky, V. Nair and G. Hinton",
    ),
}


def load_cifar(name: str, folder: str | None, seed: int) -> Dataset:
    """CIFAR-10 or CIFAR-100, by ``name``: 32 x 32 pixels in three colours, uint8.

    Some of the training batches are enough. CIFAR-100 has its fine labels.
    """
    layout = LAYOUTS[name]
    folders = opened(name, folder, layout.inner, layout.source)
    batches = {part: find(folders, _spellings(part)) for part in layout.train}
    present = [file for file in batches.values() if file is not None]
    if not present:
        need(folders, _spellings(layout.train[0]), layout.source)
    train = [_batch(file, layout) for file in present]
    test = _batch(need(folders, _spellings(layout.test), layout.source), layout)
    inputs, labels = (np.concatenate(arrays) for arrays in zip(*train, strict=True))
    partial = fewer(labels, 50_000, test[1], 10_000)
    if missing := [part for part, file in batches.items() if file is None]:
        partial += f", without {', '.join(missing)}"
    return Dataset(
        name,
        inputs,
        labels,
        *test,
        shape=SHAPE,
        classes=layout.classes,
        class_names=_class_names(folders, layout),
        description=f"32 x 32 images in colour, from {layout.source}.",
        partial=partial,
    )


def _spellings(part: str) -> list[str]:
    return [f"{part}.bin", part]


def _batch(file: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Images of shape (n, 3, 32, 32) and their labels."""
    if file.suffix == ".bin":
        images, labels = _binary(file, layout)
    else:
        images, labels = _pickled(file, layout)
    return images.reshape(-1, *SHAPE), checked_labels(labels, len(images), layout.classes, file)


def _binary(file: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    data = np.frombuffer(read(file), np.uint8)
    record = layout.label_bytes + PIXELS
    if len(data) % record:
        raise DataError(
            f"{len(data):,} bytes, where whole records of {record:,} bytes were expected",
            file,
            "get the file anew",
        )
    records = data.reshape(-1, record)
    return records[:, layout.label_bytes :], records[:, layout.label_bytes - 1]


def _pickled(file: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    batch = read_pickle(file)
    images, labels = batch.get("data"), batch.get(layout.labels)
    if not isinstance(images, np.ndarray) or (images.dtype, images.shape[1:]) != (
        np.uint8,
        (PIXELS,),
    ):
        raise _unlike(file, "data", f"an array of unsigned bytes of shape (n, {PIXELS})", images)
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise _unlike(file, layout.labels, "a list of integers", labels)
    return images, np.asarray(labels)


def _unlike(file: Path, key: str, expected: str, found: Any) -> DataError:
    what = getattr(found, "dtype", ""), getattr(found, "shape", "")
    kind = "nothing" if found is None else " ".join(map(str, (type(found).__name__, *what)))
    return DataError(
        f"under {key!r} {expected} was expected, and {kind.strip()} found",
        file,
        "get the file anew, or choose the data set that it belongs to",
    )


def _class_names(folders: list[Path], layout: Layout) -> tuple[str, ...]:
    """The classes' names, if a file has them, one for each class."""
    file = find(folders, layout.names)
    if file is None:
        return ()
    if file.suffix == ".txt":
        names = tuple(read(file).decode(errors="replace").split())
    else:
        key = layout.labels.replace("labels", "label_names")
        found = read_pickle(file).get(key, [])
        if not isinstance(found, list):
            raise _unlike(file, key, "a list of names", found)
        names = tuple(
            name.decode(errors="replace") if isinstance(name, bytes) else str(name)
            for name in found
        )
    return names if len(names) == layout.classes else ()
