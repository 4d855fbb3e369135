"""Data sets: the digits of scikit-learn, files of the usual image sets, OpenML, and text.

One file per format. `load` gives a `Dataset`, `batch_indices` its batches.
"""

from os import PathLike, fspath

from localgrad.experiments.data.batches import batch_indices, order, steps_per_epoch
from localgrad.experiments.data.cifar import load_cifar
from localgrad.experiments.data.dataset import DataError, Dataset, Load
from localgrad.experiments.data.digits import load_digits
from localgrad.experiments.data.idx import load_idx
from localgrad.experiments.data.openml import load_openml
from localgrad.experiments.data.svhn import load_svhn
from localgrad.experiments.data.text import load_text
from localgrad.experiments.names import suggest

__all__ = [
    "DATASETS",
    "FAMILIES",
    "DataError",
    "Dataset",
    "batch_indices",
    "load",
    "order",
    "steps_per_epoch",
]

DATASETS: dict[str, Load] = {
    "digits": load_digits,
    "mnist": load_idx,
    "fashion-mnist": load_idx,
    "cifar10": load_cifar,
    "cifar100": load_cifar,
    "svhn": load_svhn,
}
"""How to load the sets that have a name of their own."""

FAMILIES: dict[str, Load] = {"openml": load_openml, "text": load_text}
"""How to load the sets that are named ``family:NAME``."""


def load(name: str, folder: str | PathLike[str] | None = None, seed: int = 0) -> Dataset:
    """Load a data set, with a training and a test part.

    Args:
        name: A key of `DATASETS`; ``openml:NAME``, ``openml:NAME:VERSION`` or ``openml:NUMBER``;
            or ``text:PATH``.
        folder: Where the set's files are: the folder itself, or one that has them in a folder of
            the usual name. ``digits`` needs none. For OpenML the cache, scikit-learn's own if
            None. For a text where a relative path starts.
        seed: Draws the test part of a set that has none of its own: ``digits``, and OpenML's.

    Returns:
        The set. Arrays share no memory with any other one that was loaded.

    Raises:
        DataError: a ValueError, if there is no such set, or its files are missing, damaged or of
            another set. It says what was met, in which file, and what to do.

    Example:
        >>> from localgrad.experiments.data import load
        >>> load("digits")
        digits: 1,437 training and 360 test inputs of shape (1, 8, 8), 10 classes
    """
    family, colon, rest = name.partition(":")
    loader = (FAMILIES if colon and rest else DATASETS).get(family)
    if loader is None:
        names = [*DATASETS, "openml:NAME", "text:PATH"]
        raise DataError(
            f"there is no data set {name!r}",
            "the name of the data set",
            suggest(name, names),
        )
    return loader(name, None if folder is None else fspath(folder), seed)
