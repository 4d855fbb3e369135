"""`graph`: the computational graph, laid out by levels."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from localgrad import GraphView, Vertex
from localgrad.plot._lanes import Item, Line, lanes_of
from localgrad.plot._look import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    axes_or_new,
    ink,
    is_dark,
    legend_below,
    muted,
    points,
)
from localgrad.plot._ticks import Label, Thinning, at_steps, leaf_names, short

MARGIN, WIDEST = 14.0, 170.0
"""The space before the first lane, and the largest between two lanes, in points."""
LOCAL, SEVERAL, OPAQUE, LOSS, RELAY = "vertex", "several equations", "opaque", "loss", "relay"
SHAPES = {LOCAL: ("o", 1), SEVERAL: ("s", 1), OPAQUE: ("D", 1), LOSS: ("*", 1.5), RELAY: ("o", 0.6)}
"""Marker and size."""
COLOURS = {LOCAL: (BLUE, SKY), SEVERAL: (GREEN, GREEN), OPAQUE: (VERMILLION, ORANGE)}
"""On light and on dark backgrounds."""


def graph(
    view: GraphView,
    *,
    leaves: bool = False,
    relays: bool = True,
    most: int = 80,
    ax: Axes | None = None,
) -> Axes:
    """The vertices by level: the height of a vertex is the longest path to the loss.

    Predictions go down, errors up. A vertex stays on its lane until its last child has read it;
    the relays that a rule on a clock needs stand on this line. A vertex inside a scan stands once
    for each iteration, on one lane; from outside of the scan an edge leads to the first iteration,
    to outside from the last. Where there are too many vertices, groups close
    (``GraphView.groups``): a bar from their highest to their lowest level, with their number.

    Args:
        view: What `localgrad.graph` returns.
        leaves: Whether to name the parameters beside the vertices that read them.
        relays: Whether to show relays.
        most: How many vertices there may be before groups close.
        ax: Where to draw; None: a new figure.

    Returns:
        The axes, with levels as heights and lanes 0, 1, 2, ... from left to right.

    Raises:
        TypeError: if `view` is something else.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> from localgrad import plot
        >>> def loss(w, x): return jnp.sum(x + jnp.tanh(x @ w) ** 2)
        >>> ax = plot.graph(lg.graph(loss)(jnp.eye(2), jnp.ones(2)))
        >>> [text.get_text() for text in ax.texts]
        ['loss', 'dot_general', 'tanh', 'integer_pow', 'add']
    """
    if not isinstance(view, GraphView):
        kind = type(view).__name__
        raise TypeError(f"met a {kind}; pass what localgrad.graph(f)(*args) returns.")
    items, lines = lanes_of(view, most)
    names = {item: _name(item) for item in items}
    read = _read(view, items) if leaves else {}
    ax = axes_or_new(ax)
    last = max((item.lane for item in items), default=0)
    longest = max(
        (len(names[i]) + len(read.get(i, "")) for i in items if i.lane == last), default=0
    )
    ax.set(xlim=_limits(ax, last, longest), ylim=(-0.6, view.depth + 0.6))
    ax.set_ylabel("level (longest path to the loss)")
    at_steps(ax.yaxis)
    ax.grid(False)
    ax.xaxis.set_visible(False)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    size = _size(ax, last, view.depth)
    handles = [*_edges(ax, lines), *_bars(ax, items, size)]
    handles = [*_points(ax, items, size, relays), *handles]
    _label(ax, names, read, size)
    legend_below(ax, handles, 1)
    return ax


def _limits(ax: Axes, last: int, longest: int) -> tuple[float, float]:
    """Limits with room for the names at the right of the last lane."""
    width, _ = points(ax)
    room = min(6.0 * longest + 14, 0.6 * width)
    lane = min((width - room - MARGIN) / max(last, 1), WIDEST)
    free = max(width - room - MARGIN - lane * last, 0) / 2
    return -(MARGIN + free) / lane, last + (room + free) / lane


def _kind(vertex: Vertex) -> str:
    if vertex.levels == (0,):
        return LOSS
    return {"local": LOCAL, "opaque": OPAQUE}.get(vertex.inside, SEVERAL)


def _colour(ax: Axes, kind: str) -> Any:
    if kind == RELAY:
        return ax.get_facecolor()
    return COLOURS[kind][is_dark(ax)] if kind in COLOURS else ink(ax)


def _size(ax: Axes, last: int, depth: int) -> float:
    """The diameter of a vertex in points, so that neighbours do not touch."""
    width, height = points(ax)
    return min(max(0.6 * min(height / (depth + 1), width / (last + 1)), 2.0), 8.0)


def _edges(ax: Axes, lines: Sequence[Line]) -> list[Any]:
    handles = []
    for is_recurrent in (False, True):
        style: Any = (0, (2, 2)) if is_recurrent else "-"
        paths = [
            [(e.parent.lane, e.start), (e.parent.lane, e.end + 1), (e.child.lane, e.end)]
            for e in lines
            if e.is_recurrent == is_recurrent
        ]
        look: dict[str, Any] = {"colors": [muted(ax)], "linestyles": [style], "linewidths": 1.0}
        ax.add_collection(LineCollection(paths, zorder=1, **look), autolim=False)
        if is_recurrent and paths:
            label = "to the next iteration"
            handles.append(Line2D([], [], color=muted(ax), linestyle=style, label=label))
    return handles


def _bars(ax: Axes, items: Sequence[Item], size: float) -> list[Any]:
    """What stands at several levels: iterations of a scan, closed groups."""
    handles = []
    groups = [item for item in items if item.is_group]
    stacked = [item for item in items if not item.is_group and len(item.levels) > 1]
    for found, colour, alpha, width, over, label in (
        (stacked, _colour(ax, LOCAL), 0.3, size, 0.0, "iterations"),
        (groups, PURPLE, 0.75, 1.6 * size, 0.3, "group"),
    ):
        ends = [[(i.lane, i.levels[0] + over), (i.lane, i.levels[-1] - over)] for i in found]
        bars = LineCollection(ends, colors=[colour], alpha=alpha, linewidths=width, zorder=2)
        ax.add_collection(bars, autolim=False)
        if found:
            handles.append(Line2D([], [], color=colour, alpha=alpha, linewidth=6, label=label))
    return handles


def _points(ax: Axes, items: Sequence[Item], size: float, relays: bool) -> list[Any]:
    """Vertices by what is inside of them, and relays."""
    places = defaultdict[str, list[tuple[float, float]]](list)
    for item in items:
        if not item.is_group:
            places[_kind(item.vertices[0])] += [(item.lane, level) for level in item.levels]
            places[RELAY] += [(item.lane, level) for level in item.relays if relays]
    handles = []
    for kind, (marker, scale) in SHAPES.items():
        if places[kind]:
            look: dict[str, Any] = {"color": _colour(ax, kind), "marker": marker, "linestyle": ""}
            if kind == RELAY:
                edge = min(1.0, 0.15 * size)
                look |= {"markeredgecolor": muted(ax), "markeredgewidth": edge}
            ax.plot(
                *zip(*places[kind], strict=True),
                markersize=scale * size,
                zorder=3,
                label=kind,
                **look,
            )
            handles.append(Line2D([], [], markersize=8 * scale, label=kind, **look))
    return handles


def _name(item: Item) -> str:
    copies = 1 if item.is_group else len(item.vertices[0].levels)
    return short(item.label) + (f" x {copies}" if copies > 1 else "")


def _read(view: GraphView, items: Sequence[Item]) -> dict[Item, str]:
    """The leaves that an item reads."""
    names = dict(zip(view.leaves, leaf_names(view.leaves), strict=True))
    found = {}
    for item in items:
        read = {names[p]: None for v in item.vertices for p in v.parents if p in names}
        if read:
            found[item] = short(", ".join(read), 44)
    return found


def _label(ax: Axes, names: dict[Item, str], read: dict[Item, str], size: float) -> None:
    """Names beside vertices, those that matter most first, and leaves beside names."""
    look: dict[str, Any] = {"textcoords": "offset points", "fontsize": "small", "zorder": 4}
    look |= {"va": "center", "bbox": {"color": ax.get_facecolor(), "pad": 0.6}}
    labels = []
    for item in sorted(names, key=_rank):
        places = [(item.lane, height) for height in item.heights]
        name = ax.annotate(names[item], places[0], (0.8 * size + 2, 0), **look)
        labels.append(Label(name, places))
        if item in read:
            beside: dict[str, Any] = {"xycoords": name, "style": "italic", "color": muted(ax)}
            leaves = ax.annotate(read[item], (1, 0.5), (5, 0), **beside, **look)
            labels.append(Label(leaves, [(1, 0.5)], name))
    Thinning(ax, labels, [(item.lane, level) for item in names for level in item.levels])


def _rank(item: Item) -> tuple[bool, ...]:
    """The loss, then groups, then values that were marked, then the others."""
    first = item.vertices[0]
    return (_kind(first) != LOSS, not item.is_group, first.operation != "name")
