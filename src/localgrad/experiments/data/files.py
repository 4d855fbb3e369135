"""Finding a data set's files in a folder."""

from collections.abc import Sequence
from pathlib import Path

from localgrad.experiments.data.dataset import DataError

ARCHIVES = ("*.tar*", "*.tgz", "*.zip")
"""What files are called that hold others."""


def opened(name: str, folder: str | None, inner: Sequence[str], source: str) -> list[Path]:
    """Where to look for the files of the set ``name``: in ``folder``, then in its ``inner`` ones.

    ``source`` says which files they are and whose.

    Raises:
        DataError: if there is no such folder.
    """
    if folder is None:
        raise DataError(
            f"{name} is read from files, and no folder was given",
            f"the data set {name!r}",
            f"get {source}, and give the folder that holds them",
        )
    path = Path(folder).expanduser()
    if not path.is_dir():
        met = "this is a file, not a folder" if path.exists() else "there is no such folder"
        raise DataError(met, path, f"give the folder that holds {source}")
    return [path, *filter(Path.is_dir, (path / part for part in inner))]


def find(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The first file there is by one of these names, in one of these folders."""
    files = (folder / name for folder in folders for name in names)
    return next(filter(Path.is_file, files), None)


def need(folders: Sequence[Path], names: Sequence[str], source: str) -> Path:
    """The first file there is by one of these names.

    Raises:
        DataError: if there is none. It names an archive that lies there unpacked by nobody.
    """
    found = find(folders, names)
    if found is not None:
        return found
    archives = sorted(path.name for pattern in ARCHIVES for path in folders[0].glob(pattern))
    advice = f"unpack {', '.join(archives)}, or get" if archives else "get"
    raise DataError(f"there is no file {names[0]}", folders[0], f"{advice} {source}")


def read(file: Path) -> bytes:
    """All bytes of a file.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", file, "mend that") from error
