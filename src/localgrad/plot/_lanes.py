"""A graph on lanes: every vertex at its level, each with its relays on a straight line.

Level is one coordinate, exactly. The other is a lane: a vertex keeps its lane from its own level
down to its last relay, so that a skip connection runs beside what it skips.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from localgrad import GraphView, Vertex
from localgrad.plot._folding import Path, folded, label_of


@dataclass(frozen=True)
class Item:
    """What has a lane of its own: a vertex with its copies and relays, or a closed group.

    Attributes:
        label: Its name.
        vertices: What is in it.
        lane: Its lane, from 0.
        low: The lowest level that its lane is kept for.
    """

    label: str
    vertices: tuple[Vertex, ...]
    lane: int
    low: int

    @property
    def is_group(self) -> bool:
        """Whether it stands for several vertices."""
        return len(self.vertices) > 1

    @property
    def levels(self) -> list[int]:
        """The levels of its vertices and their copies, the highest first."""
        return sorted({level for v in self.vertices for level in v.levels}, reverse=True)

    @property
    def heights(self) -> list[float]:
        """Where its name may stand: in a group from the middle on, else from the highest level."""
        top, bottom = self.levels[0], self.levels[-1]
        heights = [top - (top - bottom) * k / 16 for k in range(17 if top > bottom else 1)]
        return (
            sorted(heights, key=lambda h: abs(2 * h - top - bottom)) if self.is_group else heights
        )

    @property
    def relays(self) -> list[int]:
        """The levels at which its lane has relays and nothing else."""
        found = {
            level - k
            for v in self.vertices
            for level, count in zip(v.levels, v.relays, strict=True)
            for k in range(1, count + 1)
        }
        return sorted(found.difference(self.levels))


class Line(NamedTuple):
    """An edge: down the parent's lane from its level to the one above the child's, and across."""

    parent: Item
    child: Item
    start: int
    end: int
    is_recurrent: bool


def lanes_of(view: GraphView, most: int) -> tuple[list[Item], list[Line]]:
    """The graph on lanes, with groups closed so far that there are at most `most` items.

    If there are more of them with all groups closed, all are.
    """
    groups = view.groups
    paths: list[Path] = [(*groups[v.name], (v.name,)) for v in view.vertices]
    keys = folded(paths, [1] * len(paths), most) or [path[:1] for path in paths]
    key_of = {v.name: key for v, key in zip(view.vertices, keys, strict=True)}
    inside = defaultdict[Path, list[Vertex]](list)
    for vertex in view.vertices:
        inside[key_of[vertex.name]].append(vertex)
    edges = [edge for edge in _edges(view) if key_of[edge.parent] != key_of[edge.child]]
    items = _placed(inside, edges, key_of)
    lines = {
        Line(items[key_of[e.parent]], items[key_of[e.child]], e.start, e.end, e.is_recurrent): None
        for e in edges
    }
    return list(items.values()), list(lines)


class _Edge(NamedTuple):
    """An edge from a parent at level `start` to a child at level `end`."""

    parent: str
    child: str
    start: int
    end: int
    is_recurrent: bool


def _edges(view: GraphView) -> Iterator[_Edge]:
    known = {vertex.name: vertex for vertex in view.vertices}
    for child in view.vertices:
        for text in child.parents:
            name = text.removesuffix("@-1")
            is_recurrent = name != text and text not in known
            if (name if is_recurrent else text) in known:
                parent = known[name if is_recurrent else text]
                for start, end in _pairs(parent, child, is_recurrent):
                    yield _Edge(parent.name, child.name, start, end, is_recurrent)


def _pairs(parent: Vertex, child: Vertex, is_recurrent: bool) -> Sequence[tuple[int, int]]:
    """The levels of the copies that an edge joins.

    Between vertices of one scan each iteration has its edge. From outside it leads to the first
    iteration, and to outside from the last one.
    """
    if is_recurrent:
        return list(zip(parent.levels[:-1], child.levels[1:], strict=False))
    if len(parent.levels) == len(child.levels):
        return list(zip(parent.levels, child.levels, strict=True))
    return [(min(parent.levels), max(child.levels))]


def _placed(
    inside: dict[Path, list[Vertex]], edges: Sequence[_Edge], key_of: dict[str, Path]
) -> dict[Path, Item]:
    """Give each item the free lane nearest to its parents', the farthest from the loss first."""
    low = {key: min(min(v.levels) for v in vertices) for key, vertices in inside.items()}
    parents = defaultdict[Path, set[Path]](set)
    for edge in edges:
        key = key_of[edge.parent]
        low[key] = min(low[key], edge.end + 1)
        parents[key_of[edge.child]].add(key)
    high = {key: max(max(v.levels) for v in vertices) for key, vertices in inside.items()}
    taken = defaultdict[int, list[tuple[int, int]]](list)
    items: dict[Path, Item] = {}
    for key in sorted(inside, key=lambda key: -high[key]):
        wanted = min((items[p].lane for p in parents[key] if p in items), default=0)
        free = (
            lane
            for lane in range(len(inside) + 1)
            if all(low[key] > top or high[key] < bottom for bottom, top in taken[lane])
        )
        lane = min(free, key=lambda lane: (abs(lane - wanted), lane))
        taken[lane].append((low[key], high[key]))
        label = label_of(key, [(*key, (v.name,)) for v in inside[key]])
        items[key] = Item(label, tuple(inside[key]), lane, low[key])
    return items
