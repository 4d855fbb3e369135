"""Running a study: cell by cell, each kept as soon as it is done."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from localgrad.experiments.data import load
from localgrad.experiments.environment import environment
from localgrad.experiments.files import replace_text
from localgrad.experiments.reproduce.report import write_report
from localgrad.experiments.reproduce.study import Cell, Result, Setup, Study


@dataclass(frozen=True)
class Done:
    """A cell that is done.

    Attributes:
        cell: The cell.
        result: What it found.
        seconds: What it took, when it was computed.
        environment: The versions and the devices that it was computed with.
        kept: Whether its result was there already.
        number: Of so many cells `of`, this is the one of this number, from 1 on.
        of: The number of cells.
    """

    cell: Cell
    result: Result
    seconds: float
    environment: dict[str, Any]
    kept: bool
    number: int
    of: int


def run_study(study: Study, setup: Setup, folder: Path, command: str) -> Iterator[Done]:
    """Compute the cells that are not in the folder yet, then write the report.

    Yields after each cell. Stopped in between, it loses the cell that it was at.
    """
    cells = study.cells(setup)
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    done = []
    for number, cell in enumerate(cells, 1):
        data = _data(cell, setup)
        found = _kept(folder, cell, data)
        is_kept = found is not None
        if found is None:
            begin = time.perf_counter()
            result = cell.run()
            found = {"settings": cell.settings, "data": data}
            found |= {"seconds": time.perf_counter() - begin, "result": result}
            found |= {"environment": environment()}
            replace_text(_path(folder, cell), json.dumps(found, indent=1) + "\n")
            found = json.loads(json.dumps(found))  # what a later run will read
        result, seconds, used = (found[name] for name in ("result", "seconds", "environment"))
        done.append(Done(cell, result, seconds, used, is_kept, number, len(cells)))
        yield done[-1]
    run = {
        "study": study.name,
        "scale": setup.scale.value,
        "seed": setup.seed,
        "command": command,
        "seconds": round(sum(one.seconds for one in done), 1),
        "environments": _distinct(one.environment for one in done),
    }
    write_report(folder, study, setup, {one.cell.key: one.result for one in done}, run)


def _kept(folder: Path, cell: Cell, data: str | None) -> dict[str, Any] | None:
    """A cell's result, if it is there and was made with the same settings and data."""
    path = _path(folder, cell)
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    settings = json.loads(json.dumps(cell.settings))
    return found if found["settings"] == settings and found.get("data") == data else None


def _data(cell: Cell, setup: Setup) -> str | None:
    """The fingerprint of the data set that a cell reads; a text is a part of its settings."""
    name = cell.settings.get("data")
    if name is None or name.startswith("text:"):
        return None
    return _fingerprint(name, setup.folder, setup.seed)


@cache
def _fingerprint(name: str, folder: str | None, seed: int) -> str:
    return load(name, folder, seed).fingerprint


def _distinct(environments: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each of them once, in their order."""
    return list({json.dumps(one): one for one in environments}.values())


def _path(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / f"{cell.key}.json"
