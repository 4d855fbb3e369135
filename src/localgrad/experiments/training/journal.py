"""Metrics as JSON lines, and as TensorBoard's files if wanted."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from localgrad.experiments.files import replace_text
from localgrad.experiments.training.folder import reading

METRICS = "metrics.jsonl"


class Journal:
    """Metrics in a folder, one JSON object per line, in the order of steps.

    Numbers that are not finite are null. A line is on the disk once `add` has returned.

    Args:
        folder: Where; it exists.
        step: Lines of later steps are dropped: they are written again.
        board: TensorBoard's writer, see `board_writer`, to write its files too, into
            ``tensorboard/``.
    """

    def __init__(self, folder: Path, step: int, board: Callable[..., Any] | None) -> None:
        path = folder / METRICS
        kept = [told for told in read_metrics(folder) if told["step"] <= step]
        replace_text(path, "".join(map(_line, kept)))
        self._file = path.open("a")
        self._board = board and board(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Add a line; it has a ``step``."""
        plain = _plain(dict(metrics))
        self._file.write(_line(plain))
        self._file.flush()
        if self._board is not None:
            step = plain.pop("step")
            for name, value in _flat(plain):
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's journal.

    Raises:
        FolderError: if there is one that cannot be read.
    """
    path = Path(folder) / METRICS
    with reading(path, "remove the line that is no JSON object"):
        return [json.loads(line) for line in _lines(path)]


def _line(plain: Mapping[str, Any]) -> str:
    return json.dumps(plain, allow_nan=False) + "\n"


def _lines(path: Path) -> list[str]:
    """The whole lines of a file; the last may have been cut off."""
    if not path.exists():
        return []
    *whole, _ = path.read_text().split("\n")
    return whole


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(value: Any, name: str = "") -> list[tuple[str, float]]:
    """The numbers in nested containers, by path."""
    if isinstance(value, dict):
        items = [(f"{name}/{key}" if name else key, item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(f"{name}/{k}", item) for k, item in enumerate(value)]
    else:
        return [(name, value)] if isinstance(value, int | float) else []
    return [found for key, item in items for found in _flat(item, key)]


def board_writer() -> Callable[..., Any]:
    """TensorBoard's writer.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    from tensorboardX import SummaryWriter  # an optional extra

    return SummaryWriter
