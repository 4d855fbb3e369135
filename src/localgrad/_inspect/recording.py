"""What `record` returns: the dynamics of every vertex as arrays, which print as a table."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from localgrad._inspect.graph import GraphView
from localgrad._inspect.html import curve
from localgrad._inspect.shown import shown
from localgrad._inspect.table import Column, Table
from localgrad._inspect.tabular import Tabular
from localgrad._inspect.wiring import Wiring

NEVER = -1


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["value", "error", "energy", "plastic", "delivered"],
    meta_fields=["name", "levels", "copies"],
)
@dataclass(frozen=True, repr=False)
class VertexRecording:
    """One vertex over time; ``t`` stands for the axis of the times, ``c...`` for one axis per scan.

    Attributes:
        value: What the vertex held, ``(t, c..., *shape)``.
        error: Its error ``e = mu - x``, of the same shape. Of the loss: the nudge, once it pulls.
        energy: ``1/2 sum |e|^2``, ``(t, c...)``. Of the loss: error times value.
        plastic: Whether the synapses onto it learned at this time or since the time before it in
            the recording, ``(t, c...)``.
        delivered: ``<e, d> / <d, d>`` with `d` the error that backpropagation would send, ``(t,
            c...)``: 0 before anything has arrived, 1 when all has; nan where `d` is 0. None for
            rules of the Z-IL family, whose errors pass by, and for the loss.
        name: Its name.
        levels: The level of each copy, in order; -1 for a copy that cannot reach the loss, or on
            the clock depends on no leaf. Such a copy is not simulated, and is 0 throughout.
        copies: The shape of its copies, ``()`` outside of scans.
    """

    value: jax.Array
    error: jax.Array
    energy: jax.Array
    plastic: jax.Array
    delivered: jax.Array | None
    name: str
    levels: tuple[int, ...]
    copies: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one copy's value."""
        return self.value.shape[1 + len(self.copies) :]

    def __repr__(self) -> str:
        return f"VertexRecording({self.name!r}, value{self.value.shape}, levels={self.levels})"


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "times", "loss", "energy", "gradients", "value", "aux", "vertices", "first_not_finite",
    ],
    meta_fields=["rule", "names", "graph", "_watched", "_wiring"],
)  # fmt: skip
@dataclass(frozen=True, repr=False)
class Recording(Tabular):
    """The dynamics of a rule on a function, a pytree of arrays; prints as a table.

    It may be returned from ``jit`` and ``vmap``. `names`, levels and copies are static.

    Attributes:
        times: The steps taken at each time of the recording, ``(t,)``: 0 is the forward pass.
        loss: Nudge times loss at each time, ``(t,)``: 0 as long as the loss does not pull.
        energy: The free energy ``1/2 sum |e|^2 + nudge * loss`` over all vertices, recorded or
            not, ``(t,)``. Inference learning descends it. Rules that hold the values of the
            forward pass (fixed prediction, activation relaxation) descend no energy.
        gradients: What the synapses learned, as `localgrad.grad` returns it.
        value: The loss of the forward pass.
        aux: The auxiliary output; None without `has_aux`.
        vertices: The recorded vertices, in the order of `names`.
        first_not_finite: Of every vertex, recorded or not, the first time of the recording at
            which its error, or its value although it was finite in the forward pass, is not a
            finite number; -1 if there is none. `not_finite` says it by name.
        rule: The rule's name.
        names: The names of the recorded vertices, those of `localgrad.graph`, in the order of
            computation. A chain of relays is ``name.relays``, one copy per relay; the last is the
            loss.
        graph: The function's graph, as `localgrad.graph` returns it: parents, source lines, scopes.
            Relays are not in it.
    """

    times: jax.Array
    loss: jax.Array
    energy: jax.Array
    gradients: Any
    value: jax.Array
    aux: Any
    vertices: tuple[VertexRecording, ...]
    first_not_finite: jax.Array
    rule: str
    names: tuple[str, ...]
    graph: GraphView
    _watched: tuple[str, ...]
    _wiring: Wiring

    def __getitem__(self, name: str) -> VertexRecording:
        """The recording of the vertex of this name."""
        if name not in self.names:
            raise KeyError(f"no vertex {name!r} in the recording; {nearest(name, self.names)}")
        return self.vertices[self.names.index(name)]

    def __len__(self) -> int:
        """How many vertices were recorded."""
        return len(self.names)

    @property
    def delivered(self) -> dict[str, jax.Array]:
        """By vertex, which part of backpropagation's error it has, ``(t, c...)``; see above."""
        return {v.name: v.delivered for v in self.vertices if v.delivered is not None}

    @property
    def not_finite(self) -> dict[str, int]:
        """The vertices with values or errors that are not finite, and when that was first seen."""
        first = np.asarray(self.first_not_finite)
        return {n: int(t) for n, t in zip(self._watched, first, strict=True) if t != NEVER}

    def show(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        beside: "Recording | None" = None,
        title: str | None = None,
    ) -> Path:
        """Write a page that plays the recording: the graph by levels, its errors, its energy.

        One HTML file with everything inside, for any browser of 2023 or later, without a network.
        docs/page.md says what is to be seen there. Every vertex, and every copy of one in a scan,
        is a node in the column of its level; where vertices were not recorded, those around them
        are joined by dashed edges.

        Args:
            path: Where to write; a file that is there is replaced once the page is complete. None:
                a temporary file, which is opened in the browser.
            beside: Another recording, of the same or of another function, which runs on the same
                clock of steps; the shorter one holds its last state.
            title: What stands above; None: the names of the rules.

        Returns:
            The path of the file.

        Raises:
            TypeError: if `beside` is no recording.
            ValueError: if there are no numbers to show (a recording inside of ``jit`` or ``vmap``),
                those of a whole batch, or no recorded vertex.

        Example:
            >>> import jax.numpy as jnp, localgrad as lg, pathlib, tempfile
            >>> def loss(w, x):
            ...     for k in range(3):
            ...         x = lg.vertex(jnp.tanh(x @ w), f"h{k}")
            ...     return 0.5 * jnp.sum(x**2)
            >>> wave, relaxation = (
            ...     lg.record(loss, rule=rule)(jnp.eye(2), jnp.ones(2))
            ...     for rule in (lg.ZIL(), lg.InferenceLearning(steps=8))
            ... )
            >>> folder = pathlib.Path(tempfile.mkdtemp())
            >>> wave.show(folder / "wave.html", beside=relaxation).name
            'wave.html'
        """
        return shown(self, beside, path, title)

    def __repr__(self) -> str:
        return f"Recording({self.rule!r}, times{self.times.shape}, {len(self)} vertices)"

    def _table(self) -> Table | None:
        try:
            times, energy = np.asarray(self.times), np.asarray(self.energy)
        except jax.errors.TracerArrayConversionError:
            return None  # under jit or vmap: no numbers yet
        if times.ndim != 1:
            return None  # a batch of recordings
        columns = (
            Column("level", right=True),
            Column("vertex", keeps_end=True, gives=True),
            Column("shape"),
            Column("|e| at end", right=True),
            Column("energy", right=True),
            Column("plastic"),
        )
        rows = [_row(vertex, times) for vertex in reversed(self.vertices)]
        title = (
            f"{self.rule}, {times[-1]} steps, recorded at {len(times)} times, "
            f"loss {float(self.value):.6g}",
            f"free energy {energy[0]:.6g} at first, {energy[-1]:.6g} at the end",
        )
        warnings = (f"not finite from time {t} on: {n}" for n, t in self.not_finite.items())
        return Table(title, columns, rows, (), tuple(warnings))

    def _figure(self) -> str:
        """The energy over time, and where to see more."""
        energy = curve(np.asarray(self.times), np.asarray(self.energy), "free energy over time")
        return f"{energy}<code>recording.show()</code> plays the wave of errors on a page"


def nearest(name: str, names: Sequence[str]) -> str:
    """What could have been meant, and what there is."""
    close = get_close_matches(name, names, n=1)
    there = [*names[:20], *([f"and {len(names) - 20} more"] if len(names) > 20 else [])]
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}choose from {', '.join(there)}."


def _row(vertex: VertexRecording, times: np.ndarray) -> tuple[str, ...]:
    copies = f"{_sizes(vertex.copies)} of " if vertex.copies else ""
    shape = _sizes(vertex.shape) or "scalar"
    error = np.asarray(vertex.error[-1]).astype(np.complex128).ravel()
    moments = times[np.asarray(vertex.plastic).reshape(len(times), -1).any(1)]
    return (
        _span([level for level in vertex.levels if level >= 0]),
        vertex.name,
        f"{copies}{shape}",
        f"{np.linalg.norm(error):.3e}",
        f"{float(np.sum(vertex.energy[-1])):.3e}",
        _span(moments) or "never",
    )


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _span(numbers: Sequence[int] | np.ndarray) -> str:
    if not len(numbers):
        return ""
    first, last = numbers[0], numbers[-1]
    return f"{first}" if first == last else f"{first}..{last}"
