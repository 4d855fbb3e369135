"""`divergence`: how far from backpropagation, over steps, nudges or training."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from localgrad import Comparison, LeafComparison
from localgrad.plot._look import VERMILLION, axes_or_new, category, log_scale, muted
from localgrad.plot._ticks import at_numbers, leaf_names, short

MEASURES: dict[str, tuple[str, Callable[[LeafComparison], float]]] = {
    "max_rel": ("max |g - b| / max |b|", lambda leaf: leaf.max_rel),
    "max_abs": ("max |g - b| (units of the gradient)", lambda leaf: leaf.max_abs),
    "cosine": ("1 - cosine", lambda leaf: max(1 - leaf.cosine, 0.0)),
    "delivered": ("|1 - delivered part|", lambda leaf: abs(1 - leaf.delivered)),
}


def divergence(
    comparisons: Mapping[float, Comparison],
    measure: Literal["max_rel", "max_abs", "cosine", "delivered"] = "max_rel",
    *,
    xlabel: str = "relaxation steps",
    xscale: Literal["log", "linear"] = "log",
    most: int = 8,
    ax: Axes | None = None,
) -> Axes:
    """One line per parameter: how far its gradient by a rule is from backpropagation's.

    Both axes are logarithmic, with a dotted line where an exact zero stands. What is not finite is
    a cross at the upper end; a parameter without a gradient has no cosine, and its line a gap. Over
    relaxation steps, a vertical line stands at the depth of the network: with fewer steps some
    parameter has not received its error.

    Args:
        comparisons: What `localgrad.compare` returns, by a number: relaxation steps, a nudge, a
            training step.
        measure: With ``g`` the rule's gradient and ``b`` backpropagation's, ``"max_rel"``: ``max
            |g - b| / max |b|``. ``"max_abs"``: ``max |g - b|``. ``"cosine"``: ``1 - <g, b> / (|g|
            |b|)``. ``"delivered"``: ``|1 - <g, b> / <b, b>|``.
        xlabel: What the numbers are, with their unit.
        xscale: ``"log"`` or ``"linear"``.
        most: How many parameters get a line of their own, those that are farthest away first; the
            others share a band from the smallest to the largest of them.
        ax: Where to draw; None: a new figure.

    Returns:
        The axes, with one line per parameter.

    Raises:
        TypeError: if `comparisons` is no mapping from numbers to comparisons.
        ValueError: if it is empty, its comparisons have not all the same parameters, or the measure
            is unknown.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> from localgrad import plot
        >>> def loss(w): return jnp.sum(jnp.tanh(w) ** 2)
        >>> ax = plot.divergence({
        ...     steps: lg.compare(loss, rule=lg.FixedPrediction(steps=steps, rate=0.5))(jnp.ones(3))
        ...     for steps in (4, 16, 64)
        ... })
        >>> ax.get_ylabel()
        'max |g - b| / max |b|'
    """
    if measure not in MEASURES:
        known = ", ".join(map(repr, MEASURES))
        raise ValueError(f"met measure={measure!r}; choose from {known}.")
    names = same_leaves(comparisons)
    text, of = MEASURES[measure]
    numbers = sorted(comparisons)
    # One row for each parameter.
    found = np.array([[of(leaf) for leaf in comparisons[n].leaves] for n in numbers], float).T

    shown = leaf_names(names)
    ax = axes_or_new(ax)
    by_size = sorted(range(len(names)), key=lambda k: -_farthest(found[k]))
    for place, k in enumerate(sorted(by_size[:most])):
        look = category(ax, place)
        label = short(shown[k])
        ax.plot(numbers, _finite(found[k]), label=label, markersize=4, **look)
    if by_size[most:]:
        others = np.ma.masked_invalid(found[by_size[most:]])
        label = f"{len(others)} others"
        low, high = (np.ma.filled(edge, np.nan) for edge in (others.min(0), others.max(0)))
        ax.fill_between(numbers, low, high, color=muted(ax), alpha=0.3, linewidth=0, label=label)
    log_scale(ax, "y", found)
    if xscale == "log":
        log_scale(ax, "x", numbers)
        at_numbers(ax.xaxis, numbers)
    _mark_not_finite(ax, numbers, found)
    depth = next(iter(comparisons.values())).depth
    if depth is not None and all(c.steps == n for n, c in comparisons.items()):
        ax.axvline(depth, color=muted(ax), linestyle="-", linewidth=1, label=f"depth {depth}")
    ax.set(xlabel=xlabel, ylabel=text)
    ax.legend(loc="best", fontsize="small")
    return ax


def same_leaves(comparisons: Mapping[Any, Comparison]) -> list[str]:
    """The names of the leaves that all comparisons have.

    Raises:
        TypeError: if these are no comparisons.
        ValueError: if there are none, or they have different leaves.
    """
    if not isinstance(comparisons, Mapping):
        raise TypeError(f"met a {type(comparisons).__name__}; pass a mapping to comparisons.")
    for key, comparison in comparisons.items():
        if not isinstance(comparison, Comparison):
            raise TypeError(
                f"met a {type(comparison).__name__} at {key!r}; pass what "
                "localgrad.compare(f, rule=...)(*args) returns."
            )
    if not comparisons:
        raise ValueError("met no comparisons; pass at least one.")
    names = {tuple(leaf.name for leaf in c.leaves) for c in comparisons.values()}
    if len(names) > 1:
        raise ValueError(
            "met comparisons with different parameters; pass those of one function, with the same "
            "arguments."
        )
    return list(names.pop())


def _farthest(measures: Any) -> float:
    """The largest; what is not finite is larger than any."""
    return max((math.inf if math.isinf(m) else m for m in measures if not math.isnan(m)), default=0)


def _finite(measures: Any) -> Any:
    return np.where(np.isfinite(measures), measures, np.nan)


def _mark_not_finite(ax: Axes, numbers: Sequence[float], found: Any) -> None:
    at = [n for n, column in zip(numbers, found.T, strict=True) if np.isinf(column).any()]
    if at:
        ax.plot(
            at,
            np.ones(len(at)),
            linestyle="",
            marker="X",
            color=VERMILLION,
            transform=ax.get_xaxis_transform(),
            clip_on=False,
            label="not finite",
        )
