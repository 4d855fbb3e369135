"""`learning_curves`: what training does, over seeds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from localgrad.plot._look import axes_or_new, category
from localgrad.plot._ticks import short


def learning_curves(
    curves: Mapping[str, Any],
    steps: Any = None,
    label: str = "test accuracy",
    *,
    xlabel: str = "training step",
    ax: Axes | None = None,
) -> Axes:
    """One line per rule: the mean over seeds, in a band from the smallest to the largest seed.

    Where a seed is not finite the mean has no value, and the line ends; the legend then says how
    many seeds are not finite at the end.

    Args:
        curves: By rule, numbers of shape ``(n,)`` or ``(seeds, n)``.
        steps: Where the `n` numbers stand on the axis, ``(n,)``; None: at 0, 1, 2, ...
        label: What the numbers are, with their unit.
        xlabel: What `steps` are, with their unit.
        ax: Where to draw; None: a new figure.

    Returns:
        The axes, with one line per rule, in the order of `curves`.

    Raises:
        ValueError: if there are no curves, or their shapes do not fit.

    Example:
        >>> import numpy as np
        >>> from localgrad import plot
        >>> accuracy = {"zil": np.array([[0.5, 0.7, 0.9], [0.7, 0.9, 0.9]]), "il": [0.4, 0.6, 0.8]}
        >>> ax = plot.learning_curves(accuracy, steps=[100, 200, 300])
        >>> [float(round(y, 3)) for y in ax.lines[0].get_ydata()]
        [0.6, 0.8, 0.9]
    """
    if not curves:
        raise ValueError("met no curves; pass a mapping from names of rules to arrays.")
    found = {name: _seeds(name, numbers, steps) for name, numbers in curves.items()}
    ax = axes_or_new(ax)
    for k, (name, numbers) in enumerate(found.items()):
        at = np.arange(numbers.shape[1]) if steps is None else np.asarray(steps)
        look = category(ax, k)
        apart = max(numbers.shape[1] // 8, 1)
        with np.errstate(invalid="ignore"):  # inf - inf is nan, and ends the line
            mean = np.where(np.isfinite(numbers).all(0), numbers.mean(0), np.nan)
        shown = _label(name, numbers)
        ax.plot(at, mean, label=shown, markevery=(k % apart, apart), markersize=4, **look)
        if len(numbers) > 1:
            band = np.where(np.isnan(mean), np.nan, numbers.min(0)), numbers.max(0)
            if len(at) == 1:  # A band over one step has no width.
                ax.vlines(at, *band, color=look["color"], alpha=0.4, linewidth=5)
            else:
                ax.fill_between(at, *band, color=look["color"], alpha=0.2, linewidth=0)
    ax.set(xlabel=xlabel, ylabel=label)
    ax.legend(loc="best", fontsize="small")
    return ax


def _seeds(name: str, numbers: Any, steps: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The numbers of one rule, ``(seeds, n)``."""
    array = np.asarray(numbers, np.float64)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"met curves[{name!r}] of shape {np.shape(numbers)}; pass (n,) or (seeds, n)."
        )
    if steps is not None and np.shape(steps) != array.shape[1:]:
        raise ValueError(
            f"met curves[{name!r}] with {array.shape[1]} numbers and steps of shape "
            f"{np.shape(steps)}; pass one step for each number."
        )
    return array


def _label(name: str, numbers: np.ndarray[Any, Any]) -> str:
    broken = int(np.sum(~np.isfinite(numbers[:, -1])))
    return f"{short(name)} ({broken} of {len(numbers)} not finite)" if broken else short(name)
