"""Which equations of a program are activation units: one survey forwards, one backwards."""

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from localgrad._jaxpr import (
    Equation,
    Program,
    Pulls,
    body_of,
    branches,
    is_branch,
    is_call,
    is_loop,
    is_mark,
    is_of_library,
    is_recomputed,
    is_wiring,
    loop_layout,
)
from localgrad._network.regions import Link, Regions
from localgrad._network.roles import SYNAPTIC, Role, is_inexact, meeting, reading

Path = tuple[Equation, ...]
"""An equation, after those that it stands in."""


def units(program: Program, leaves: int, body: Callable[[Any], Program]) -> dict[Path, Link]:
    """The activation units of a program, each at the equation that writes its result.

    The program's first output is the loss, its first inputs are the leaves; calls are kept, also in
    the bodies that `body` flattens.
    """
    survey = Survey(program, body)
    roles = (Role.SYNAPSE if k < leaves else Role.DATA for k, _ in enumerate(program.inputs))
    ends = [After.LOSS, *(After.NOTHING for _ in program.outputs[1:])]
    survey.behind(program, [Ahead(r) for r in roles], [Behind(end) for end in ends], (), True)
    return survey.units


class After(IntEnum):
    """What comes after a value: nothing that counts, the loss, or the loss after a parameter."""

    NOTHING = 0
    LOSS = 1
    PARAMETER = 2


class Ahead(NamedTuple):
    """What is known of a value from where it comes: its role, and whether it is a marked one."""

    role: Role = Role.DATA
    is_marked: bool = False


class Behind(NamedTuple):
    """What is known of a value from where it goes, and whether it becomes a marked one there."""

    after: After = After.NOTHING
    is_marked: bool = False


class Survey:
    """Carries facts through a program and through the programs inside, until they are steady."""

    def __init__(self, program: Program, body: Callable[[Any], Program]) -> None:
        self.units: dict[Path, Link] = {}
        self._body, self._pulls = body, Pulls()
        self._has_marks = self._finds_marks(program)

    def ahead(self, program: Program, inputs: Sequence[Ahead]) -> dict[int, Ahead]:
        """What is known of every slot from where it comes."""
        known = dict.fromkeys(program.constants, Ahead())
        known.update(zip(program.inputs, inputs, strict=True))
        for equation in program.equations:
            outputs = self._onward(equation, _at(equation.operands, known))
            known.update(zip(equation.outputs, outputs, strict=True))
        return known

    def behind(
        self,
        program: Program,
        inputs: Sequence[Ahead],
        outputs: Sequence[Behind],
        path: Path,
        is_own: bool,
    ) -> list[Behind]:
        """What is known of the inputs from where they go; finds the units on the way.

        `is_own` tells whether the program is the user's, not the inside of a function of JAX.
        """
        known = self.ahead(program, inputs)
        regions = Regions(program, {slot: fact.role for slot, fact in known.items()})
        at: dict[int, Behind] = {}
        needed = set(regions.exits)

        def meet(slots: Sequence[Any], facts: Sequence[Behind]) -> None:
            for slot, fact in zip(slots, facts, strict=True):
                if isinstance(slot, int):
                    at[slot] = _joined(at.get(slot, Behind()), fact)

        meet(program.outputs, outputs)
        for equation in reversed(program.equations):
            ends = [at.get(o, Behind()) for o in equation.outputs]
            if not any(end.after for end in ends):
                continue
            link = regions.link(equation.outputs[0])
            if link:
                if link.result in needed:
                    needed.add(link.operand)
                    if is_own and self._is_unit(link, known[link.operand], ends[0], program):
                        self.units[(*path, equation)] = link
                meet(equation.operands, [Behind(ends[0].after)] * len(equation.operands))
                continue
            given = _at(equation.operands, known)
            meet(equation.operands, self._back(equation, given, ends, (*path, equation), is_own))
        return [at.get(slot, Behind()) for slot in program.inputs]

    def _onward(self, equation: Equation, given: list[Ahead]) -> list[Ahead]:
        """The facts of an equation's outputs."""
        if is_loop(equation.eqn):
            return self._steady(equation, given)[1]
        bodies = self._inside(equation)
        if bodies:
            each = [self._through(body, given[-len(body.inputs) :]) for body in bodies]
            return [_joined(*facts) for facts in zip(*each, strict=True)]
        roles = _roles(equation, given)
        meets = meeting(equation, roles, self._pulls)
        role = Role.ACTIVITY if meets.factors else meets.role
        pattern = (
            Role.PATTERN if any(role is not Role.DATA for role in roles.values()) else Role.DATA
        )
        is_marked = is_mark(equation.eqn) or (
            is_wiring(equation.eqn) and any(fact.is_marked for fact in given)
        )
        return [
            Ahead(role if is_inexact(var.aval) else pattern, is_marked)
            for var in equation.eqn.outvars
        ]

    def _through(self, body: Program, given: Sequence[Ahead]) -> list[Ahead]:
        return _at(body.outputs, self.ahead(body, given))

    def _steady(
        self, equation: Equation, given: Sequence[Ahead]
    ) -> tuple[list[Ahead], list[Ahead]]:
        """The facts of a scan's inputs and outputs, those of carries true in every iteration."""
        layout = loop_layout(equation.eqn)
        (_, carries, _), (heads, tails) = layout.inputs, layout.outputs
        inputs, body = list(given), self._body(body_of(equation.eqn))
        while True:
            outputs = self._through(body, inputs)
            pairs = zip(inputs[carries], outputs[heads], strict=True)
            joined = [_joined(*pair) for pair in pairs]
            if joined == inputs[carries]:
                return inputs, [*joined, *outputs[tails]]
            inputs[carries] = joined

    def _back(
        self,
        equation: Equation,
        given: list[Ahead],
        ends: list[Behind],
        path: Path,
        is_own: bool,
    ) -> list[Behind]:
        """The facts of an equation's operands."""
        if is_loop(equation.eqn):
            layout = loop_layout(equation.eqn)
            (_, carries, _), (heads, _) = layout.inputs, layout.outputs
            inputs, _ = self._steady(equation, given)
            body, ends = self._body(body_of(equation.eqn)), list(ends)
            while True:
                back = self.behind(body, inputs, ends, path, is_own)
                joined = [_joined(*p) for p in zip(ends[heads], back[carries], strict=True)]
                if joined == ends[heads]:
                    return back
                ends[heads] = joined
        bodies = self._inside(equation)
        if bodies:
            is_own = is_own and not (is_call(equation.eqn) and is_of_library(body_of(equation.eqn)))
            count = len(bodies[0].inputs)
            each = [self.behind(body, given[-count:], ends, path, is_own) for body in bodies]
            index = [Behind()] * (len(given) - count)
            return [*index, *(_joined(*facts) for facts in zip(*each, strict=True))]
        roles = _roles(equation, given)
        reads = reading(equation, roles, self._pulls) or {}
        end = max(end.after for end in ends)
        synapses = {s for s, role in roles.items() if role in SYNAPTIC or role is Role.BENT}
        is_marked = is_mark(equation.eqn) or (
            is_wiring(equation.eqn) and any(fact.is_marked for fact in ends)
        )
        met = {slot for slot, read in reads.items() if read & synapses - {slot}}
        return [
            Behind(After.PARAMETER if isinstance(o, int) and o in met else end, is_marked)
            for o in equation.operands
        ]

    def _is_unit(self, link: Link, ahead: Ahead, behind: Behind, program: Program) -> bool:
        """Whether an elementwise function of one value is an activation unit."""
        operand, result = program.avals[link.operand], program.avals[link.result]
        return (
            ahead.role in (Role.SAMPLED, Role.ACTIVITY)
            and behind.after is After.PARAMETER
            and (ahead.is_marked or behind.is_marked or not self._has_marks)
            and operand.dtype == result.dtype
            and link.bends(self._pulls, program.avals)
        )

    def _inside(self, equation: Equation) -> list[Program]:
        """The programs inside a cond, a checkpoint or a call."""
        eqn = equation.eqn
        if is_branch(eqn):
            return [self._body(branch) for branch in branches(eqn)]
        return [self._body(body_of(eqn))] if is_call(eqn) or is_recomputed(eqn) else []

    def _finds_marks(self, program: Program) -> bool:
        return any(
            is_mark(equation.eqn)
            or any(map(self._finds_marks, self._inside(equation)))
            or (is_loop(equation.eqn) and self._finds_marks(self._body(body_of(equation.eqn))))
            for equation in program.equations
        )


def _roles(equation: Equation, given: Sequence[Ahead]) -> dict[int, Role]:
    pairs = zip(equation.operands, given, strict=True)
    return {o: fact.role for o, fact in pairs if isinstance(o, int)}


def _at(slots: Iterable[Any], known: dict[int, Ahead]) -> list[Ahead]:
    return [known[slot] if isinstance(slot, int) else Ahead() for slot in slots]


def _joined(first: Any, *others: Any) -> Any:
    """Facts of which each may hold."""
    return type(first)(*map(max, zip(first, *others, strict=True)))
