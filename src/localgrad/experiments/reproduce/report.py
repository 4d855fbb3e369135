"""The files of a finished study: tables, figures, and a page with all of them."""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from localgrad.experiments.files import replace_bytes, replace_text
from localgrad.experiments.reproduce.study import Claim, Picture, Results, Setup, Study, Table

PAGE = "README.md"
DPI = 150


def write_report(folder: Path, study: Study, setup: Setup, results: Results, run: Any) -> None:
    """Write tables (Markdown and CSV), figures and the page of a study.

    `run` is what the study was made with: its command, versions and times.
    """
    tables, pictures = study.tables(setup, results), study.pictures(setup, results)
    claims = study.claims(setup, results)
    for table in tables:
        replace_text(folder / f"{table.name}.md", markdown(table) + "\n")
        replace_text(folder / f"{table.name}.csv", comma_separated(table))
    for picture in pictures:
        replace_bytes(folder / f"{picture.name}.png", drawn(picture))
    replace_text(folder / "run.json", json.dumps(run, indent=2) + "\n")
    replace_text(folder / PAGE, _page(study, tables, pictures, claims, run))


def markdown(table: Table) -> str:
    """A table in Markdown; numbers with four significant digits."""
    rows = [[_cell(value) for value in row] for row in table.rows]
    numeric = [
        all(isinstance(row[k], float | int | None) for row in table.rows)
        for k in range(len(table.head))
    ]
    rule = ["---:" if is_numeric else "---" for is_numeric in numeric]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [table.head, rule, *rows])


def comma_separated(table: Table) -> str:
    """A table as CSV, numbers with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([table.head, *(["" if v is None else v for v in row] for row in table.rows)])
    return text.getvalue()


def drawn(picture: Picture) -> bytes:
    """A figure as PNG."""
    figure = Figure(figsize=picture.size, layout="constrained")
    FigureCanvasAgg(figure)
    picture.draw(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def _page(
    study: Study,
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    claims: Sequence[Claim],
    run: Any,
) -> str:
    rows = [[c.text, c.source, c.verdict.value, c.measured] for c in claims]
    judged = Table("claims", "", ["claim", "source", "verdict", "measured"], rows)
    parts = [f"# {study.title}", study.source, study.about, "## Claims", markdown(judged)]
    for table in tables:
        parts += [f"## {table.caption}", markdown(table)]
    for picture in pictures:
        parts += [f"![{picture.name}]({picture.name}.png)", picture.caption]
    parts += ["## How it was made", _made(run)]
    return "\n\n".join(parts) + "\n"


def _made(run: Any) -> str:
    lines = ["```console", run["command"], "```", ""]
    lines += [f"{run['seconds']:.0f} s of computing in all cells; seed {run['seed']}."]
    for used in run["environments"]:
        versions = ", ".join(f"{name} {text}" for name, text in used["versions"].items())
        lines += [
            f"{', '.join(dict.fromkeys(used['devices']))}; Python {used['python']}, {versions}."
        ]
    return "\n".join(lines)


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return str(value).replace("|", "\\|")
