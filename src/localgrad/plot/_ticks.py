"""Names beside rows and vertices, as many as there is room for at any size of the figure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, MaxNLocator, NullLocator

from localgrad.plot._look import font, points

LONGEST = 28


def short(name: str, room: int = LONGEST) -> str:
    """A name cut in its middle to `room` characters."""
    if len(name) <= room:
        return name
    head = (room - 1) // 3
    return f"{name[:head]}…{name[head + 1 - room :]}"


def longest(ax: Axes) -> int:
    """The length of names beside the axes that leaves most of their width to them."""
    return int(min(max(0.8 * points(ax)[0] / font(ax), 10), LONGEST))


def leaf_names(names: Sequence[str]) -> list[str]:
    """Names of leaves without the argument, where all are attributes of one: ``layers[0].bias``."""
    start = names[0].partition("]")[0] + "]." if names else ""
    if not all(name.startswith(start) for name in names):
        return list(names)
    return [name.removeprefix(start) for name in names]


def at_steps(axis: Axis) -> None:
    """Ticks of an axis at whole numbers."""
    axis.set_major_locator(MaxNLocator("auto", integer=True))


def at_numbers(axis: Axis, numbers: Sequence[float]) -> None:
    """Ticks of an axis at these numbers, in increasing order, where they are not too close."""
    places = np.ravel(axis.get_transform().transform(np.asarray(numbers, float)[:, None]))
    least = 0.09 * (places[-1] - places[0])
    ticks = [0]
    for k in range(1, len(places)):
        if places[k] - places[ticks[-1]] >= least:
            ticks.append(k)
    axis.set_major_locator(FixedLocator([numbers[k] for k in ticks]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))


class RowLocator(Locator):
    """Ticks at rows, those that matter most first, as far as their labels do not touch."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order = order

    def __call__(self) -> Any:
        return self.tick_values(*self.axis.get_view_interval())  # type: ignore[union-attr]

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """The rows between two heights that get a label."""
        low, high = sorted((vmin, vmax))
        # Matplotlib asks for a line of space between labels; half of it is enough.
        room = max(1.7 * self.axis.get_tick_space(), 1)  # type: ignore[union-attr]
        step = max(math.ceil((high - low) / room), 1)
        taken: set[int] = set()
        for row in self._order:
            if low <= row <= high and taken.isdisjoint(range(row - step + 1, row + step)):
                taken.add(row)
        return sorted(taken)


def name_rows(axis: Axis, names: Sequence[str], order: Sequence[int] | None = None) -> None:
    """Label the heights 0, 1, 2, ... of an axis, those first in `order` that matter most."""

    def name(height: float, _: Any) -> str:
        k = round(height)
        return names[k] if 0 <= k < len(names) else ""

    axis.set_major_locator(RowLocator(range(len(names)) if order is None else order))
    axis.set_major_formatter(FuncFormatter(name))
    axis.set_tick_params(which="both", length=0, labelsize="small")


@dataclass(frozen=True)
class Label:
    """A name beside a point, at the first of several places where it touches nothing.

    Attributes:
        text: The name.
        places: The points that it may stand beside.
        owner: The name that it is shown beside, if it belongs to one.
    """

    text: Annotation
    places: Sequence[tuple[float, float]]
    owner: Text | None = None


class Thinning(Artist):
    """Decides, whenever the figure is drawn, where labels stand and which are hidden.

    Those that come first matter most. It stands behind the labels and is drawn before them.
    """

    def __init__(
        self, ax: Axes, labels: Sequence[Label], points: Sequence[tuple[float, float]]
    ) -> None:
        super().__init__()
        self._labels, self._points, self._data = labels, np.array(points), ax.transData
        for artist in (self, *(label.text for label in labels)):
            artist.set_in_layout(False)
        self.set_zorder(0)
        ax.add_artist(self)

    def draw(self, renderer: Any) -> None:
        """Show and hide the labels."""
        taken: list[Any] = []
        points = self._data.transform(self._points)
        for label in self._labels:
            is_wanted = label.owner is None or label.owner.get_visible()
            label.text.set_visible(is_wanted)
            for place in label.places if is_wanted else ():
                label.text.xy = place
                box = label.text.get_window_extent(renderer)
                if not box.count_contains(points) and not any(map(box.overlaps, taken)):
                    taken.append(box)
                    break
            else:
                label.text.set_visible(False)
