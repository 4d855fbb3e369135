"""A text file, cut into pieces for models that predict the next character."""

from pathlib import Path

import numpy as np

from localgrad.experiments.data.dataset import DataError, Dataset
from localgrad.experiments.data.files import read
from localgrad.experiments.data.parts import TEST_FRACTION

LENGTH = 50
"""Characters in a piece."""
FEWEST_PIECES = 5


def load_text(name: str, folder: str | None, seed: int) -> Dataset:
    """The text file ``text:PATH``, in UTF-8; a relative path starts at ``folder``, if one is given.

    Pieces of 50 characters follow each other, and the label of each character is the one after it.
    The last fifth of the text is the test part.
    """
    file = Path(folder or "").expanduser() / Path(name.removeprefix("text:")).expanduser()
    if not file.is_file():
        raise DataError("there is no such file", file, "name a text file, as text:PATH")
    try:
        text = read(file).decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"this is no text in UTF-8: {error.reason} at byte {error.start:,}",
            file,
            "save the text in UTF-8",
        ) from error
    count = (len(text) - 1) // LENGTH
    if count < FEWEST_PIECES:
        raise DataError(
            f"{len(text):,} characters, where {FEWEST_PIECES * LENGTH + 1} at least were expected",
            file,
            "name a longer text",
        )
    characters = sorted(set(text))
    codes = np.searchsorted(characters, list(text)).astype(np.int32)
    inputs = codes[: count * LENGTH].reshape(count, LENGTH)
    labels = codes[1 : count * LENGTH + 1].reshape(count, LENGTH)
    train = count - round(count * TEST_FRACTION)
    return Dataset(
        name,
        inputs[:train],
        labels[:train],
        inputs[train:],
        labels[train:],
        shape=(LENGTH,),
        classes=len(characters),
        class_names=tuple(characters),
        description=f"The {len(text):,} characters of {file.name}.",
    )
