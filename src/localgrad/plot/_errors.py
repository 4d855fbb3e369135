"""`errors`: vertex by time, as a heat map."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from localgrad import Recording, VertexRecording
from localgrad.plot._look import (
    PURPLE,
    VERMILLION,
    axes_or_new,
    is_dark,
    legend_below,
    muted,
    points,
)
from localgrad.plot._rows import Numbers, checked, chosen, rows_of
from localgrad.plot._ticks import at_steps, longest, name_rows, short

ROW = 4.0
"""The lowest row that can be told from its neighbours, in points."""
DECADES = 12
"""How far below the largest number colours still differ."""


def errors(
    recording: Recording,
    what: Literal["error", "change", "plastic", "delivered"] = "error",
    *,
    vertices: Sequence[str] | str | None = None,
    rows: int | None = None,
    limits: tuple[float, float] | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """A heat map of the vertices over time: where the errors are, and where synapses learn.

    Rows are ordered by level, the loss at the bottom. Copies of a vertex inside a scan and relays
    have rows of their own; relays are marked at the left. Where there are more rows than fit,
    groups fold into one row (``GraphView.groups``; the iteration of a scan is the innermost
    group), and if that is not enough, all vertices of neighbouring levels. Of a folded row the norm
    is that of all its vertices, the delivered part their mean.

    A dot stands where synapses learn. A cell that is exactly zero has the colour of the background,
    one with a number that is not finite is red and crossed.

    Args:
        recording: What `localgrad.record` returns, of a single run.
        what: ``"error"``: the Euclidean norm ``|e|``. ``"change"``: the norm of the change of the
            value per step, ``|x(t) - x(t')| / (t - t')`` with `t'` the time before it in the
            recording. ``"plastic"``: the part of the vertices whose synapses learn, from 0 to 1.
            ``"delivered"``: the part of backpropagation's error that has arrived, 0 before
            anything has and 1 when all has.
        vertices: Names of the vertices to show; None: all that were recorded.
        rows: How many rows there may be at most; None: as many as the axes have room for.
        limits: The numbers at both ends of the colour map, for figures beside each other. None:
            the largest number, and the smallest or twelve decades below.
        colorbar: Whether to draw a colour bar beside the axes.
        ax: Where to draw; None: a new figure.

    Returns:
        The axes. The heat map is ``ax.collections[0]``.

    Raises:
        TypeError: if `recording` is no recording, or is being traced.
        ValueError: for a batch of recordings, one without vertices, an unknown `what`, and
            ``"delivered"`` with a rule of the Z-IL family, whose errors pass by.
        KeyError: for a name in `vertices` that was not recorded.

    Example:
        With Z-IL the errors of level `l` are first there at time `l`, and learn then:

        >>> import jax.numpy as jnp, localgrad as lg
        >>> from localgrad import plot
        >>> def loss(w, x):
        ...     for k in range(3):
        ...         x = lg.vertex(jnp.tanh(x @ w), f"h{k}")
        ...     return 0.5 * jnp.sum(x**2)
        >>> recording = lg.record(loss, rule=lg.ZIL())(jnp.eye(2), jnp.ones(2))
        >>> ax = plot.errors(recording)
        >>> (ax.collections[0].get_array().filled(0) > 0).astype(int)[1:].tolist()
        [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]
    """
    recording = checked(recording)
    if what not in QUANTITIES:
        raise ValueError(f"met what={what!r}; choose from {', '.join(map(repr, QUANTITIES))}.")
    quantity = QUANTITIES[what]
    shown = [vertex for vertex in chosen(recording, vertices) if max(vertex.levels) >= 0]
    if what == "delivered" and shown:
        shown = [vertex for vertex in shown if vertex.delivered is not None]
        if not shown:
            raise ValueError(
                f"met what='delivered' with {recording.rule}, whose errors pass by and are never "
                "delivered as a whole; record a rule that relaxes, or choose what='error'."
            )
    if not shown:
        raise ValueError(
            "met no vertices to show: none was recorded, or those that were have no path to the "
            "loss; call localgrad.record with other names in only."
        )
    times = np.asarray(recording.times, float)
    numbers = quantity.of(shown, times)
    ax = axes_or_new(ax)
    table = rows_of(shown, recording.graph, max(rows or int(points(ax)[1] / ROW), 1))
    cells = np.array([quantity.fold([numbers[k][:, c] for k, c in row.members]) for row in table])
    learns = [np.asarray(vertex.plastic).reshape(len(times), -1) for vertex in shown]
    dots = np.array([np.any([learns[k][:, c] for k, c in row.members], axis=0) for row in table])

    is_raster = what == "plastic" and np.isin(cells, (0, 1)).all()
    handles = _paint(ax, times, cells, quantity, limits, colorbar and not is_raster)
    if what != "plastic" and dots.any():
        handles += _dots(ax, times, dots)
    relays = [k for k, row in enumerate(table) if row.is_relay]
    if relays:
        handles += _strip(ax, relays)
    # Relays are marked: names go to the vertices first.
    by_weight = sorted(range(len(table)), key=lambda k: table[k].is_relay)
    name_rows(ax.yaxis, [short(row.label, longest(ax)) for row in table], by_weight)
    at_steps(ax.xaxis)
    beside = ax.secondary_yaxis("right")
    levels = ["-".join(map(str, sorted(set(row.levels)))) for row in table]
    name_rows(beside.yaxis, levels, by_weight)
    beside.set_ylabel("level")
    ax.set(xlabel="time (inference steps)", ylim=(-0.5, len(table) - 0.5))
    legend_below(ax, handles)
    return ax


class _Quantity(NamedTuple):
    """What a cell shows: of each vertex ``(t, copies)``, and of several copies together."""

    label: str
    of: Callable[[Sequence[VertexRecording], Numbers], list[Numbers]]
    fold: Callable[[Sequence[Numbers]], Numbers]
    is_log: bool
    nan: str = "not finite"


def _norm(numbers: Any) -> Numbers:
    """The norm over the last axis; large squares do not overflow, nor do small ones vanish."""
    sizes = np.abs(np.asarray(numbers)).astype(np.float64)
    largest = sizes.max(-1, initial=0, keepdims=True)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1)
    norm: Numbers = scale[..., 0] * np.sqrt(np.sum((sizes / scale) ** 2, -1))
    return norm


def _flat(vertex: VertexRecording, array: Any) -> Any:
    """``(t, copies, numbers)``"""
    numbers = np.asarray(array)
    return numbers.reshape(len(numbers), len(vertex.levels), -1)


def _sizes(vertices: Sequence[VertexRecording], _: Numbers) -> list[Numbers]:
    return [_norm(_flat(vertex, vertex.error)) for vertex in vertices]


def _changes(vertices: Sequence[VertexRecording], times: Numbers) -> list[Numbers]:
    found = []
    for vertex in vertices:
        values = _flat(vertex, vertex.value)
        with np.errstate(invalid="ignore"):  # inf - inf is nan, and shall be seen
            moved = _norm(np.diff(values, axis=0, prepend=values[:1]))
        found.append(moved / np.diff(times, prepend=times[0] - 1)[:, None])
    return found


def _learning(vertices: Sequence[VertexRecording], _: Numbers) -> list[Numbers]:
    return [_flat(vertex, vertex.plastic)[..., 0].astype(float) for vertex in vertices]


def _delivered(vertices: Sequence[VertexRecording], _: Numbers) -> list[Numbers]:
    return [_flat(vertex, vertex.delivered)[..., 0].astype(float) for vertex in vertices]


def _together(parts: Sequence[Numbers]) -> Numbers:
    return _norm(np.stack(parts, -1))


def _mean(parts: Sequence[Numbers]) -> Numbers:
    """The mean of what is a number."""
    stack = np.stack(parts)
    there = ~np.isnan(stack)
    total: Numbers = np.where(there, stack, 0).sum(0)
    return np.where(there.any(0), total / np.maximum(there.sum(0), 1), np.nan)


QUANTITIES = {
    "error": _Quantity("norm of the error |e|", _sizes, _together, True),
    "change": _Quantity("norm of the value's change per step", _changes, _together, True),
    "plastic": _Quantity("part of the vertices that learn", _learning, _mean, False),
    "delivered": _Quantity(
        "part of backpropagation's error", _delivered, _mean, False, "no error to deliver"
    ),
}


def _paint(
    ax: Axes,
    times: Numbers,
    cells: Numbers,
    quantity: _Quantity,
    limits: tuple[float, float] | None,
    colorbar: bool,
) -> list[Any]:
    """Draw the cells; returns what the legend says of them."""
    edges = _edges(times), np.arange(len(cells) + 1) - 0.5
    is_number = np.isfinite(cells)
    numbers = np.ma.masked_array(cells, ~is_number | (cells == 0))
    norm, extend = _norm_of(numbers.compressed(), quantity.is_log, limits)
    # The ends of the map that come close to the background are left out: there stands zero.
    ends = (0.2, 1.0) if is_dark(ax) else (0.0, 0.88)
    shades = colors.ListedColormap(plt.get_cmap("viridis")(np.linspace(*ends, 256)))
    ax.grid(False)
    mesh = ax.pcolormesh(*edges, numbers, cmap=shades, norm=norm, rasterized=True)
    if colorbar:
        # Other layouts do not see the levels between the axes and the bar.
        is_constrained = isinstance(ax.figure.get_layout_engine(), ConstrainedLayoutEngine)
        look: dict[str, Any] = {"extend": extend, "pad": 0.02 if is_constrained else 0.14}
        bar = ax.figure.colorbar(mesh, ax=ax, label=quantity.label, **look)
        bar.ax.tick_params(labelsize="small")
    handles: list[Any] = []
    if (cells == 0).any():
        patch = Patch(facecolor=ax.get_facecolor(), edgecolor=muted(ax), label="zero")
        handles.append(patch)
    is_nan = np.isnan(cells)
    if quantity.nan != "not finite" and is_nan.any():
        only = np.ma.masked_array(np.ones_like(cells), ~is_nan)
        grey = colors.ListedColormap([muted(ax)])
        ax.pcolormesh(*edges, only, cmap=grey, rasterized=True)
        handles.append(Patch(facecolor=muted(ax), label=quantity.nan))
        is_number |= is_nan
    if not is_number.all():
        only = np.ma.masked_array(np.ones_like(cells), is_number)
        ax.pcolormesh(*edges, only, cmap=colors.ListedColormap([VERMILLION]), rasterized=True)
        heights, moments = np.nonzero(~is_number)
        size = _dot_size(ax, cells.shape)
        ax.scatter(times[moments], heights, size**2, "white", marker="x", linewidths=size / 6)
        red = Patch(facecolor=VERMILLION, edgecolor="white", hatch="xxx", label="not finite")
        handles.append(red)
    return handles


def _norm_of(
    numbers: Numbers, is_log: bool, limits: tuple[float, float] | None
) -> tuple[colors.Normalize, Literal["neither", "min", "max", "both"]]:
    """How numbers become colours, and at which ends of the map there are others."""
    if is_log:
        # Matplotlib takes a range below 1e-287 for an empty one.
        high = max(float(numbers.max(initial=0)), 1e-280) if numbers.size else 1.0
        low = max(float(numbers.min(initial=high)), high / 10**DECADES)
        low, high = limits or (min(low, high / 10), high)
        norm: colors.Normalize = colors.LogNorm(low, high, clip=True)
    else:
        low, high = limits or (0.0, 1.0)
        norm = colors.Normalize(low, high, clip=True)
    below = bool((numbers < low * (1 - 1e-3)).any())
    above = bool((numbers > high * (1 + 1e-3)).any())
    ends: list[Literal["neither", "min", "max", "both"]] = ["neither", "min", "max", "both"]
    return norm, ends[below + 2 * above]


def _edges(times: Numbers) -> Numbers:
    """The borders of the cells, half-way between the times."""
    if len(times) == 1:
        return times[0] + np.array([-0.5, 0.5])
    between = (times[1:] + times[:-1]) / 2
    return np.array([2 * times[0] - between[0], *between, 2 * times[-1] - between[-1]])


def _dot_size(ax: Axes, shape: tuple[int, ...]) -> float:
    """The diameter in points of a mark that fits into a cell."""
    width, height = points(ax)
    return min(max(0.5 * min(height / shape[0], width / shape[1]), 2.0), 6.0)


def _dots(ax: Axes, times: Numbers, dots: Any) -> list[Any]:
    heights, moments = np.nonzero(dots)
    size = _dot_size(ax, dots.shape)
    look: dict[str, Any] = {"linewidth": 0.15 * size}
    ax.scatter(times[moments], heights, size**2, "white", edgecolors="black", zorder=3, **look)
    dot = Line2D([], [], linestyle="", marker="o", color="white", markeredgecolor="black")
    dot.set(label="synapses learn", markersize=5, markeredgewidth=0.75)
    return [dot]


def _strip(ax: Axes, rows: Sequence[int]) -> list[Any]:
    """Mark these rows at the left of the axes."""
    heights = np.array(rows)
    ax.vlines(
        np.full(len(rows), -0.011),
        heights - 0.5,
        heights + 0.5,
        color=PURPLE,
        linewidth=4,
        transform=ax.get_yaxis_transform(),
        clip_on=False,
    )
    ax.tick_params(axis="y", pad=9)
    return [Patch(color=PURPLE, label="relay")]
