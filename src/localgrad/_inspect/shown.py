"""A recording as the film that the page shows: a unit for each copy of a vertex and each relay."""

import linecache
import os
import tempfile
import webbrowser
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from localgrad._call import require
from localgrad._inspect.copies import Copies, Index, common, reads
from localgrad._jaxpr import called_at, explain
from localgrad._page import Edge, Film, Unit, page, save

if TYPE_CHECKING:
    from localgrad._inspect.recording import Recording, VertexRecording

RELAYS = ".relays"


def shown(
    recording: "Recording",
    beside: "Recording | None",
    path: str | os.PathLike[str] | None,
    title: str | None,
) -> Path:
    """Write the page of one recording or two, and open it if nobody said where to write."""
    do = "pass another recording, or leave it out."
    met = f"met beside={beside!r}, which is no recording."
    require(beside is None or isinstance(beside, type(recording)), met, do)
    films = [film_of(each) for each in (recording, beside) if each is not None]
    text = page(films, title or " and ".join(dict.fromkeys(film.rule for film in films)))
    if path is not None:
        return save(text, Path(path))
    file = save(text, Path(tempfile.mkdtemp(prefix="localgrad-")) / "wave.html")
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
    edges = cast.edges()
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
        self._graph = recording.graph
        self._groups = recording.graph.groups
        self._written = {v.name: v for v in recording.graph.vertices}
        self._copies = {
            name: Copies(self._written[of], seen.copies, seen.levels)
            for name, seen in self.seen.items()
            if (of := self._vertex(name))
        }
        self.places = {name: self._added(name, seen) for name, seen in self.seen.items()}

    def edges(self) -> Iterator[Edge]:
        """From the first to the last unit on the way of an edge, through its relays."""
        found: dict[tuple[int, int], bool] = {}
        reached = defaultdict[int, set[int]](set)
        chains = {unit: chain for name in self.places for unit, chain in self._chains(name)}
        for unit, chain in chains.items():
            found |= dict.fromkeys(pairwise([unit, *chain]), True)
        for parent, child, is_direct in self._opened(self._reads()):
            level = self.units[child].level
            way = [r for r in chains.get(parent, ()) if self.units[r].level > level]
            last = way[-1] if way else parent
            found[last, child] = found.get((last, child), False) or is_direct
            for relay in way:
                reached[relay] |= {parent, child}
        for relay, ends in reached.items():
            # It stands in what is around all that it connects.
            group = common(self.units[unit].group for unit in ends)
            self.units[relay] = self.units[relay]._replace(group=group)
        return (Edge(*ends, is_direct) for ends, is_direct in found.items())

    def _vertex(self, name: str) -> str:
        """The vertex of the graph that a recorded one is, or is a further output of."""
        if name in self._written:
            return name
        first, _, number = name.rpartition(":")
        return first if first in self._written and number.isdigit() else ""

    def _added(self, name: str, seen: "VertexRecording") -> dict[Index, int]:
        """Units for a vertex's copies."""
        owner = name.removesuffix(RELAYS)
        is_relay = owner != name and owner in (*self.seen, *self._written)
        vertex = self._written.get(self._vertex(owner if is_relay else name))
        kind = "relay" if is_relay else "vertex" if vertex else "choice"
        if vertex is self._graph.vertices[-1]:
            kind = "loss"
        unit = Unit(
            name=name,
            kind=kind,
            level=0,
            type=f"{seen.value.dtype}[{','.join(map(str, seen.shape))}]",
            source=vertex.source if vertex else "",
            code=_line(vertex.source) if vertex else "",
            scope=vertex.scope if vertex else "",
            group=self._groups[vertex.name] if vertex else (),
            stack=name if len(seen.levels) > 1 else "",
            leaves=self._leaves(vertex.parents) if vertex and not is_relay else (),
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

    def _chains(self, name: str) -> Iterator[tuple[int, list[int]]]:
        """Of each copy of a vertex its relays, from the copy to the loss."""
        relays = list(self.places.get(f"{name}{RELAYS}", {}).values())
        copies = self._copies.get(name)
        total, limits = len(relays), {}
        if copies and int(np.sum(copies.relays[copies.there])) == total:
            limits = {index: int(copies.relays[index]) for index in copies.in_order()}
        for index in copies.in_order() if copies else self.places[name]:
            unit, chain = self.places[name][index], list[int]()
            while relays and len(chain) < limits.get(index, total):
                if self.units[relays[0]].level != self.units[unit].level - 1 - len(chain):
                    break
                chain.append(relays.pop(0))
            yield unit, chain

    def _reads(self) -> Iterator[Edge]:
        """The edges of the graph between recorded copies."""
        outputs = defaultdict[str, list[str]](list)
        for name in self._copies:
            outputs[self._vertex(name)].append(name)
        first = {vertex: self._copies[names[0]] for vertex, names in outputs.items()}
        for (parent, p), (child, c), is_direct in reads(self._graph, first):
            for a in outputs[parent]:
                for b in outputs[child]:
                    if p in self.places[a] and c in self.places[b]:
                        yield Edge(self.places[a][p], self.places[b][c], is_direct)

    def _opened(self, edges: Iterator[Edge]) -> Iterator[Edge]:
        """The same, through the choices between branches.

        The graph does not have these. They stand directly before the first vertex of a branch and
        directly behind the last, and are of the type of what passes; a parameter is chosen, too.
        """
        choices = {k for k, unit in enumerate(self.units) if unit.kind == "choice"}
        passed = set[int]()
        for parent, child, is_direct in edges:
            way = [parent, *self._between(parent, child, choices), child]
            passed |= {*way}
            yield from (Edge(*ends, is_direct) for ends in pairwise(way))
        for k in choices - passed:
            level = self.units[k].level - 1
            readers = [c for c, unit in enumerate(self.units) if unit.level == level and unit.group]
            readers = [c for c in readers if self.units[c].leaves]
            if len(readers) == 1:
                yield Edge(k, readers[0], True)

    def _between(self, parent: int, child: int, choices: set[int]) -> list[int]:
        """The choices that an edge passes where it enters a branch, and where it leaves one."""
        above, below = self.units[parent], self.units[child]
        around = len(common([above.group, below.group]))
        levels = set[int]()
        if len(above.group) > around:
            levels.add(above.level - 1)
        if len(below.group) > around:
            levels.add(below.level + 1)
        fitting = [
            k
            for k in choices
            if self.units[k].type == above.type
            and self.units[k].level in levels
            and above.level > self.units[k].level > below.level
        ]
        return sorted(fitting, key=lambda k: -self.units[k].level)


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
