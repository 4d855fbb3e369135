"""Which copy of a vertex reads which copy of another, from the graph and the levels."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from localgrad._inspect.graph import GraphView, Vertex
from localgrad._inspect.groups import Path

Index = tuple[int, ...]
"""Of a copy: the position in each scan around it, in the order of the data."""


class Copies:
    """The copies of a vertex, each with the longest edge that may leave it.

    Attributes:
        shape: Lengths of the scans around it.
        reverse: Which of these run backwards.
        levels: As in the graph, ``shape``.
        relays: Relays that the copy's longest edge would need, ``shape``.
    """

    def __init__(self, vertex: Vertex, shape: Index, recorded: tuple[int, ...]) -> None:
        self.shape = shape
        levels = np.reshape(recorded, shape)
        self.there = levels >= 0
        self.reverse = tuple(axis for axis in range(len(shape)) if _is_reverse(levels, axis))
        self.levels, self.relays = (
            np.flip(np.reshape(numbers, shape), self.reverse)
            for numbers in (vertex.levels, vertex.relays)
        )

    def in_order(self) -> Iterator[Index]:
        """The copies that are there, first iteration first."""
        for index in np.ndindex(self.shape):
            index = self.turned(index)
            if self.there[index]:
                yield index

    def turned(self, index: Index) -> Index:
        """From the order of the data to that of the iterations, or back."""
        return tuple(self.shape[a] - 1 - k if a in self.reverse else k for a, k in enumerate(index))

    def before(self, index: Index, shared: int) -> Index | None:
        """The shared scans' iteration before that of a copy."""
        lengths = self.shape[:shared]
        whole = (*index[:shared], *self.shape[shared:])
        position = int(np.ravel_multi_index(self.turned(whole)[:shared], lengths)) if shared else 0
        if not position:
            return None
        earlier = tuple(map(int, np.unravel_index(position - 1, lengths)))
        return self.turned((*earlier, *self.shape[shared:]))[:shared]


class Parent(NamedTuple):
    """Whom a vertex reads: in the same iteration or the one before, itself or through others."""

    name: str
    is_before: bool
    is_direct: bool


class Read(NamedTuple):
    """That one copy reads another."""

    parent: tuple[str, Index]
    child: tuple[str, Index]
    is_direct: bool


def reads(graph: GraphView, copies: Mapping[str, Copies]) -> Iterator[Read]:
    """Every edge between recorded copies.

    A graph has one edge between two vertices of a scan, and does not say if what comes from outside
    is read by all iterations or starts the first, nor if what leaves is all of them or the last.
    But it has the relays of each copy: no edge is longer than its chain.
    """
    for child in graph.vertices:
        if child.name not in copies:
            continue
        for parent in _parents(graph, child.name, copies):
            shared = _shared(graph, parent.name, child.name)
            ends = copies[parent.name], copies[child.name]
            found = list(_pairs(*ends, shared, parent))
            if not found and not parent.is_before:
                # Two loops that follow each other directly cannot be told apart by their names.
                found = list(_pairs(*ends, 0, parent))
            for p, c in found:
                yield Read((parent.name, p), (child.name, c), parent.is_direct)


def _pairs(
    parent: Copies, child: Copies, shared: int, how: Parent
) -> Iterator[tuple[Index, Index]]:
    for c in child.in_order():
        key = parent.before(c, shared) if how.is_before else c[:shared]
        if key is None:
            continue
        rest = [(*key, *index) for index in np.ndindex(parent.shape[shared:])]
        passed = {p: parent.levels[p] - child.levels[c] - 1 for p in rest if parent.there[p]}
        passed = {p: count for p, count in passed.items() if count >= 0}
        if how.is_direct:
            yield from ((p, c) for p, count in passed.items() if count <= parent.relays[p])
        else:
            yield from ((p, c) for p, count in passed.items() if count == min(passed.values()))


def _parents(graph: GraphView, name: str, copies: Mapping[str, Copies]) -> Iterator[Parent]:
    """The nearest recorded ones, found through those that were not."""
    names = {vertex.name for vertex in graph.vertices}
    waiting, met = [Parent(name, False, True)], set[tuple[str, bool]]()
    while waiting:
        via = waiting.pop()
        for read in graph[via.name].parents:
            plain = read.removesuffix("@-1") if read not in names else read
            parent = Parent(plain, via.is_before or plain != read, via.name == name)
            if plain not in names or parent[:2] in met:
                continue
            met.add(parent[:2])
            if plain in copies:
                yield parent
            else:
                waiting.append(parent)


def common(paths: Iterable[Path]) -> Path:
    """The groups that all of them begin with."""
    same = takewhile(lambda labels: len(set(labels)) == 1, zip(*paths, strict=False))
    return tuple(labels[0] for labels in same)


def _shared(graph: GraphView, *names: str) -> int:
    """How many scans two vertices stand in together."""
    loops = common(graph.groups[name][: len(graph[name].group)] for name in names)
    return sum(label.startswith("scan x ") for label in loops)


def _is_reverse(levels: np.ndarray, axis: int) -> bool:
    """Whether levels rise along a scan: its first iteration is the farthest from the loss."""
    levels = np.moveaxis(levels, axis, 0)
    is_there = (levels[1:] >= 0) & (levels[:-1] >= 0)
    return bool(np.any((levels[1:] > levels[:-1]) & is_there))
