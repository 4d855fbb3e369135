"""The files that a command writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localgrad.cli.errors import FailedError, UsageError
from localgrad.cli.progress import doing


def checked(path: Path, option: str, suffixes: tuple[str, ...]) -> None:
    """See that a file can be written, before anything is computed for it.

    Raises:
        UsageError: if its name has another ending, or its folder is not there.
    """
    where = f"{option} {path}"
    if path.suffix.lower() not in suffixes:
        advice = f"end its name in {' or '.join(suffixes)}"
        raise UsageError(f"{path.name!r} is of a kind that is not written", where, advice)
    if path.is_dir() or not path.absolute().parent.is_dir():
        advice = f"name a file in a folder that there is, such as {Path(path.name)}"
        raise UsageError("that is no place for a file", where, advice)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell that a file is being written, whole or not at all.

    Raises:
        FailedError: if it cannot be.
    """
    try:
        with doing(f"writing {path}"):
            yield
    except OSError as error:
        raise FailedError(
            f"the file could not be written: {error.strerror or error}",
            str(path),
            "free some space, or name another file",
        ) from error


def size(path: Path) -> str:
    """The size of a file, for people."""
    kilobytes = path.stat().st_size / 1000
    return f"{kilobytes:,.0f} kB" if kilobytes < 1000 else f"{kilobytes / 1000:,.1f} MB"
