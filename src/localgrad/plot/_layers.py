"""`layers`: direction and size of the gradient, parameter by parameter."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from localgrad import Comparison, LeafComparison
from localgrad.plot._divergence import same_leaves
from localgrad.plot._look import axes_or_new, category, font, legend_below, log_scale, muted, points
from localgrad.plot._ticks import leaf_names, longest, name_rows, short


def layers(
    comparisons: Comparison | Mapping[str, Comparison],
    *,
    ax: Axes | None = None,
) -> Axes:
    """The direction and the size of a rule's gradient, for each parameter, for several rules.

    Left the cosine ``<g, b> / (|g| |b|)`` of the rule's gradient to backpropagation's, right the
    ratio of the norms ``|g| / |b|``. Both are 1 where the two are equal. A parameter without a
    gradient has no mark.

    Args:
        comparisons: What `localgrad.compare` returns, or several by the name of the rule.
        ax: Where to draw; it gives its right half to the ratios. None: a new figure.

    Returns:
        The axes of the cosines; those of the ratios are the last of its figure. The parameters
        stand from top to bottom, at the heights 0, 1, 2, ...

    Raises:
        TypeError: if these are no comparisons.
        ValueError: if there are none, or they have not all the same parameters.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> from localgrad import plot
        >>> def loss(ws):
        ...     return jnp.sum(jnp.tanh(ws[0] @ jnp.tanh(ws[1])))
        >>> args = [jnp.eye(3), jnp.ones(3)]
        >>> rules = {"Z-IL": lg.ZIL(), "AR": lg.ActivationRelaxation(steps=3, rate=0.5)}
        >>> ax = plot.layers({n: lg.compare(loss, rule=r)(args) for n, r in rules.items()})
        >>> [line.get_label() for line in ax.lines[:2]]
        ['Z-IL', 'AR']
    """
    if isinstance(comparisons, Comparison):
        comparisons = {comparisons.rule.name: comparisons}
    names = same_leaves(comparisons)
    ax = axes_or_new(ax)
    room = longest(ax)
    left, right = _halves(ax)
    heights = np.arange(len(names))
    # Rules stand below each other where there is room.
    row = points(left)[1] / len(names)
    step = 0.7 / len(comparisons) if row > 5 * len(comparisons) else 0.0
    size = min(max(0.6 * row / (len(comparisons) if step else 1), 1.5), 6.0)
    cosines, ratios = [], []
    for k, (name, comparison) in enumerate(comparisons.items()):
        look = category(left, k) | {"linestyle": "", "label": short(name)}
        # Those below each other in one place are smaller and smaller.
        look["markersize"] = size * (1 if step else 1.7 ** (len(comparisons) - 1 - k))
        at = heights + step * (k - (len(comparisons) - 1) / 2)
        cosines.append([leaf.cosine for leaf in comparison.leaves])
        ratios.append([_ratio(leaf) for leaf in comparison.leaves])
        left.plot(cosines[-1], at, **look)
        right.plot(ratios[-1], at, **look)
    for half, text in ((left, "cosine"), (right, "norms |g| / |b|")):
        half.axvline(1, color=muted(half), linewidth=1, zorder=0.9)
        half.set(xlabel=text)
    _scale(left, cosines, (0.99, 1.0))
    _scale(right, ratios, (0.9, 1.1))
    left.set_ylim(len(names) - 0.5, -0.5)
    name_rows(left.yaxis, [short(name, room) for name in leaf_names(names)])
    right.tick_params(axis="y", labelleft=False, length=0)
    legend_below(left, left.lines[: len(comparisons)])
    return left


def _scale(ax: Axes, numbers: Any, least: tuple[float, float]) -> None:
    """Limits that hold the numbers and at least this range; a log axis where they need one."""
    found = np.asarray(numbers, float)
    found = found[np.isfinite(found)]
    low, high = min(least[0], *found), max(least[1], *found)
    if low >= 0 and (low == 0 or high / low > 10):
        log_scale(ax, "x", found)
        return
    ax.set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    ax.xaxis.set_major_locator(MaxNLocator(min(max(int(points(ax)[0] / (4.5 * font(ax))), 1), 4)))
    ax.ticklabel_format(axis="x", useOffset=False)


def _ratio(leaf: LeafComparison) -> float:
    """``|g| / |b|``, from what a comparison holds; nan where `b` is zero."""
    if math.isnan(leaf.cosine):
        return leaf.delivered  # 0 where g is zero, nan where b is
    return leaf.delivered / leaf.cosine if leaf.cosine else math.nan


def _halves(ax: Axes) -> tuple[Axes, Axes]:
    """The axes, made narrower, and new ones at their right."""
    spec = ax.get_subplotspec()
    figure: Any = ax.figure
    if spec is None:
        box = ax.get_position()
        ax.set_position((box.x0, box.y0, 0.47 * box.width, box.height))
        x = box.x0 + 0.53 * box.width
        return ax, figure.add_axes((x, box.y0, 0.47 * box.width, box.height), sharey=ax)
    halves = spec.subgridspec(1, 2, wspace=0.1)
    ax.set_subplotspec(halves[0])
    return ax, figure.add_subplot(halves[1], sharey=ax)
