"""The same description of a table as HTML, for notebooks, on light and on dark ground."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from localgrad._inspect.table import Column, Table

LIMIT = 500
"""More rows than this are left out in the middle."""

CURVE = 240, 48
"""Width and height of a curve, in pixels."""

POINTS = 200
"""A curve has at most twice as many."""

# Notebooks style tables themselves, by rules that a single class would not outweigh. The head of
# a scrolled table has the notebook's own ground, or else blurs what is behind it.
STYLE = """
.localgrad{color:inherit;font-size:13px;line-height:1.4;margin:4px 0}
.localgrad p{margin:4px 8px}
.localgrad .lg-box{display:inline-block;max-width:100%;max-height:26em;overflow:auto}
.localgrad .lg-box table.lg-table{border-collapse:collapse;margin:0;font-size:inherit}
.localgrad table.lg-table caption{caption-side:top;text-align:left;color:inherit;padding:2px 8px}
.localgrad.localgrad table.lg-table :is(th,td){text-align:left;padding:2px 8px;border:0;
 white-space:pre;max-width:22em;overflow:hidden;text-overflow:ellipsis;color:inherit;
 vertical-align:top}
.localgrad.localgrad table.lg-table tr :is(th,td).lg-number{text-align:right;
 font-variant-numeric:tabular-nums}
.localgrad.localgrad table.lg-table td.lg-whole{white-space:pre-wrap;overflow-wrap:anywhere}
.localgrad.localgrad table.lg-table thead th{position:sticky;top:0;font-weight:600;
 box-shadow:inset 0 -1px currentColor;backdrop-filter:blur(9px);
 background:var(--jp-layout-color0,var(--vscode-editor-background,transparent))}
.localgrad .lg-note{opacity:.75}
.localgrad .lg-warning{border-left:3px solid #d97706;padding-left:8px;max-width:48em;
 font-weight:600}
"""


def html(table: Table, figure: str = "") -> str:
    """A table that scrolls under its head, with what stands around it.

    Args:
        table: What to show.
        figure: HTML to stand above the rows.
    """
    columns = table.columns
    head = "".join(f'<th scope="col"{_kind(c)}>{escape(c.head)}</th>' for c in columns)
    caption = "<br>".join(map(escape, table.title))
    above = f"<caption>{caption}{figure}</caption>" if caption or figure else ""
    rows = [_row(row, columns) for row in table.rows]
    if len(rows) > LIMIT:
        left_out = f"{len(rows) - LIMIT:,} more rows: print() shows all"
        middle = f'<tr><td colspan="{len(columns)}" class="lg-note">… {left_out}</td></tr>'
        rows[LIMIT // 2 : LIMIT // 2 - LIMIT] = [middle]
    notes = _paragraph("lg-note", table.notes)
    warnings = _paragraph("lg-warning", table.warnings)
    return (
        f'<div class="localgrad"><style>{STYLE}</style><div class="lg-box"><table class="lg-table">'
        f"{above}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"{notes}{warnings}</div>"
    )


def curve(xs: ArrayLike, ys: ArrayLike, label: str) -> str:
    """A small line of `ys` over `xs` as SVG, in the colour of the text.

    What is not finite is a gap; of many points, each stretch shows its lowest and its highest.

    Args:
        xs: Rising numbers, `(n,)`.
        ys: Numbers, `(n,)`.
        label: What it shows, for a pointer and for those who listen.
    """
    x, y = np.asarray(xs, float), np.asarray(ys, float)
    finite = np.isfinite(y)
    if finite.sum() < 2:
        return ""
    width, height = CURVE
    low, high = y[finite].min(), y[finite].max()
    # In halves: the distance between two large floats may be infinite.
    heights = (y / 2 - low / 2) / (high / 2 - low / 2 or 1.0)
    across = 2 + (width - 4) * (x - x[0]) / (x[-1] - x[0] or 1.0)
    down = height - 2 - (height - 4) * heights
    edges = np.linspace(0, len(x), min(len(x), POINTS) + 1).astype(int)
    shown = sorted({k for a, b in pairwise(edges) for k in _extremes(y[a:b], a)})
    pen, path = "M", []
    for k in shown:
        if not finite[k]:
            pen = "M"
            continue
        path.append(f"{pen}{across[k]:.1f} {down[k]:.1f}")
        pen = "L"
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'style="display:block;margin:6px 0"><title>{escape(label)}</title>'
        f'<path d="{"".join(path)}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )


def _extremes(ys: np.ndarray, start: int) -> set[int]:
    """Where a stretch is lowest and highest; what is not finite counts as either."""
    return {start + int(np.argmin(ys)), start + int(np.argmax(ys))}


def _paragraph(kind: str, lines: Sequence[str]) -> str:
    return f'<p class="{kind}">{"<br>".join(map(escape, lines))}</p>' if lines else ""


def _row(row: Sequence[str], columns: Sequence[Column]) -> str:
    cells = (
        f"<td{_kind(column)}{_tip(cell, column)}>{escape(cell)}</td>"
        for cell, column in zip(row, columns, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _kind(column: Column) -> str:
    """Numbers to the right; what says most at its end is not cut."""
    kind = "lg-number" if column.right else "lg-whole" if column.keeps_end else ""
    return f' class="{kind}"' if kind else ""


def _tip(cell: str, column: Column) -> str:
    """The whole text for a pointer, where it may be cut."""
    return f' title="{escape(cell)}"' if len(cell) > 30 and not column.keeps_end else ""
