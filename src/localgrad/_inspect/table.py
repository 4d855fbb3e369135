"""One description of a table, and the table as plain text."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 80
"""What a terminal has."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: What it is called.
        right: Whether its cells are aligned to the right, as numbers are.
        width: Longer cells are cut to so many characters in text; None cuts none.
        keeps_end: Whether cells are cut at their start.
        gives: Whether in text its cells are cut as far as it takes for the table to fit.
    """

    head: str
    right: bool = False
    width: int | None = None
    keeps_end: bool = False
    gives: bool = False


@dataclass(frozen=True)
class Table:
    """A table with what stands around it; each text is one paragraph.

    Attributes:
        title: What stands above it.
        columns: Its columns.
        rows: Its rows, one text for each column.
        notes: What stands below it.
        warnings: What stands below that, and shall not be overlooked.
    """

    title: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: Sequence[Sequence[str]]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Columns as wide as their widest cell."""
        columns = self.columns
        rows = [
            [_cut(cell, column, column.width) for cell, column in zip(row, columns, strict=True)]
            for row in self.rows
        ]
        head = [column.head for column in columns]
        widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
        left = WIDTH - sum(widths) - 2 * (len(widths) - 1)
        for k, column in enumerate(columns):
            if column.gives:
                widths[k] = max(widths[k] + min(left, 0), len(column.head))
                for row in rows:
                    row[k] = _cut(row[k], column, widths[k])
        lines = [head, ["-" * width for width in widths], *rows]
        body = [
            "  ".join(
                cell.rjust(width) if column.right else cell.ljust(width)
                for cell, width, column in zip(line, widths, columns, strict=True)
            ).rstrip()
            for line in lines
        ]
        warnings = [textwrap.fill(text, WIDTH) for text in self.warnings]
        title = [textwrap.fill(text, WIDTH) for text in self.title]
        return "\n".join([*title, *body, *self.notes, *warnings])


def short(text: str, width: int = 36, keep_end: bool = False) -> str:
    """Text cut to a column's width, at its end or at its start."""
    if len(text) <= width:
        return text
    return f"...{text[3 - width :]}" if keep_end else f"{text[: width - 3]}..."


def _cut(cell: str, column: Column, width: int | None) -> str:
    return cell if width is None else short(cell, width, column.keeps_end)
