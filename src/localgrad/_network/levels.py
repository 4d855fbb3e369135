"""Levels: how far each vertex is from the loss, and where relays would have to stand.

The level of a vertex is the longest path from it to the loss, over every dependence (a mask must
not change before its consumer has fired). An edge between vertices that spans k > 1 levels needs
k - 1 relays on a clock; one chain per vertex serves all its children. A vertex inside a scan has
one level and one chain per iteration, as in the unrolled program; a choice adds no level.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from localgrad._jaxpr import is_branch, is_literal, is_loop, loop_layout
from localgrad._network.active import flags
from localgrad._network.body import Body, Inside, Point

NOWHERE = float("inf")


class Reach(NamedTuple):
    """Of a value: the level of a vertex that makes it, and of its child nearest to the loss."""

    far: int
    near: float

    def joined(self, other: "Reach | None") -> "Reach":
        """Of a value with the children of both."""
        return Reach(max(self.far, other.far), min(self.near, other.near)) if other else self


Places = dict[int, Any]
"""By equation: of a vertex the (level, relays) of each copy; of what is inside, its places."""


def places(body: Body) -> Places:
    """Level and length of the chain of relays of every copy of every vertex.

    The last iteration of a scan comes first. Copies that cannot reach the loss have level -1.
    """
    found: Places = {}
    _visit(body, [Reach(1, 0), *[None] * (len(body.jaxpr.outvars) - 1)], found)
    return found


def _visit(body: Body, ends: Sequence[Reach | None], found: Places) -> list[Reach | None]:
    """Walk from the outputs of a program to its inputs."""
    reach: dict[Any, Reach] = {}

    def send(atoms: Sequence[Any], sent: Sequence[Reach | None]) -> None:
        for atom, passed in zip(atoms, sent, strict=True):
            if passed and not is_literal(atom):
                reach[atom] = passed.joined(reach.get(atom))

    send(body.jaxpr.outvars, ends)
    for k in reversed(range(len(body.jaxpr.eqns))):
        eqn, node = body.jaxpr.eqns[k], body.nodes.get(k)
        outputs = [reach.get(var) for var in eqn.outvars]
        known = [r for r in outputs if r]
        if isinstance(node, Inside):
            inside = found.setdefault(k, [{} for _ in node.bodies])
            send(eqn.invars, _enter(node, eqn, outputs, inside))
            continue
        if not known or k not in body.needed:
            if isinstance(node, Point):
                found.setdefault(k, []).append((-1, 0))
            continue
        far, near = max(r.far for r in known), min(r.near for r in known)
        if isinstance(node, Point):
            chain = 0 if near is NOWHERE else far - int(near) - 1
            found.setdefault(k, []).append((far, chain))
            far, near = far + 1, far
        moves = flags(eqn.invars, body.moves)
        send(eqn.invars, [Reach(far, near if m else NOWHERE) for m in moves])
    return [reach.get(var) for var in body.jaxpr.invars]


def _enter(
    node: Inside, eqn: Any, outputs: list[Reach | None], found: list[Places]
) -> list[Reach | None]:
    """The reach of the operands of an equation with programs inside."""
    if is_loop(eqn):
        return _loop(node.bodies[0], eqn, outputs, found[0])
    each = [_visit(body, outputs, places) for body, places in zip(node.bodies, found, strict=True)]
    sent = [_joined(same) for same in zip(*each, strict=True)]
    if is_branch(eqn):
        # What chooses a branch must stand until every vertex inside has fired.
        farthest = max((r.far for r in (*outputs, *sent) if r), default=0)
        sent.insert(0, Reach(farthest, NOWHERE))
    return sent


def _loop(body: Body, eqn: Any, outputs: list[Reach | None], found: Places) -> list[Reach | None]:
    layout = loop_layout(eqn)
    (consts, carries, xs), (heads, tails) = layout.inputs, layout.outputs
    carried, rest = outputs[heads], outputs[tails]
    sent: list[Reach | None] = [None] * len(eqn.invars)
    for _ in range(layout.length):
        inputs = _visit(body, [*carried, *rest], found)
        carried = inputs[carries]
        sent[consts] = [_joined(pair) for pair in zip(sent[consts], inputs[consts], strict=True)]
        sent[xs] = [_joined(pair) for pair in zip(sent[xs], inputs[xs], strict=True)]
    sent[carries] = carried
    return sent


def _joined(reaches: Sequence[Reach | None]) -> Reach | None:
    known = [r for r in reaches if r]
    return Reach(max(r.far for r in known), min(r.near for r in known)) if known else None


def levels(body: Body, found: Places, lengths: tuple[int, ...] = (), flips: Any = ()) -> Any:
    """The levels of all vertices: integers with an axis for each scan around them."""
    state: dict[int, Any] = {}
    for k, node in body.nodes.items():
        eqn, around, turned = body.jaxpr.eqns[k], lengths, flips
        if isinstance(node, Inside):
            if is_loop(eqn):
                layout = loop_layout(eqn)
                around = (*lengths, layout.length)
                turned = (*flips, len(lengths)) if layout.reverse else flips
            each = zip(node.bodies, found[k], strict=True)
            inside = [levels(b, places, around, turned) for b, places in each]
            state[k] = tuple(inside) if is_branch(eqn) else inside[0]
        elif isinstance(node, Point):
            copies = np.array([level for level, _ in found.get(k, [])], np.int32)[::-1]
            copies = np.flip(copies.reshape(lengths), flips)
            state[k] = (copies,) * len(node.outputs)
    return state


def chains(found: Any) -> Iterator[int]:
    """The lengths of all chains of relays."""
    if isinstance(found, dict):
        for entry in found.values():
            yield from chains(entry)
    else:
        for entry in found:
            yield from chains(entry) if isinstance(entry, dict) else [entry[1]]
