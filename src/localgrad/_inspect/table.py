"""Plain text tables."""

from collections.abc import Sequence

WIDTH = 80
"""What a terminal has."""


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[int] = (),
    narrow: int | None = None,
) -> str:
    """Columns as wide as their widest cell; those in `right` are aligned to the right.

    Cells of the column `narrow` are cut at their start as far as it takes for the table to fit.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    if narrow is not None:
        left = WIDTH - sum(widths) - 2 * (len(widths) - 1)
        widths[narrow] = max(widths[narrow] + min(left, 0), len(head[narrow]))
        rows = [[short(cell, widths[k], k == narrow) for k, cell in enumerate(row)] for row in rows]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def short(text: str, width: int = 36, keep_end: bool = False) -> str:
    """Text cut to a column's width, at its end or at its start."""
    if len(text) <= width:
        return text
    return f"...{text[3 - width :]}" if keep_end else f"{text[: width - 3]}..."
