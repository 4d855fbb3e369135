"""Any classification set of OpenML, through scikit-learn and its cache."""

import math
from typing import Any

import numpy as np

from localgrad.experiments.data.dataset import DataError, Dataset
from localgrad.experiments.data.parts import held_out

SMALLEST_IMAGE = 8


def load_openml(name: str, folder: str | None, seed: int) -> Dataset:
    """The set ``openml:NAME``, ``openml:NAME:VERSION`` or ``openml:NUMBER``.

    scikit-learn keeps what it has fetched once, in ``folder`` or in its own cache. A fifth of each
    class, drawn from ``seed``, is the test set. Features that can only be pixels become images.
    """
    from sklearn.datasets import fetch_openml  # slow to import

    wanted, _, version = name.removeprefix("openml:").partition(":")
    try:
        bunch = fetch_openml(
            **{"data_id": int(wanted)} if wanted.isdecimal() else {"name": wanted},
            **{"version": int(version)} if version else {},
            data_home=folder,
            as_frame=False,
            parser="liac-arff",
        )
    except Exception as error:  # the network, the cache, the file's format: almost anything
        raise DataError(
            f"{name} cannot be had from OpenML: {type(error).__name__}: {error}",
            folder or "scikit-learn's cache of data sets",
            "check the name and the network; a set that was fetched once needs none",
        ) from error
    _check_target(name, bunch)
    classes, labels = np.unique(bunch.target, return_inverse=True)
    features = bunch.data.toarray() if hasattr(bunch.data, "toarray") else bunch.data
    _check_range(name, bunch, features)
    categories = [k for k, key in enumerate(bunch.feature_names) if key in bunch.categories]
    try:
        train, train_labels, test, test_labels = held_out(features, labels, seed)
    except ValueError as error:
        raise DataError(
            f"{name} cannot be split by class: {error}", bunch.url, "choose another set"
        ) from error
    side = _side(features) if not categories else None
    if side is not None:
        scale = 255.0 / features.max()
        train, test = (
            np.rint(scale * x).astype(np.uint8).reshape(-1, *side) for x in (train, test)
        )
    else:
        train, test = _table(train, test, categories)
    return Dataset(
        name,
        train,
        train_labels,
        test,
        test_labels,
        shape=train.shape[1:],
        classes=len(classes),
        class_names=tuple(map(str, classes)),
        description=f"{bunch.details['name']}, version {bunch.details['version']}, of OpenML.",
    )


def _check_target(name: str, bunch: Any) -> None:
    """See to it that there is one column of classes, with one in every row.

    Raises:
        DataError: if there is not.
    """
    from sklearn.utils.multiclass import type_of_target  # slow to import

    target = bunch.target
    if target is not None and target.dtype.kind == "f" and not np.isfinite(target).all():
        met = f"not every row of {name} has a class: some are missing or infinite"
        raise DataError(met, bunch.url, "choose another set")
    if target is None or type_of_target(target) not in ("binary", "multiclass"):
        met = f"{name} has no single column of classes to learn"
        raise DataError(met, bunch.url, "choose another set")


def _check_range(name: str, bunch: Any, features: np.ndarray) -> None:
    """See to it that single precision can hold the numbers, and double precision their variance.

    Raises:
        DataError: if it cannot.
    """
    largest = np.finfo(np.float32).max
    for column, values in zip(bunch.feature_names, features.T, strict=True):
        if (beyond := values[np.abs(values) > largest]).size:
            met = f"{beyond[0]:g} in column {column!r} of {name}, more than {largest:.2g} in size"
            raise DataError(met, bunch.url, "choose another set")


def _side(features: np.ndarray) -> tuple[int, int, int] | None:
    """The shape of the image that a row is, if it can only be one.

    So many features that they fill a square, in one colour or in three after each other, all of
    them whole numbers from 0 to 255.
    """
    for channels in (1, 3):
        side = math.isqrt(features.shape[1] // channels)
        if side >= SMALLEST_IMAGE and channels * side * side == features.shape[1]:
            is_bytes = (features >= 0) & (features <= 255) & (features == np.rint(features))
            return (channels, side, side) if is_bytes.all() and features.any() else None
    return None


def _table(
    train: np.ndarray, test: np.ndarray, categories: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers with mean 0 and variance 1, what is missing at the mean; categories one-hot.

    All of it as the training part has it. Of shape (n, 1, 1, features).
    """
    from sklearn.compose import ColumnTransformer  # slow to import
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("categories", encoder, categories)], remainder=numbers)
    columns.fit(train)
    train, test = (columns.transform(x).astype(np.float32)[:, None, None] for x in (train, test))
    return train, test
