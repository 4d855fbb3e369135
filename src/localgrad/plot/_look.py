"""The colours, markers and scales that all figures share."""

import math
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator
from matplotlib.transforms import Bbox, ScaledTranslation

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
"""Okabe and Ito's colours."""

ON_LIGHT = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
ON_DARK = (SKY, ORANGE, GREEN, YELLOW, PURPLE, VERMILLION)
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def axes_or_new(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure of the user's size."""
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def ink(ax: Axes) -> Any:
    """The colour of the axes' own text."""
    return ax.xaxis.label.get_color()


def is_dark(ax: Axes) -> bool:
    """Whether the background is dark: the text tells, also where the background is transparent."""
    return float(colors.rgb_to_hsv(colors.to_rgb(ink(ax)))[2]) > 0.5


def muted(ax: Axes) -> Any:
    """A colour between text and background, for what stands behind."""
    return "#9a9a9a" if is_dark(ax) else "#767676"


def category(ax: Axes, k: int) -> dict[str, Any]:
    """Colour, line style and marker of category `k`; no two of the first 30 share all three."""
    shades = ON_DARK if is_dark(ax) else ON_LIGHT
    return {
        "color": shades[k % len(shades)],
        "linestyle": LINES[k % len(LINES)],
        "marker": MARKERS[k % len(MARKERS)],
    }


def font(ax: Axes) -> float:
    """The size of the axes' text, in points."""
    return float(ax.xaxis.label.get_fontsize())


def points(ax: Axes) -> tuple[float, float]:
    """Width and height of the axes in points, as they stand now."""
    box = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    return 72 * box.width, 72 * box.height


class _Below(Legend):
    """A legend below axes that takes height from them, but no width."""

    def get_tightbbox(self, renderer: Any = None) -> Bbox:
        """What the layout of the figure makes room for."""
        box, ax = super().get_tightbbox(renderer) or Bbox.null(), self.axes.bbox
        return Bbox.from_extents(ax.x0, box.y0, ax.x1, box.y1)


def legend_below(ax: Axes, handles: list[Any], lines: float = 3.4) -> None:
    """A legend so many lines of text below the axes, where it covers no data."""
    line = font(ax)
    shift = ScaledTranslation(0, -lines * line / 72, ax.figure.dpi_scale_trans)
    labels = [str(handle.get_label()) for handle in handles]
    width = sum(0.46 * line * (len(label) + 6) for label in labels)
    look: dict[str, Any] = {"frameon": False, "borderaxespad": 0, "borderpad": 0}
    look |= {"columnspacing": 1.4, "handletextpad": 0.5, "handlelength": 1.4, "fontsize": "small"}
    ax.legend_ = _Below(
        ax,
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=ax.transAxes + shift,
        ncols=max(int(len(handles) * min(points(ax)[0] / max(width, 1), 1)), 1),
        **look,
    )


def log_scale(ax: Axes, which: Literal["x", "y"], numbers: Any) -> None:
    """A logarithmic axis for `numbers`, on which an exact zero has a place of its own.

    Zeros stand on a dotted line that is labelled 0, below the smallest power of ten, and negative
    numbers below it.
    """
    numbers = np.asarray(numbers, float).ravel()
    numbers = numbers[np.isfinite(numbers)]
    is_x = which == "x"
    if (numbers > 0).all():
        (ax.set_xscale if is_x else ax.set_yscale)("log")
        return
    sizes = np.log10(np.abs(numbers[numbers != 0])) if numbers.any() else np.array([-16.0, 0.0])
    lowest, highest = math.floor(max(sizes.min(), -300)), min(sizes.max(), 280)
    decades = max(highest - lowest, 1)
    scale: dict[str, Any] = {"linthresh": 10.0**lowest, "linscale": max(0.1 * decades, 0.3)}
    (ax.set_xscale if is_x else ax.set_yscale)("symlog", **scale)
    axis = ax.xaxis if is_x else ax.yaxis
    powers = 10.0 ** np.arange(lowest, math.ceil(highest) + 1, math.ceil(decades / 7))
    axis.set_major_locator(FixedLocator([*(-powers if (numbers < 0).any() else ()), 0, *powers]))
    if (numbers >= 0).all():
        limits = -0.4 * 10.0**lowest, 10 ** (lowest + 1.06 * decades)
        (ax.set_xlim if is_x else ax.set_ylim)(*limits)
    (ax.axvline if is_x else ax.axhline)(0, color=muted(ax), linestyle=":", linewidth=1)
