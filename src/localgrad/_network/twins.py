"""Feedback weights: messages travel on the twin of a parameter, updates on the parameter itself."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
from jax import lax

from localgrad._jaxpr import (
    Equation,
    Program,
    body_of,
    branches,
    explain,
    located_at,
    loop_layout,
)
from localgrad._network.replay import Replay
from localgrad._network.roles import GIVEN, SYNAPTIC, Meeting, Role, is_inexact, meeting


def twinned(program: Program, twins: Sequence[bool]) -> Callable[..., list[Any]]:
    """The program with feedback weights, as a function of its inputs and of their twins.

    Args:
        program: Any program; its inputs are leaves.
        twins: Which of its inputs have a twin. The twins follow the inputs, in the same order.

    Where a synapse `w` meets an activity `x` in an equation ``f(w, x)``, the value is ``f(w, x)``,
    the message to `w` is the pull of `f` at ``(w, x)``, and the message to `x` is the pull at
    ``(psi, x)``. On its way there the twin `psi` goes through the same transposes, slices, casts,
    masks as `w`.

    Raises:
        ValueError: where a synapse enters non-linearly, or is changed by a scan.
    """

    def run(*inputs: Any) -> list[Any]:
        supply = iter(inputs[len(twins) :])
        signals = [
            Signal(leaf, Role.SYNAPSE, next(supply)) if has_twin else _activity(leaf)
            for leaf, has_twin in zip(inputs, twins, strict=False)
        ]
        replay = Twinned()
        while True:
            known = len(replay.activities)
            jax.eval_shape(lambda signals: replay.run(program, signals), signals)
            if len(replay.activities) == known:
                break
        return [_signal(output).value for output in replay.run(program, signals)]

    return run


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["value", "twin"],
    meta_fields=["role", "bent", "picks"],
)
@dataclass(frozen=True)
class Signal:
    """A value and its role; with it the twin of a synapse.

    `bent` is the line where a synapse was bent, `picks` the equations that picked a part of one.
    """

    value: Any
    role: Role = Role.DATA
    twin: Any = None
    bent: str = ""
    picks: frozenset[Equation] = frozenset()

    @property
    def kind(self) -> tuple[Role, str, frozenset[Equation]]:
        """All but the arrays."""
        return self.role, self.bent, self.picks

    def like(self, other: "Signal") -> "Signal":
        """The same value as one of another's kind. The twin of data is the data."""
        twin = None
        if other.role in SYNAPTIC:
            twin = self.twin if self.role in SYNAPTIC else self.value
        return replace(other, value=self.value, twin=twin)

    def joined(self, *others: "Signal") -> "Signal":
        """The same value as one that may be of any of several kinds."""
        last = max(self, *others, key=lambda signal: signal.role)
        picks = self.picks.union(*(other.picks for other in others))
        return self.like(replace(last, picks=picks if last.role in SYNAPTIC else frozenset()))


class Twinned(Replay):
    """Replays a program on signals. An operand that is a plain array is data.

    What an index picks from a parameter is a synapse (one layer of a stack) or an activity (the
    embedding of a token). Which of them shows later, in what is done with it: `activities` are the
    equations of which it has shown so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.activities: set[Equation] = set()

    def single(self, equation: Equation, operands: Sequence[Any]) -> list[Signal]:
        pairs = zip(equation.operands, map(_signal, operands), strict=True)
        given = {o: signal for o, signal in pairs if isinstance(o, int)}
        values = {slot: signal.value for slot, signal in given.items()}
        meets = self._meeting(equation, given)
        run = partial(self._pulls.run, equation)
        if meets.crossing:
            moving = {slot for slot, signal in given.items() if signal.role not in GIVEN}
            crossing = {slot: given[slot].twin for slot in meets.crossing}
            outputs = _crossed(run, meets.activities, moving - meets.activities)(values, crossing)
        else:
            outputs = run(values)
        kind = self._kind(equation, meets, given)
        results = [replace(kind, value=value) for value in outputs]
        if kind.role in SYNAPTIC:
            twins = run({slot: signal.like(kind).twin for slot, signal in given.items()})
            results = [replace(r, twin=twin) for r, twin in zip(results, twins, strict=True)]
        return [r if is_inexact(r.value) else Signal(r.value) for r in results]

    def loop(self, equation: Equation, operands: list[Any]) -> list[Signal]:
        body, layout = self.body(body_of(equation.eqn)), loop_layout(equation.eqn)
        (consts, carries, xs), (heads, tails) = layout.inputs, layout.outputs
        signals = list(map(_signal, operands))
        start, rows = signals[carries], signals[xs]

        def step(carry: list[Signal], x: list[Signal]) -> tuple[list[Signal], list[Signal]]:
            outputs = list(map(_signal, self.run(body, [*signals[consts], *carry, *x])))
            return outputs[heads], outputs[tails]

        def steady(carry: list[Signal], x: list[Signal]) -> tuple[list[Signal], list[Signal]]:
            ends, ys = step(carry, x)
            return [end.like(now) for end, now in zip(ends, carry, strict=True)], ys

        first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), rows)
        while True:
            ends, _ = jax.eval_shape(step, start, first)
            pairs = list(zip(start, ends, strict=True))
            for roles in ({s.role, e.role} for s, e in pairs):
                if Role.ACTIVITY in roles and not SYNAPTIC.isdisjoint(roles):
                    met = "met a scan that changes a parameter which has feedback weights."
                    raise ValueError(explain(met, located_at(equation.site), GIVE_NONE))
            joined = [s.joined(e) for s, e in pairs]
            if [s.kind for s in joined] == [s.kind for s in start]:
                break
            start = joined
        length, reverse, unroll = layout.length, layout.reverse, layout.unroll
        final, ys = lax.scan(steady, start, rows, length, reverse=reverse, unroll=unroll)
        return [*final, *ys]

    def branch(self, equation: Equation, operands: list[Any]) -> list[Signal]:
        index, *given = map(_signal, operands)

        def run(body: Program, *operands: Signal) -> list[Signal]:
            return list(map(_signal, self.run(body, operands)))

        bodies = [partial(run, self.body(branch)) for branch in branches(equation.eqn)]
        each = [jax.eval_shape(body, *given) for body in bodies]
        joined = [Signal.joined(*signals) for signals in zip(*each, strict=True)]

        def joining(body: Callable[..., list[Signal]], *operands: Signal) -> list[Signal]:
            return [s.like(j) for s, j in zip(body(*operands), joined, strict=True)]

        return lax.switch(index.value, [partial(joining, body) for body in bodies], *given)

    def _meeting(self, equation: Equation, given: dict[int, Signal]) -> Meeting:
        """How the operands meet; a synapse must not be bent where a message travels on its twin."""
        meets = meeting(equation, {slot: g.role for slot, g in given.items()}, self._pulls)
        for slot in meets.revealed:
            self.activities |= given[slot].picks
        for slot in sorted(meets.bending):
            if not given[slot].picks:
                met = "a parameter that enters non-linearly cannot have feedback weights."
                where = given[slot].bent or located_at(equation.site)
                raise ValueError(explain(met, where, GIVE_NONE))
        return meets

    def _kind(self, equation: Equation, meets: Meeting, given: dict[int, Signal]) -> Signal:
        """What the outputs of an equation are, without their arrays."""
        if meets.role is Role.BENT:
            bent = max(signal.bent for signal in given.values()) or located_at(equation.site)
            return Signal(None, meets.role, bent=bent)
        if meets.picks and equation in self.activities:
            return Signal(None, Role.ACTIVITY)
        if meets.role is Role.SAMPLED:
            before = (signal.picks for signal in given.values())
            picks = frozenset([equation] if meets.picks else ()).union(*before)
            return Signal(None, meets.role, picks=picks)
        return Signal(None, meets.role)


GIVE_NONE = "give this parameter none: backward=None at its place in Synapses."


def _crossed(
    run: Callable[[Mapping[int, Any]], list[Any]], activities: frozenset[int], others: set[int]
) -> Callable[..., list[Any]]:
    """An equation whose messages to the activities are taken at the twins."""

    @jax.custom_vjp
    def crossed(values: dict[int, Any], twins: dict[int, Any]) -> list[Any]:
        return run(values)

    def forward(values: dict[int, Any], twins: dict[int, Any]) -> tuple[list[Any], Any]:
        return run(values), (values, twins)

    def backward(kept: Any, errors: list[Any]) -> tuple[dict[int, Any], None]:
        values, twins = kept

        def messages(slots: Iterable[int], at: dict[int, Any]) -> dict[int, Any]:
            _, pull = jax.vjp(lambda moving: run(at | moving), {s: at[s] for s in slots})
            return pull(errors)[0]

        sent = messages(activities, values | twins) | messages(others, values)
        return {slot: sent.get(slot) for slot in values}, None

    crossed.defvjp(forward, backward)
    return crossed


def _signal(value: Any) -> Signal:
    return value if isinstance(value, Signal) else Signal(value)


def _activity(value: Any) -> Signal:
    return Signal(value, Role.ACTIVITY if is_inexact(value) else Role.DATA)
