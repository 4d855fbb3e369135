"""From program to program: scans unrolled, and relays in every edge that would be too short.

A pass runs the program once more and marks every vertex with what it is, so that the next network
finds the same vertices.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from localgrad._jaxpr import (
    bind,
    branches,
    evaluate,
    is_branch,
    is_literal,
    is_loop,
    is_mark,
    is_traced,
    loop_layout,
    opened,
    standing,
)
from localgrad._network.body import Body, Inside, Point
from localgrad._network.vertex import Tag, Vertex


def unrolled(body: Body, vertices: Any) -> Callable[..., list[Any]]:
    """The program without the scans that have vertices inside; calls and checkpoints opened."""
    return lambda *inputs: _unrolled(body, vertices, inputs, ())


def _unrolled(
    body: Body, vertices: Any, inputs: Sequence[Any], index: tuple[int, ...]
) -> list[Any]:
    def visit(k: int, eqn: Any, operands: list[Any]) -> Sequence[Any]:
        node = body.nodes.get(k)
        if isinstance(node, Inside) and any(b.has_vertices for b in node.bodies):
            with standing(eqn):
                return _opened(node, eqn, operands, vertices[k], index)
        outputs = list(operands if _is_tagged(eqn) else bind(eqn, operands))
        if isinstance(node, Point):
            for j, vertex in zip(node.outputs, vertices[k], strict=True):
                own = replace(vertex, index=index, lengths=()) if index else vertex
                outputs[j] = checkpoint_name(outputs[j], Tag.of(own))
        return outputs

    return evaluate(body.jaxpr, body.consts, inputs, visit)


def _opened(
    node: Inside, eqn: Any, operands: list[Any], vertices: Any, index: tuple[int, ...]
) -> Sequence[Any]:
    if is_branch(eqn):
        which, *given = operands
        ways = [
            lambda *given, b=b, v=v: _unrolled(b, v, given, index)
            for b, v in zip(node.bodies, vertices, strict=True)
        ]
        return lax.switch(which, ways, *given)
    (body,) = node.bodies
    if not is_loop(eqn):
        return _unrolled(body, vertices, operands, index)
    layout = loop_layout(eqn)
    (consts, carries, xs), (heads, tails) = layout.inputs, layout.outputs
    carry, rows = operands[carries], []
    for k in reversed(range(layout.length)) if layout.reverse else range(layout.length):
        now = [lax.index_in_dim(x, k, keepdims=False) for x in operands[xs]]
        outputs = _unrolled(body, vertices, [*operands[consts], *carry, *now], (*index, k))
        carry = outputs[heads]
        rows.append(outputs[tails])
    if layout.reverse:
        rows.reverse()
    if rows:
        return [*carry, *map(jnp.stack, zip(*rows, strict=True))]
    kinds = [var.aval for var in eqn.outvars[tails]]
    return [*carry, *(jnp.zeros(kind.shape, kind.dtype) for kind in kinds)]


def unchosen(jaxpr: Any, consts: Sequence[Any]) -> Callable[..., list[Any]]:
    """An unrolled program with all branches side by side, and a choice among what they give."""

    def visit(_: int, eqn: Any, operands: list[Any]) -> Sequence[Any]:
        if not is_branch(eqn):
            return bind(eqn, operands)
        which, *given = operands
        ways = [unchosen(*opened(branch))(*given) for branch in branches(eqn)]
        if not is_traced(which):
            return ways[int(which)]
        return [lax.select_n(which, *same) for same in zip(*ways, strict=True)]

    return lambda *inputs: evaluate(jaxpr, consts, inputs, visit)


def _is_tagged(eqn: Any) -> bool:
    """Whether the equation is the mark that an earlier pass made."""
    return is_mark(eqn) and isinstance(eqn.params["name"], Tag)


View = Callable[[int], Any]
"""`view(level)`: what a vertex at this level sees of a value."""

ITSELF = -1
"""The level from which a vertex is seen without relays: where no error passes, none are needed."""


def levelled(body: Body, vertices: Any, places: Any) -> Callable[..., list[Any]]:
    """The program with relays: a scan of the identity behind every vertex that needs a chain.

    A child that is `k` levels nearer to the loss reads the vertex itself if `k = 1`, else relay
    `k - 2`. What is folded between vertices is computed for every level from which it is seen.

    Args:
        body: An unrolled program.
        vertices: Its vertices.
        places: Their levels and chains.
    """

    def run(*inputs: Any) -> list[Any]:
        seen = _sightings(body, [{0}] * len(body.jaxpr.outvars), places)
        views = _views(body, vertices, places, seen, list(map(_still, inputs)))
        return [view(0) for view in views]

    return run


def _still(value: Any) -> View:
    return lambda level: value


def _views(
    body: Body, vertices: Any, places: Any, seen: dict[int, Any], inputs: Sequence[View]
) -> list[View]:
    """The views of a program's outputs from those of its inputs."""
    jaxpr, known = body.jaxpr, dict[Any, View]()
    known.update(zip(jaxpr.constvars, map(_still, body.consts), strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def at(atoms: Sequence[Any], level: int) -> list[Any]:
        return [atom.val if is_literal(atom) else known[atom](level) for atom in atoms]

    for k, eqn in enumerate(jaxpr.eqns):
        node = body.nodes.get(k)
        if isinstance(node, Point):
            ((level, _),) = places[k]
            operands = at(eqn.invars, level)
            outputs = operands if _is_tagged(eqn) else list(bind(eqn, operands))
            made = list(map(_still, outputs))
            for j, vertex in zip(node.outputs, vertices[k], strict=True):
                value = checkpoint_name(outputs[j], Tag.of(vertex))
                made[j] = _delayed(value, vertex, level, seen[k])
        elif isinstance(node, Inside) and any(b.has_vertices for b in node.bodies):
            with standing(eqn):
                made = _views_inside(
                    node, eqn, vertices[k], places[k], seen[k],
                    [_still(a.val) if is_literal(a) else known[a] for a in eqn.invars],
                )  # fmt: skip
        elif any(var in body.moves for var in eqn.outvars):
            levels = sorted(seen[k] or {ITSELF})
            each = {level: bind(eqn, at(eqn.invars, level)) for level in levels}
            made = [partial(_seen_at, each, j) for j in range(len(eqn.outvars))]
        else:
            made = list(map(_still, bind(eqn, at(eqn.invars, ITSELF))))
        known.update(zip(eqn.outvars, made, strict=True))
    return [_still(a.val) if is_literal(a) else known[a] for a in jaxpr.outvars]


def _seen_at(each: dict[int, Sequence[Any]], output: int, level: int) -> Any:
    """An output of an equation that was computed for several levels."""
    return each.get(level, each[min(each)])[output]


def _delayed(value: Any, vertex: Vertex, level: int, seen: set[int]) -> View:
    """A vertex and its chain of relays, in pieces that end where somebody reads."""
    held, length, views = value, 1, {}
    gaps = sorted({level - seer for seer in seen if 0 <= seer < level - 1})
    for gap in gaps:
        lengths, name = (gap - length,), f"{vertex.name}.relays"
        relay = replace(vertex, name=name, lengths=lengths, is_relay=True)

        def hand_on(held: Any, _: None, relay: Vertex = relay) -> tuple[Any, None]:
            return checkpoint_name(held, Tag.of(relay)), None

        held, _ = lax.scan(hand_on, held, None, gap - length)
        length, views[level - gap] = gap, held
    return lambda seer: views.get(seer, value)


def _views_inside(
    node: Inside, eqn: Any, vertices: Any, places: Any, seen: Any, given: list[View]
) -> list[View]:
    """The views of a call's or a choice's outputs."""
    if not is_branch(eqn):
        return _views(node.bodies[0], vertices, places[0], seen[0][0], given)
    (which, *inputs), asked = given, [sorted(levels) for levels in seen[1]]

    def way(k: int) -> Callable[[], list[list[Any]]]:
        def taken() -> list[list[Any]]:
            views = _views(node.bodies[k], vertices[k], places[k], seen[0][k], inputs)
            return [[v(a) for a in levels] for v, levels in zip(views, asked, strict=True)]

        return taken

    outputs = lax.switch(which(ITSELF), [way(k) for k in range(len(node.bodies))])
    pairs = zip(asked, outputs, strict=True)
    return [dict(zip(levels, values, strict=True)).__getitem__ for levels, values in pairs]


def _sightings(body: Body, ends: Sequence[set[int]], places: Any) -> dict[int, Any]:
    """By equation, the levels of the vertices that see what it computes; of the inside, too."""
    found: dict[int, Any] = {}
    _sight(body, ends, places, found)
    return found


def _sight(
    body: Body, ends: Sequence[set[int]], places: Any, found: dict[int, Any]
) -> list[set[int]]:
    seen: dict[Any, set[int]] = {}

    def see(atoms: Sequence[Any], levels: Sequence[set[int]]) -> None:
        for atom, own in zip(atoms, levels, strict=True):
            if not is_literal(atom):
                seen.setdefault(atom, set()).update(own)

    see(body.jaxpr.outvars, ends)
    for k in reversed(range(len(body.jaxpr.eqns))):
        eqn, node = body.jaxpr.eqns[k], body.nodes.get(k)
        outputs = [seen.get(var, set()) for var in eqn.outvars]
        if isinstance(node, Point):
            found[k] = set().union(*outputs)
            see(eqn.invars, [{places[k][0][0]}] * len(eqn.invars))
        elif isinstance(node, Inside) and any(b.has_vertices for b in node.bodies):
            inside: list[dict[int, Any]] = [{} for _ in node.bodies]
            each = [
                _sight(b, outputs, p, f)
                for b, p, f in zip(node.bodies, places[k], inside, strict=True)
            ]
            found[k] = inside, outputs
            sent = [set().union(*same) for same in zip(*each, strict=True)]
            see(eqn.invars, [*([{ITSELF}] if is_branch(eqn) else []), *sent])
        else:
            moves = any(var in body.moves for var in eqn.outvars)
            found[k] = set().union(*outputs) if moves else {ITSELF}
            see(eqn.invars, [found[k]] * len(eqn.invars))
    return [seen.get(var, set()) for var in body.jaxpr.invars]
