"""Levels: how far each vertex is from the loss, and where identity vertices (relays) would stand.

The level of a vertex is the longest path from it to the loss, over every dependence (a mask must
not change before its consumer has fired). An edge between vertices that spans k > 1 levels needs
k - 1 relays on a clock; one chain per vertex serves all its children. The event engine needs
none. A vertex inside a scan has one level and one chain per iteration, as in the unrolled program.
"""

from collections.abc import Sequence
from typing import NamedTuple

from localgrad._graph.branched import Branched
from localgrad._graph.build import Graph
from localgrad._graph.recomputed import Recomputed
from localgrad._graph.stacked import Stacked
from localgrad._graph.vertex import Step

NOWHERE = float("inf")


class Reach(NamedTuple):
    """Of a value: the level of a vertex that makes it, and of its child nearest to the loss."""

    far: int
    near: float

    def joined(self, other: "Reach | None") -> "Reach":
        """Of a value with the children of both."""
        return Reach(max(self.far, other.far), min(self.near, other.near)) if other else self


class Place(NamedTuple):
    """Where one copy of a vertex stands: its level, and the length of its chain of relays."""

    level: int
    relays: int


Places = dict[Step, list[Place]]
"""One place per vertex; inside of a scan one per iteration, the first iteration first."""


def levels(graph: Graph) -> Places:
    """The places of all vertices between the leaves and the loss, the graph's first output."""
    places: Places = {}
    _visit(graph.steps, {graph.outputs[0]: Reach(0, NOWHERE)}, places)
    for copies in places.values():
        copies.reverse()
    return places


def _visit(steps: Sequence[Step], reach: dict[int, Reach], places: Places) -> None:
    """Walk from the outputs to the inputs; `reach` holds the outputs' and receives all others'."""
    for step in reversed(steps):
        outputs = [reach.get(slot) for slot in step.equation.outputs]
        known = [r for r in outputs if r]
        if not known:
            continue
        if isinstance(step, Stacked | Branched | Recomputed):
            for slot, inner in _inside(step, outputs, places):
                reach[slot] = inner.joined(reach.get(slot))
            continue
        far, near = max(r.far for r in known), min(r.near for r in known)
        if step.is_vertex:
            chain = 0 if near is NOWHERE else far - int(near) - 1
            places.setdefault(step, []).append(Place(far, chain))
            far, near = far + 1, far
        for slot in step.reads:
            passed = Reach(far, near if slot in step.parents else NOWHERE)
            reach[slot] = passed.joined(reach.get(slot))


def _inside(
    step: Stacked | Branched | Recomputed, outputs: Sequence[Reach | None], places: Places
) -> list[tuple[int, Reach]]:
    """The reach of a container's operands, from that of its outputs through what is inside."""
    if isinstance(step, Stacked):
        return _iterations(step, outputs, places)
    if isinstance(step, Branched):
        graphs, operands = step.graphs, step.equation.operands[1:]
    else:
        graphs, operands = (step.graph,), step.equation.operands
    found = [
        pair
        for graph in graphs
        for pair in zip(operands, _once(graph, outputs, places), strict=True)
    ]
    if isinstance(step, Branched):  # the choice must stand until every vertex inside has fired
        farthest = max(r.far for r in (*outputs, *(r for _, r in found)) if r)
        found.append((step.equation.operands[0], Reach(farthest, NOWHERE)))
    return [(slot, r) for slot, r in found if isinstance(slot, int) and r]


def _once(graph: Graph, outputs: Sequence[Reach | None], places: Places) -> list[Reach | None]:
    reach: dict[int, Reach] = {}
    for slot, outer in zip(graph.outputs, outputs, strict=True):
        if outer:
            reach[slot] = outer.joined(reach.get(slot))
    _visit(graph.steps, reach, places)
    return [reach.get(slot) for slot in graph.inputs]


def _iterations(
    step: Stacked, outputs: Sequence[Reach | None], places: Places
) -> list[tuple[int, Reach]]:
    layout = step.layout
    first, last = layout.consts, layout.consts + layout.carries
    carries, stacked = list(outputs[: layout.carries]), outputs[layout.carries :]
    found: dict[int, Reach] = {}
    for _ in range(layout.length):
        inputs = _once(step.graph, (*carries, *stacked), places)
        carries = inputs[first:last]
        for k, reach in enumerate(inputs):
            if reach and not first <= k < last:
                found[k] = reach.joined(found.get(k))
    found.update((first + k, reach) for k, reach in enumerate(carries) if reach)
    operands = [(step.equation.operands[k], reach) for k, reach in found.items()]
    return [(slot, reach) for slot, reach in operands if isinstance(slot, int)]
