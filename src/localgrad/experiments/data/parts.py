"""The training and the test part, and what labels have to be."""

from pathlib import Path

import numpy as np

from localgrad.experiments.data.dataset import DataError

TEST_FRACTION = 0.2

Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Training inputs and labels, test inputs and labels."""


def held_out(inputs: np.ndarray, labels: np.ndarray, seed: int) -> Parts:
    """Hold out a fifth of each class, drawn from ``seed``, as the test part."""
    from sklearn.model_selection import train_test_split  # slow to import

    train_inputs, test_inputs, train_labels, test_labels = train_test_split(
        inputs,
        labels.astype(np.int32),
        test_size=TEST_FRACTION,
        stratify=labels,
        random_state=seed,
    )
    return train_inputs, train_labels, test_inputs, test_labels


def checked_labels(labels: np.ndarray, count: int, classes: int, file: Path) -> np.ndarray:
    """The labels as int32, once there is one for each of ``count`` inputs and all are classes.

    Raises:
        DataError: if they are not.
    """
    if len(labels) != count:
        raise DataError(
            f"{len(labels):,} labels for {count:,} images", file, "get both files anew, of one set"
        )
    if count == 0:
        raise DataError("no examples at all", file, "get the file anew")
    if (strange := labels[~np.isin(labels, np.arange(classes))]).size:
        raise DataError(
            f"a label {strange[0]}, where whole numbers from 0 to {classes - 1} were expected",
            file,
            "get the file anew, or choose the data set that it belongs to",
        )
    return labels.astype(np.int32)


def fewer(train: np.ndarray, all_train: int, test: np.ndarray, all_test: int) -> str:
    """What is missing where fewer labels than there are in all were found; else empty."""
    found = ((train, all_train, "training"), (test, all_test, "test"))
    return ", ".join(
        f"{len(labels):,} of {count:,} {part} inputs"
        for labels, count, part in found
        if len(labels) < count
    )
