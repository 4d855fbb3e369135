"""What the commands print on standard output: tables, and lines of text."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import localgrad as lg

DIFFERENTIATED = "args[0]"
"""What every parameter's name begins with."""

LAST = ("warning:", "not finite")
"""How the lines begin that come last and shall not be overlooked."""


class Output(Console):
    """Standard output: coloured on a terminal, plain text elsewhere."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(markup=False, highlight=False, quiet=quiet)

    def on_broken_pipe(self) -> None:
        """Nobody reads on: the program's entry ends it."""
        raise BrokenPipeError


@dataclass(frozen=True)
class Column:
    """A column of a table; `folds` if its cells may take several lines on a terminal."""

    head: str
    right: bool = False
    folds: bool = False
    foot: str = ""


def print_table(
    console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]
) -> None:
    """Print a table: as wide as a terminal, elsewhere in Markdown with one line for each row."""
    if not console.is_terminal:
        console.print(_markdown(title, columns, rows), soft_wrap=True)
        return
    has_foot = any(column.foot for column in columns)
    table = Table(box=box.SIMPLE_HEAD, show_footer=has_foot, pad_edge=False)
    for c in columns:
        justify: Any = "right" if c.right else "left"
        table.add_column(c.head, c.foot, justify=justify, no_wrap=not c.folds, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(title, style="bold", soft_wrap=True)
    console.print(table)


def _markdown(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    feet = [[c.foot for c in columns]] if any(c.foot for c in columns) else []
    lines = [[c.head for c in columns], *rows, *feet]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    ends = [":" if column.right else "-" for column in columns]
    lines.insert(1, ["-" * (width - 1) + end for width, end in zip(widths, ends, strict=True)])
    texts = (
        " | ".join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        for line in lines
    )
    return "\n".join([title, "", *(f"| {text} |" for text in texts), ""])


def print_text(console: Console, text: str) -> None:
    """Print a table that is text already; on a terminal with its head and its warnings marked."""
    lines, style = text.splitlines(), ""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith(LAST):
            style = "yellow"
        is_head = "--" in below and not below.strip(" -")
        console.print(line, style="bold" if is_head else style, soft_wrap=True)


def print_comparison(console: Console, comparison: lg.Comparison, part: str = "") -> None:
    """Print one row per parameter, the worst of each column, and what makes them doubtful.

    `part` ends the title: of which part of a training it is.
    """
    is_stepwise = comparison.steps is not None
    columns = [
        Column("parameter", folds=True, foot="worst"),
        Column("shape", folds=True),
        Column("norm", right=True),
        Column("max abs", right=True, foot=f"{comparison.max_abs:.1e}"),
        Column("max rel", right=True, foot=f"{comparison.max_rel:.1e}"),
        Column("cosine", right=True, foot=f"{comparison.cosine:.6f}"),
        *([Column("part", right=True)] if is_stepwise else []),  # how much was delivered
    ]
    rows = [
        (
            leaf.name.removeprefix(DIFFERENTIATED) or leaf.name,
            "x".join(map(str, leaf.shape)) or "scalar",
            f"{leaf.norm:.1e}",
            f"{leaf.max_abs:.1e}",
            f"{leaf.max_rel:.1e}",
            f"{leaf.cosine:.6f}",
            *([f"{leaf.delivered:.3f}"] if is_stepwise else []),
        )
        for leaf in comparison.leaves
    ]
    title = f"Gradient by {comparison.rule.name} against backpropagation{part}"
    print_table(console, title, columns, rows)
    warnings = [textwrap.fill(f"warning: {text}", console.width) for text in comparison.warnings]
    print_text(console, "\n".join([_ending(comparison), *warnings]))


def _ending(comparison: lg.Comparison) -> str:
    text = f"loss {float(comparison.value):.6g}"
    if comparison.steps is not None:
        text += f"; {comparison.steps} steps, depth {comparison.depth}"
    if comparison.residual is not None:
        text += f", residual {comparison.residual:.1e}"
    return text
