"""Pickles that hold numbers and arrays only."""

import io
import pickle
from pathlib import Path
from typing import Any

from localgrad.experiments.data.dataset import DataError
from localgrad.experiments.data.files import read

ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}
"""What a pickle of an array calls. Anything else could run code."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, which no array needs")
        return super().find_class(module, name)


def read_pickle(file: Path) -> dict[str, Any]:
    """The dictionary in a pickle of Python 2 or 3; texts of Python 2 stay bytes, but for the keys.

    Raises:
        DataError: if the file is damaged, or would call anything but NumPy's arrays.
    """
    content = io.BytesIO(read(file))
    try:
        found = _Unpickler(content, encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises almost anything
        raise DataError(
            f"the pickle cannot be read: {type(error).__name__}: {error}", file, "get the file anew"
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"a {type(found).__name__}, where a dictionary was expected", file, "get the file anew"
        )
    return {_text(key): value for key, value in found.items()}


def _text(key: object) -> str:
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)
