"""`energy`: who holds how much of the free energy, over time."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from localgrad import Recording, VertexRecording
from localgrad.plot._folding import label_of
from localgrad.plot._look import VERMILLION, axes_or_new, category, ink, log_scale
from localgrad.plot._rows import Numbers, checked, chosen
from localgrad.plot._ticks import at_steps, short


def energy(
    recording: Recording,
    vertices: Sequence[str] | str | None = None,
    *,
    most: int = 6,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Energies over time: of the largest vertices, of the others by group, and in total.

    The energy of a vertex is ``1/2 sum |e|^2`` over its numbers and its copies inside a scan; that
    of the loss is nudge times loss. The total is the free energy of all vertices, recorded or not:
    inference learning descends it, rules that hold the values of the forward pass need not.

    Args:
        recording: What `localgrad.record` returns, of a single run.
        vertices: Names of the vertices that get a line each; None: those that reach the largest
            energies.
        most: With `vertices` None, how many get a line of their own. The others are summed by their
            outermost group (``GraphView.groups``), or all together where that is not fewer.
        log: Whether the energies stand on a logarithmic axis, with a place for zero and, below it,
            for negative ones.
        ax: Where to draw; None: a new figure.

    Returns:
        The axes, with one line per vertex or sum, in units of the loss, and the total last.

    Raises:
        TypeError: if `recording` is no recording, or is being traced.
        ValueError: for a batch of recordings.
        KeyError: for a name in `vertices` that was not recorded.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> from localgrad import plot
        >>> def loss(w, x):
        ...     h = lg.vertex(jnp.tanh(x @ w), "h")
        ...     return 0.5 * jnp.sum((h @ w) ** 2)
        >>> rule = lg.InferenceLearning(steps=20, rate=0.1)
        >>> ax = plot.energy(lg.record(loss, rule=rule)(jnp.eye(2), jnp.ones(2)))
        >>> [line.get_label() for line in ax.lines]
        ['loss', 'h', 'free energy']
    """
    recording = checked(recording)
    named = chosen(recording, vertices)
    series = {vertex.name: _energy(vertex) for vertex in named}
    if vertices is None:
        series = _largest(series, recording.graph.groups, most)
    total = np.asarray(recording.energy, float)
    drawn = np.array([*series.values(), total])

    ax = axes_or_new(ax)
    times = np.asarray(recording.times)
    apart = max(len(times) // 8, 1)
    for k, (name, numbers) in enumerate(series.items()):
        look = category(ax, k)
        ax.plot(
            times, numbers, label=short(name), markevery=(k % apart, apart), markersize=4, **look
        )
    ax.plot(times, total, color=ink(ax), alpha=0.4, linewidth=4, label="free energy", zorder=1.9)
    if log:
        log_scale(ax, "y", drawn)
    if recording.not_finite:
        first = min(recording.not_finite.values())
        label = f"not finite from time {first}"
        ax.axvline(first, color=VERMILLION, linestyle=(0, (1, 1)), linewidth=2, label=label)
    at_steps(ax.xaxis)
    ax.set(xlabel="time (inference steps)", ylabel="energy (units of the loss)")
    ax.legend(loc="best", fontsize="small")
    return ax


def _energy(vertex: VertexRecording) -> Numbers:
    """The energy over time, of all copies together."""
    numbers = np.asarray(vertex.energy, float)
    total: Numbers = numbers.reshape(len(numbers), -1).sum(1)
    return total


def _largest(
    series: dict[str, Numbers], groups: dict[str, tuple[str, ...]], most: int
) -> dict[str, Numbers]:
    """The `most` largest of them by name, the others summed by group."""
    order = sorted(series, key=lambda name: -_peak(series[name]))
    if len(order) <= most + 1:
        return {name: series[name] for name in order}
    others = defaultdict[str, list[str]](list)
    for name in order[most:]:
        owner = name if name in groups else name.removesuffix(".relays")
        outermost = groups.get(owner, ())[:1]
        others[outermost[0] if outermost else "others"].append(name)
    if len(others) > most:
        others = defaultdict(list, {"others": order[most:]})
    sums = {
        label_of((group,), [(group, (name,)) for name in names]): names
        for group, names in others.items()
    }
    return {name: series[name] for name in order[:most]} | {
        label: np.sum([series[name] for name in names], axis=0) for label, names in sums.items()
    }


def _peak(numbers: Numbers) -> float:
    return float(np.max(np.abs(numbers[np.isfinite(numbers)]), initial=0))
