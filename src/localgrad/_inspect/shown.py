"""A recording as the film that the page shows: a unit for each copy of a vertex and each relay."""

import linecache
import os
import tempfile
import webbrowser
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from localgrad._call import require
from localgrad._inspect.graph import Vertex
from localgrad._inspect.groups import Path
from localgrad._jaxpr import called_at, explain
from localgrad._page import Edge, Film, Unit, page, save

if TYPE_CHECKING:
    from localgrad._inspect.recording import Recording, VertexRecording

RELAYS = ".relays"

Index = tuple[int, ...]
"""Of a copy: the position in each scan around it, in the order of the data."""


def shown(
    recording: "Recording",
    beside: "Recording | None",
    path: str | os.PathLike[str] | None,
    title: str | None,
) -> File:
    """Write the page of one recording or two, and open it if nobody said where to write."""
    do = "pass another recording, or leave it out."
    met = f"met beside={beside!r}, which is no recording."
    require(beside is None or isinstance(beside, type(recording)), met, do)
    films = [film_of(each) for each in (recording, beside) if each is not None]
    text = page(films, title or " and ".join(dict.fromkeys(film.rule for film in films)))
    if path is not None:
        return save(text, File(path))
    file = save(text, File(tempfile.mkdtemp(prefix="localgrad-")) / "wave.html")
    webbrowser.open(file.as_uri())
    return file


def film_of(recording: "Recording") -> Film:
    """The film of a recording, which has to be one run, with numbers and vertices."""
    times = _times(recording)
    cast = _Cast(recording)
    shape = (len(recording.times), len(cast.units))
    error, change, plastic = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
    delivered = np.full(shape, np.nan)
    for name, seen in cast.seen.items():
        here, there = list(cast.places[name].values()), np.array(seen.levels) >= 0
        error[:, here] = _norms(_flat(seen.error, seen)[:, there])
        change[:, here] = _norms(_since_first(_flat(seen.value, seen)[:, there]))
        plastic[:, here] = _flat(seen.plastic, seen)[:, there, 0]
        if seen.delivered is not None:
            delivered[:, here] = _flat(seen.delivered, seen)[:, there, 0]
    edges = cast.edges()  # which put relays into their groups
    return Film(
        rule=recording.rule,
        times=times,
        energy=np.asarray(recording.energy, np.float64),
        loss=np.asarray(recording.loss, np.float64),
        units=tuple(cast.units),
        edges=tuple(edges),
        error=error,
        change=change,
        plastic=plastic,
        delivered=delivered if recording.delivered else None,
    )


def _times(recording: "Recording") -> np.ndarray:
    """The times of a recording, if it can be shown."""
    try:
        times = np.asarray(recording.times)
    except jax.errors.TracerArrayConversionError:
        met = "met a recording inside of jax.jit or jax.vmap, where it has no numbers yet."
        do = "return it from there, and show what is returned."
        raise ValueError(explain(met, called_at(), do)) from None
    met = f"met a batch of recordings, with times of shape {times.shape}."
    do = "show one of them, e.g. jax.tree.map(lambda x: x[0], recording).show(...)."
    require(times.ndim == 1, met, do, kind=ValueError)
    met = "met a recording without any vertex."
    do = "record some: leave `only` out, or name them there."
    require(bool(recording.names), met, do, kind=ValueError)
    return times


class _Cast:
    """The units of a recording, and who reads whom.

    Attributes:
        units: All of them.
        seen: The recorded vertices by name.
        places: Of each of them its copies, and where these stand among the units.
    """

    def __init__(self, recording: "Recording") -> None:
        self.units: list[Unit] = []
        self.seen = dict(zip(recording.names, recording.vertices, strict=True))
        self._graph, self._readers = recording.graph, recording._wiring.readers
        self._groups = recording.graph.groups
        self._written = {v.name: v for v in recording.graph.vertices}
        self.places = {name: self._added(name, seen) for name, seen in self.seen.items()}

    def edges(self) -> list[Edge]:
        """From each unit to its readers; past what was not recorded to the next unit that was."""
        root = self._graph.vertices[-1].name
        heard: list[dict[int, bool]] = []
        found: dict[tuple[int, int], bool] = {}
        for reader in self._readers:
            own = self.places.get(reader.name or root, {}).get(reader.copy)
            past: dict[int, bool] = {}
            for parent in reader.parents:
                for unit, is_direct in heard[parent].items():
                    past[unit] = past.get(unit, False) or is_direct
            if own is None:
                heard.append({unit: d and reader.is_relay for unit, d in past.items()})
            else:
                heard.append({own: True})
                found |= {(unit, own): is_direct for unit, is_direct in past.items()}
        self._regroup(found)
        return [Edge(*ends, is_direct) for ends, is_direct in found.items()]

    def _regroup(self, edges: Iterable[tuple[int, int]]) -> None:
        """Put each relay into what is around its vertex and all those that read it."""
        ends: dict[int, Path] = {}
        for parent, child in sorted(edges, key=lambda edge: self.units[edge[0]].level):
            if self.units[parent].kind == "relay":
                group = ends.get(child, self.units[child].group)
                ends[parent] = common(ends.get(parent, self.units[parent].group), group)
        for unit, group in ends.items():
            self.units[unit] = self.units[unit]._replace(group=group)

    def _vertex(self, name: str) -> Vertex:
        """The vertex of the graph that a recorded one is, or is a relay or an output of."""
        owner = name if name in self._written else name.removesuffix(RELAYS)
        return self._written[owner if owner in self._written else owner.rpartition(":")[0]]

    def _added(self, name: str, seen: "VertexRecording") -> dict[Index, int]:
        """Units for a vertex's copies."""
        vertex = self._vertex(name)
        is_relay = name not in self._written and name.endswith(RELAYS)
        kind = "relay" if is_relay else "vertex"
        if vertex is self._graph.vertices[-1]:
            kind = "loss"
        unit = Unit(
            name=name,
            kind=kind,
            level=0,
            type=f"{seen.value.dtype}[{','.join(map(str, seen.shape))}]",
            source=vertex.source,
            code=_line(vertex.source),
            scope=vertex.scope,
            group=self._groups[vertex.name],
            stack=name if len(seen.levels) > 1 else "",
            leaves=() if is_relay else self._leaves(vertex.parents),
        )
        places = {}
        for index, level in zip(np.ndindex(seen.copies), seen.levels, strict=True):
            if level >= 0:
                places[index] = len(self.units)
                is_only = not index or (is_relay and len(seen.levels) == 1)
                shown = name if is_only else f"{name}[{','.join(map(str, index))}]"
                self.units.append(unit._replace(name=shown, level=level))
        return places

    def _leaves(self, parents: tuple[str, ...]) -> tuple[str, ...]:
        """What of a vertex's parents is no vertex: the parameters."""
        return tuple(p for p in parents if p.removesuffix("@-1") not in self._written)


def common(one: Path, other: Path) -> Path:
    """The groups that both begin with."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return tuple(label for label, _ in same)


def _flat(array: Any, seen: "VertexRecording") -> np.ndarray:
    """``(t, copies, numbers)``, in the widest dtype of its kind."""
    found = np.asarray(array)
    if found.dtype != bool:
        found = found.astype(np.complex128 if np.iscomplexobj(found) else np.float64)
    return found.reshape(len(found), len(seen.levels), -1)


def _norms(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):  # what is not finite shall be seen
        return np.asarray(np.linalg.norm(numbers, axis=-1))


def _since_first(values: np.ndarray) -> np.ndarray:
    """The difference from the first time; none where both are the same infinity."""
    with np.errstate(all="ignore"):
        return np.where(values == values[0], 0, values - values[0])


def _line(source: str) -> str:
    """The text of a line of the user's code."""
    file, _, number = source.rpartition(":")
    return linecache.getline(file, int(number)).strip() if number.isdigit() else ""
