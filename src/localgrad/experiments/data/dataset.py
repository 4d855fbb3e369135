"""What every data set is once it is loaded."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A classification set in memory, split into a training and a test part.

    Attributes:
        name: As `load` takes it.
        train_inputs: Of shape (n, *shape). Images are uint8 from 0 to 255, or float32 in [0, 1]
            where they are few; features of a table float32; characters int32, below `classes`.
        train_labels: int32 from 0 to `classes` - 1, of shape (n,); of text, the character that
            follows each one, of shape (n, *shape).
        test_inputs: As `train_inputs`, of the test part.
        test_labels: As `train_labels`, of the test part.
        shape: Of one input: (channels, rows, columns) of an image, (1, 1, features) of a row of a
            table, (length,) of a piece of text.
        classes: Number of classes.
        class_names: Their names, where they have some.
        description: What the set is and where it comes from, in one sentence.
        partial: What is missing, where the files are not the complete set; else empty.
    """

    name: str
    train_inputs: np.ndarray
    train_labels: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray
    shape: tuple[int, ...]
    classes: int
    class_names: tuple[str, ...] = ()
    description: str = ""
    partial: str = ""

    def __repr__(self) -> str:
        text = (
            f"{self.name}: {len(self.train_labels):,} training and {len(self.test_labels):,} test "
            f"inputs of shape {self.shape}, {self.classes} classes"
        )
        return f"{text} ({self.partial})" if self.partial else text

    @property
    def fingerprint(self) -> str:
        """How many examples there are, and a digest of all: another one if any number differs."""
        parts = self.train_inputs, self.train_labels, self.test_inputs, self.test_labels
        digest = hashlib.sha256()
        for part in parts:
            digest.update(f"{part.shape} {part.dtype}".encode())
            digest.update(np.ascontiguousarray(part).data)
        sizes = f"{len(self.train_labels):,} and {len(self.test_labels):,} examples"
        return f"{sizes}, sha256 {digest.hexdigest()[:16]}"


class DataError(ValueError):
    """Data that cannot be used.

    Attributes:
        met: What was found, and what was expected.
        where: The file or folder.
        advice: What to do about it.
    """

    def __init__(self, met: str, where: object, advice: str) -> None:
        super().__init__(f"{met}; where: {where}; what to do: {advice}")
        self.met, self.where, self.advice = met, str(where), advice


Load = Callable[[str, str | None, int], Dataset]
"""(name, folder, seed) -> the data set."""
