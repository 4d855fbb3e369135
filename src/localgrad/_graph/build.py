"""From a flat program to a graph: which equations errors pass, and which never matter."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from localgrad._graph import elementary
from localgrad._graph.branched import Branched
from localgrad._graph.elementary import Elementary
from localgrad._graph.recomputed import Recomputed
from localgrad._graph.stacked import Stacked
from localgrad._graph.vertex import Step, Still, Values, flags
from localgrad._jaxpr import (
    Equation,
    Program,
    Pulls,
    flatten,
    is_branch,
    is_loop,
    is_mark,
    is_recomputed,
    is_wiring,
    opened_inside,
    trace,
)

Kind = type[Stacked] | type[Branched] | type[Recomputed]


@dataclass(frozen=True, eq=False)
class Graph:
    """The steps between a program's inputs and outputs, in an order in which they can be run.

    `learns` tells which inputs get messages. Steps that neither reach an output nor have an
    effect are left out.
    """

    program: Program
    steps: tuple[Step, ...]
    learns: tuple[bool, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        """The slots of the leaves."""
        return self.program.inputs

    @property
    def outputs(self) -> tuple[int, ...]:
        """The slots of the results."""
        return self.program.outputs

    @property
    def moving(self) -> tuple[Step, ...]:
        """The steps that errors pass."""
        return tuple(step for step in self.steps if not step.is_still)

    def begin(self, inputs: Sequence[Any], part: slice = slice(None)) -> Values:
        """The values before any step: constants, and the inputs, or a part of them."""
        return self.program.constants | dict(zip(self.inputs[part], inputs, strict=True))

    def forward(self, inputs: Sequence[Any]) -> Values:
        """Evaluate every step; the values of all slots, residuals included."""
        values = self.begin(inputs)
        for step in self.steps:
            step.forward(values)
        return values


def rooted(program: Program) -> Program:
    """The program with an equation for its root, where the loss comes out of a scan or a cond.

    The root is given its error. Of the vertices inside, none is: they answer to their feedback.
    """
    loss, *others = program.outputs
    if not any(loss in e.outputs and _container(e) for e in program.equations):
        return program
    (copy,) = trace(lambda x: [jnp.copy(x)], [program.avals[loss]]).equations
    root = len(program.avals)
    return replace(
        program,
        equations=(
            *program.equations,
            replace(copy, operands=(loss,), slots=(loss,), outputs=(root,)),
        ),
        outputs=(root, *others),
        avals=(*program.avals, program.avals[loss]),
    )


class Builder:
    """Builds the graph of a program and of the programs inside it, with one cache of pulls.

    The root is the program's first output. It is a vertex in any case.
    """

    def __init__(self, program: Program, vertices: str | None) -> None:
        self.pulls = Pulls()
        self._whole = program
        self._bodies: dict[Any, Program] = {}
        self.is_marked = self._has_marks(program)
        self._marks_only = self.is_marked if vertices is None else vertices == "marked"

    def body(self, jaxpr: Any) -> Program:
        """The flat program of a jaxpr that stands inside an equation."""
        if jaxpr not in self._bodies:
            self._bodies[jaxpr] = flatten(jaxpr)
        return self._bodies[jaxpr]

    def moving(self, program: Program, inputs: Sequence[bool]) -> tuple[bool, ...]:
        """Which outputs can carry errors when these inputs do."""
        return flags(program.outputs, self._active(program, inputs, set(program.outputs)))

    def graph(self, program: Program, inputs: Sequence[bool], outputs: Sequence[bool]) -> Graph:
        """The graph between the inputs that may learn and the outputs that bring errors."""
        wanted = {o for o, w in zip(program.outputs, outputs, strict=True) if w}
        active = self._active(program, inputs, wanted)
        wanted &= active
        slots = itertools.count(len(program.avals))

        def fresh(count: int) -> tuple[int, ...]:
            return tuple(itertools.islice(slots, count))

        needed = set(program.outputs)
        steps: list[Step] = []
        for equation in reversed(program.equations):
            step: Step
            if wanted.isdisjoint(equation.outputs):
                if needed.isdisjoint(equation.outputs) and not equation.eqn.effects:
                    continue
                step = Still(equation, self.pulls)
            elif kind := _container(equation):
                step = kind(equation, active, wanted, self, fresh)
            else:
                is_root = program is self._whole and program.outputs[0] in equation.outputs
                is_vertex = is_root or self._is_vertex(equation)
                step = Elementary(equation, active, wanted, self.pulls, fresh, is_vertex, is_root)
            wanted.update(step.parents)
            needed.update(step.reads)
            steps.append(step)
        return Graph(program, tuple(reversed(steps)), flags(program.inputs, wanted))

    def _is_vertex(self, equation: Equation) -> bool:
        """Whether the equation's value is a vertex, rather than folded into its consumers."""
        return is_mark(equation.eqn) if self._marks_only else not is_wiring(equation.eqn)

    def _has_marks(self, program: Program) -> bool:
        return any(
            is_mark(equation.eqn)
            or any(self._has_marks(self.body(jaxpr)) for jaxpr in opened_inside(equation.eqn))
            for equation in program.equations
        )

    def _active(self, program: Program, inputs: Sequence[bool], roots: set[int]) -> set[int]:
        """The slots that depend on the inputs with a derivative, on the way to the roots."""
        relevant = set(roots)
        for equation in reversed(program.equations):
            if not relevant.isdisjoint(equation.outputs) and elementary.can_move(equation):
                relevant.update(equation.slots)
        active = {slot for slot, a in zip(program.inputs, inputs, strict=True) if a}
        for equation in program.equations:
            if relevant.isdisjoint(equation.outputs) or active.isdisjoint(equation.slots):
                continue
            if kind := _container(equation):
                active |= kind.moved(equation, active, self)
            elif elementary.can_move(equation):
                active |= elementary.moved(equation, active, self.pulls)
        return active


def _container(equation: Equation) -> Kind | None:
    if is_loop(equation.eqn):
        return Stacked
    if is_branch(equation.eqn):
        return Branched
    if is_recomputed(equation.eqn):
        return Recomputed
    return None
