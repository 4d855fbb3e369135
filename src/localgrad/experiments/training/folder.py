"""What can go wrong with the folder of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONG = 100
"""Characters of a message that people read to the end."""


class FolderError(Exception):
    """A run's folder that cannot be written or read: what was met, where, what to do."""

    def __init__(self, met: str, where: Path, advice: str) -> None:
        super().__init__(f"{met}\n  where: {where}\n  what to do: {advice}")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Tell that a run could not be kept. Orbax raises whatever its parts do.

    Raises:
        FolderError: in the place of any exception.
    """
    try:
        yield
    except Exception as error:
        raise FolderError(
            f"the run could not be kept: {_brief(error)}",
            folder,
            "free some space; --resume goes on from the newest checkpoint that is whole",
        ) from error


@contextmanager
def reading(path: Path, advice: str) -> Iterator[None]:
    """Tell which part of a run could not be read, and what to do.

    Raises:
        FolderError: in the place of any exception.
    """
    try:
        yield
    except Exception as error:
        raise FolderError(f"this cannot be read: {_brief(error)}", path, advice) from error


def _brief(error: Exception) -> str:
    """What an exception says; of the long chains of causes that TensorStore tells, the last."""
    line = next(iter(str(error).splitlines()), type(error).__name__)
    told = line.partition(" [")[0]  # without the codes and specifications after it
    return told if len(told) <= LONG else told.rpartition(": ")[2]
