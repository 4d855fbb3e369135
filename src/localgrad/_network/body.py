"""A program cut at its vertices: which of its equations are more than an equation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localgrad._jaxpr import (
    explain,
    is_literal,
    is_loop,
    is_mark,
    is_reference,
    is_seen,
    is_summed_later,
    is_while,
    located_at,
    loop_layout,
    opened,
    passes,
    programs,
    refers,
    variables,
)
from localgrad._network.active import Flags, active, entering, flags
from localgrad._network.tapped import is_vertex


@dataclass(frozen=True, eq=False)
class Point:
    """A vertex: the outputs that answer to errors."""

    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Once:
    """An effect, or a loop of unknown length: evaluated in the forward pass and never again."""


@dataclass(frozen=True, eq=False)
class Inside:
    """A call, a checkpoint, a scan, or a choice: programs with vertices of their own."""

    bodies: tuple["Body", ...]


Node = Point | Once | Inside


@dataclass(frozen=True, eq=False)
class Body:
    """A program with what the hook must know of it.

    Attributes:
        jaxpr, consts: The program.
        nodes: By number, the equations that are more than an equation.
        needed: Those equations that a vertex or the root is computed from.
        learns: Which inputs get errors.
        reads: Which inputs are needed.
        asked: Which outputs are.
        moves: Which variables errors can reach.
    """

    jaxpr: Any
    consts: Sequence[Any]
    nodes: Mapping[int, Node]
    needed: frozenset[int]
    learns: Flags
    reads: Flags
    asked: Flags
    moves: frozenset[Any]

    @property
    def has_vertices(self) -> bool:
        """Whether there is a vertex here or inside."""
        return any(
            isinstance(node, Point)
            or (isinstance(node, Inside) and any(body.has_vertices for body in node.bodies))
            for node in self.nodes.values()
        )


class Cutter:
    """Cuts programs at their vertices, from the root back to the leaves."""

    def __init__(self, vertices: str) -> None:
        self._vertices = vertices
        self._latent = vertices != "elementary"

    def body(
        self, program: Any, inputs: Flags, wanted: Flags, needed: Flags, root: int | None = None
    ) -> Body:
        """A program between inputs that bring values and outputs that bring errors.

        Args:
            program: A jaxpr, open or closed.
            inputs: Which inputs carry errors.
            wanted: Which outputs do.
            needed: Which outputs are needed at all.
            root: The output that is the root, whose error is given; None if it stands elsewhere.
        """
        jaxpr, consts = opened(program)
        moves = active(jaxpr, inputs, latent=self._latent)
        arriving = set(variables([v for v, w in zip(jaxpr.outvars, wanted, strict=True) if w]))
        arriving &= moves
        read = set(variables([v for v, n in zip(jaxpr.outvars, needed, strict=True) if n]))
        top = None if root is None else jaxpr.outvars[root]
        nodes: dict[int, Node] = {}
        kept: set[int] = set()
        for k in reversed(range(len(jaxpr.eqns))):
            eqn = jaxpr.eqns[k]
            references = {v for v in variables(eqn.invars) if is_reference(v.aval)}
            if read.isdisjoint(eqn.outvars) and read.isdisjoint(references):
                if is_seen(eqn):
                    nodes[k] = Once()
                continue
            kept.add(k)
            ends = tuple(var in arriving for var in eqn.outvars)
            operands = flags(eqn.invars, moves)
            if programs(eqn):
                asked = tuple(var in read for var in eqn.outvars)
                place = [j for j, var in enumerate(eqn.outvars) if var is top]
                node, sends, reads = self._inside(eqn, operands, ends, asked, place)
                if node:
                    nodes[k] = node
            elif _happens_once(eqn):
                nodes[k] = Once()
                continue
            else:
                reads = (True,) * len(eqn.invars)
                answers = passes(eqn) and (any(ends) or not arriving.isdisjoint(references))
                sends = operands if answers else (False,) * len(operands)
                own = tuple(j for j, end in enumerate(ends) if end and _holds(eqn, j))
                if own and is_vertex(eqn, self._vertices) and top not in eqn.outvars:
                    nodes[k] = Point(own)
            given = [(v, s, r) for v, s, r in zip(eqn.invars, sends, reads, strict=True)]
            arriving |= {v for v, s, _ in given if s and not is_literal(v)}
            read |= {v for v, _, r in given if r and not is_literal(v)} | references
        learns, reads = (flags(jaxpr.invars, frozenset(v)) for v in (arriving, read))
        return Body(jaxpr, consts, nodes, frozenset(kept), learns, reads, needed, moves)

    def _inside(
        self, eqn: Any, operands: Flags, ends: Flags, asked: Flags, root: Sequence[int]
    ) -> tuple[Inside | None, Flags, Flags]:
        """The programs inside an equation; which operands get errors, and which are read."""
        if is_loop(eqn):
            return self._loop(eqn, operands, ends, asked)
        place = root[0] if root else None
        inputs = entering(eqn, operands, self._latent)
        bodies = tuple(self.body(p, inputs, ends, asked, place) for p in programs(eqn))
        skipped = len(operands) - len(inputs)
        sends = [False] * skipped + [any(s) for s in zip(*(b.learns for b in bodies), strict=True)]
        reads = [True] * skipped + [any(r) for r in zip(*(b.reads for b in bodies), strict=True)]
        has_nodes = any(body.nodes for body in bodies)
        return Inside(bodies) if has_nodes else None, tuple(sends), tuple(reads)

    def _loop(
        self, eqn: Any, operands: Flags, ends: Flags, asked: Flags
    ) -> tuple[Inside | None, Flags, Flags]:
        """The body of a scan: the error of one carry may need those of others, one later."""
        layout = loop_layout(eqn)
        (_, carries, _), (heads, _) = layout.inputs, layout.outputs
        (program,), inputs = programs(eqn), entering(eqn, operands, self._latent)
        wanted, needed = list(ends), list(asked)
        while True:
            body = self.body(program, inputs, tuple(wanted), tuple(needed))
            grown = [w or k for w, k in zip(wanted[heads], body.learns[carries], strict=True)]
            more = [n or r for n, r in zip(needed[heads], body.reads[carries], strict=True)]
            if grown == wanted[heads] and more == needed[heads]:
                break
            wanted[heads], needed[heads] = grown, more
        sends = tuple(s and o for s, o in zip(body.learns, operands, strict=True))
        reads = list(body.reads)
        reads[carries] = [r or n for r, n in zip(reads[carries], needed[heads], strict=True)]
        return Inside((body,)) if body.nodes else None, sends, tuple(reads)


def _holds(eqn: Any, output: int) -> bool:
    """Whether an output can be held by a vertex; else it is folded into its consumers.

    Raises:
        ValueError: if it is marked and cannot.
    """
    can_hold = not is_summed_later(eqn.outvars[output].aval)
    if not can_hold and is_mark(eqn):
        met = (
            "a marked value is reduced over an axis of a mesh: its error cannot be held beside it."
        )
        do = "mark it before or after that, or use localgrad.ZIL(), which runs on events."
        raise ValueError(explain(met, located_at(eqn), do))
    return can_hold


def _happens_once(eqn: Any) -> bool:
    """Whether evaluating the equation again could do harm.

    What happens to a reference made inside of the function is part of the computation.
    """
    return not refers(eqn) and (is_seen(eqn) or is_while(eqn))
