"""Running a study: cell by cell, each kept as soon as it is done."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        kept: Whether its result was there already.
        number: Of so many cells `of`, this is the one of this number, from 1 on.
        of: The number of cells.
    """

    cell: Cell
    result: Result
    seconds: float
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
        found = _kept(folder, cell)
        is_kept = found is not None
        if found is None:
            begin = time.perf_counter()
            result = cell.run()
            found = {"settings": cell.settings, "seconds": time.perf_counter() - begin}
            found |= {"result": result, "environment": environment()}
            replace_text(_path(folder, cell), json.dumps(found, indent=1) + "\n")
            found = json.loads(json.dumps(found))  # what a later run will read
        done.append(Done(cell, found["result"], found["seconds"], is_kept, number, len(cells)))
        yield done[-1]
    run = {
        "study": study.name,
        "scale": setup.scale.value,
        "seed": setup.seed,
        "command": command,
        "seconds": round(sum(one.seconds for one in done), 1),
        **environment(),
    }
    write_report(folder, study, setup, {one.cell.key: one.result for one in done}, run)


def _kept(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """A cell's result, if it is there and was made with the same settings."""
    path = _path(folder, cell)
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found if found["settings"] == json.loads(json.dumps(cell.settings)) else None


def _path(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / f"{cell.key}.json"
