"""``localgrad graph``: the vertices that errors travel on."""

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import localgrad as lg
from localgrad.cli.document import document, print_document
from localgrad.cli.errors import FailedError
from localgrad.cli.files import checked, writing
from localgrad.cli.options import Problem, ProblemOptions, Reporting, ReportingOptions, a_path
from localgrad.cli.problem import blamed, pose
from localgrad.cli.progress import doing
from localgrad.cli.report import DIFFERENTIATED, Column, Output, print_table
from localgrad.experiments.files import replace_bytes

FIGURES = (".png", ".svg", ".pdf")

GAP = 3
"""Between two columns of a terminal's table."""

LEAST = 24
"""What a terminal should have left for parents."""


@dataclass(frozen=True)
class Options:
    """Show the vertices of a loss function that errors reach: level, parents, source line.

    Example: localgrad graph --model gru --out graph.svg
    """

    problem: ProblemOptions = field(default_factory=Problem)
    out: Annotated[Path | None, a_path()] = None
    """Draw the graph into this file, too: .png, .svg or .pdf."""
    output: ReportingOptions = field(default_factory=Reporting)


def run(options: Options) -> None:
    """Print the table of vertices, and draw the graph if asked to.

    Raises:
        UsageError: if the options make no sense, or there is no such function.
        FailedError: if the function cannot be traced, or the figure not be drawn.
    """
    if options.out is not None:
        checked(options.out, "--out", FIGURES)
    problem = pose(options.problem)
    with doing("tracing"), blamed("tracing", problem.name):
        view = lg.graph(problem.loss, vertices=options.problem.vertices)(*problem.args)
    if options.out is not None:
        _draw(view, options.out)
    if options.output.json:
        shown = document(view, "depth", "relays", "edges", "groups")
        for entry, vertex in zip(shown["vertices"], view.vertices, strict=True):
            entry["level"] = vertex.level
        print_document(shown | {"figure": document(options.out)})
        return
    _print(view)
    if options.out is not None:
        Output().print(f"figure: {options.out}")


def _draw(view: lg.GraphView, path: Path) -> None:
    try:
        from localgrad import plot  # an optional extra, and slow to load
    except ImportError as error:
        raise FailedError(
            f"figures need {error.name or 'matplotlib'}, which is not installed",
            f"--out {path}",
            "install it with: pip install 'localgrad[plot]'",
        ) from error
    with doing(f"drawing {path}"):
        figure: Any = plot.graph(view).figure
        drawn = BytesIO()
        figure.savefig(drawn, format=path.suffix[1:].lower(), bbox_inches="tight")
    with writing(path):
        replace_bytes(path, drawn.getvalue())


def _print(view: lg.GraphView) -> None:
    """A table of the vertices, with the columns that have something to say."""
    console = Output()
    is_short = console.is_terminal
    cells = {
        Column("level", right=True): [_level(v.levels) for v in view.vertices],
        Column("vertex", folds=True): ["  " * len(v.group) + v.name for v in view.vertices],
        Column("value"): [_short(v.type) if is_short else v.type for v in view.vertices],
        Column("inside"): [_short(v.inside) if is_short else v.inside for v in view.vertices],
        Column("relays", right=True): [str(sum(v.relays) or "") for v in view.vertices],
        Column("parents"): [", ".join(v.parents) for v in view.vertices],
        Column("source"): [_source(v.source, is_short) for v in view.vertices],
    }
    told = {column: entries for column, entries in cells.items() if any(entries)}
    if is_short:
        told = _fitted(told, view, console.width)
    title, _, _ = str(view).partition("\n")
    print_table(console, title, list(told), list(zip(*told.values(), strict=True)))


def _fitted(
    cells: dict[Column, list[str]], view: lg.GraphView, width: int
) -> dict[Column, list[str]]:
    """The columns that fit a terminal: without those that matter least, and parents cut."""
    widths = {c: max(map(len, [c.head, *entries])) + GAP for c, entries in cells.items()}
    parents = Column("parents")
    wanted = widths.get(parents, 0)
    left = width - sum(widths.values()) + wanted
    for column in (Column("source"), Column("inside")):
        if left < min(wanted, LEAST) and column in cells:
            left += widths[column]
            cells = {kept: entries for kept, entries in cells.items() if kept != column}
    if parents in cells:
        leaves = set(view.leaves)
        listed = [_listed(v.parents, leaves, left - GAP) for v in view.vertices]
        cells = cells | {parents: listed}
    return cells


def _listed(names: tuple[str, ...], leaves: set[str], width: int) -> str:
    """As many names as fit, vertices first, and how many more there are."""
    ordered = sorted(names, key=leaves.__contains__)
    shown = [n.removeprefix(DIFFERENTIATED) or n if n in leaves else n for n in ordered]
    for count in range(len(shown), 0, -1):
        more = f" +{len(shown) - count}" if count < len(shown) else ""
        text = ", ".join(shown[:count])
        if len(text) + len(more) <= width:
            return text + more
    return f"{shown[0][: max(width - len(more) - 3, 1)]}...{more}" if shown else ""


def _level(levels: tuple[int, ...]) -> str:
    first, last = levels[0], levels[-1]
    return str(first) if len(levels) == 1 else f"{first}..{last}"


def _short(text: str) -> str:
    """As programs write it: ``float32[3]`` is ``f32[3]``, equations are eqns."""
    for long, brief in (("bfloat", "bf"), ("float", "f"), ("complex", "c"), ("equations", "eqns")):
        text = text.replace(long, brief)
    return text


def _source(text: str, is_short: bool) -> str:
    """Where the line is known; on a terminal without the folders."""
    if not text.rpartition(":")[2].isdigit():
        return ""
    return Path(text).name if is_short else text
