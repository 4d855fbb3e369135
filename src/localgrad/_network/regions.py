"""Elementwise functions of one value, however many equations they are written in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from localgrad._jaxpr import Equation, Program, Pulls, is_elementwise, is_wiring, trace
from localgrad._network.roles import Role


@dataclass(frozen=True)
class Link:
    """An elementwise function from one slot to another; `rest` are the slots of what else is read.

    It is the smallest one: no value in between tells all that the result needs of the operand.
    """

    operand: int
    result: int
    equations: tuple[Equation, ...]
    rest: tuple[int, ...]

    def run(self, pulls: Pulls, x: Any, rest: Mapping[int, Any]) -> Any:
        """The result, of the operand's value and of the others."""
        values = {**rest, self.operand: x}
        for equation in self.equations:
            with equation.context():
                outputs = pulls.run(equation, values)
            values.update(zip(equation.outputs, outputs, strict=True))
        return values[self.result]

    def bends(self, pulls: Pulls, avals: Sequence[Any]) -> bool:
        """Whether its derivative depends on the operand; no if there is none."""

        def message(x: Any, error: Any, *rest: Any) -> list[Any]:
            others = dict(zip(self.rest, rest, strict=True))
            _, pull = jax.vjp(lambda x: self.run(pulls, x, others), x)
            return list(pull(error))

        kinds = [avals[slot] for slot in (self.operand, self.result, *self.rest)]
        try:
            program = trace(message, kinds)
        except Exception:  # JAX has many classes for what it cannot differentiate
            return False
        reached = {program.inputs[0]}
        for equation in program.equations:
            if not reached.isdisjoint(equation.slots):
                reached.update(equation.outputs)
        return program.outputs[0] in reached


class Regions:
    """The regions of a program: each has one value, and the elementwise functions of it.

    `exits` are the slots that are read outside of their region. `dominator` leads from a slot to
    the nearest one before it, of the same region, through which all of it has passed.
    """

    def __init__(self, program: Program, roles: Mapping[int, Role]) -> None:
        self._program = program
        self._source: dict[int, int] = {}
        self._dominator: dict[int, int] = {}
        self._depth: dict[int, int] = {}
        self.exits = set(program.outputs)
        activities = {slot for slot, role in roles.items() if role in (Role.SAMPLED, Role.ACTIVITY)}
        for slot in program.inputs:
            self._begin(slot)
        for equation in program.equations:
            moving = [s for s in equation.slots if roles[s] is not Role.DATA]
            known = activities | self._dominator.keys()
            is_inside = (
                known.issuperset(moving)
                and len({self._source[s] for s in moving}) == 1
                and len(equation.outputs) == 1
                and not is_wiring(equation.eqn)
                and is_elementwise(
                    equation.eqn,
                    equation.home,
                    [isinstance(o, int) and o in moving for o in equation.operands],
                )
            )
            if not is_inside:
                self.exits.update(equation.slots)
            for slot in equation.outputs:
                self._begin(slot)
                if is_inside:
                    self._source[slot] = self._source[moving[0]]
                    self._dominator[slot] = self._common(moving)
                    self._depth[slot] = self._depth[self._dominator[slot]] + 1

    def link(self, slot: int) -> Link | None:
        """The link that ends at a slot."""
        if slot not in self._dominator:
            return None
        operand, needed = self._dominator[slot], {slot}
        inside: list[Equation] = []
        for equation in reversed(self._program.equations):
            made = needed.intersection(equation.outputs)
            if made and operand not in made and self._dominator.keys() >= made:
                inside.append(equation)
                needed = needed - made | set(equation.slots)
        return Link(operand, slot, tuple(reversed(inside)), tuple(sorted(needed - {operand})))

    def _begin(self, slot: int) -> None:
        self._source[slot], self._depth[slot] = slot, 0

    def _common(self, slots: Sequence[int]) -> int:
        """The nearest slot through which all of these have passed, or the only one of them."""
        first, *others = slots
        for other in others:
            while first != other:
                if self._depth[first] >= self._depth[other]:
                    first = self._dominator[first]
                else:
                    other = self._dominator[other]
        return first
