"""Levels: how far each vertex is from the loss, and where identity vertices (relays) would stand.

The level of a vertex is the longest path from it to the loss, over every dependence (a mask must
not change before its consumer has fired). An edge between vertices that spans k > 1 levels needs
k - 1 relays on a clock; one chain per vertex serves all its children. The event engine needs
none. A vertex inside a scan has one level and one chain per iteration, as in the unrolled program.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from localgrad._graph.build import Graph
from localgrad._graph.vertex import Container, Part, Step

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


UNREACHED = Place(-1, 0)
"""A copy from which nothing reaches the loss: in the last iterations of a scan, perhaps."""

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
            _pass_by(step, places)
            continue
        if isinstance(step, Container):
            sent = [pair for part in step.parts for pair in _enter(part, outputs, places)]
            # What chooses a branch must stand until every vertex inside has fired.
            farthest = Reach(max(r.far for r in (*known, *(r for _, r in sent))), NOWHERE)
            count = len(step.equation.operands) - len(step.parts[0].operands)
            sent += [(slot, farthest) for slot in step.equation.operands[:count]]
        else:
            far, near = max(r.far for r in known), min(r.near for r in known)
            if step.is_vertex:
                chain = 0 if near is NOWHERE else far - int(near) - 1
                places.setdefault(step, []).append(Place(far, chain))
                far, near = far + 1, far
            parents = set(step.parents)
            sent = [(s, Reach(far, near if s in parents else NOWHERE)) for s in step.reads]
        for slot, passed in sent:
            if isinstance(slot, int):
                reach[slot] = passed.joined(reach.get(slot))


def _pass_by(step: Step, places: Places) -> None:
    """Note that these copies of the vertices, here or inside, cannot reach the loss."""
    if step.is_vertex:
        places.setdefault(step, []).append(UNREACHED)
    for part in step.parts if isinstance(step, Container) else ():
        for inner in part.graph.moving * part.length:
            _pass_by(inner, places)


def _enter(part: Part, outputs: Sequence[Reach | None], places: Places) -> list[tuple[Any, Reach]]:
    """The reach of a container's operands, from that of its outputs, iteration by iteration."""
    outer, sent = list(outputs), []
    carries = range(len(part.operands))[part.carries]
    for _ in range(part.length):
        reach: dict[int, Reach] = {}
        for slot, arriving in zip(part.graph.outputs, outer, strict=True):
            if arriving:
                reach[slot] = arriving.joined(reach.get(slot))
        _visit(part.graph.steps, reach, places)
        inputs = [reach.get(slot) for slot in part.graph.inputs]
        outer[: len(carries)] = inputs[part.carries]
        sent += [(part.operands[k], r) for k, r in enumerate(inputs) if k not in carries]
    sent += zip(part.operands[part.carries], outer, strict=False)
    return [(slot, r) for slot, r in sent if r]
