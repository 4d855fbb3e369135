"""Feedback weights: messages travel on the twin of a parameter, updates on the parameter itself."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import jax

from localgrad._jaxpr import Alone, explain, is_inexact, located_at
from localgrad._network.followed import Followed, Path, Signal
from localgrad._network.roles import GIVEN, SYNAPTIC, Meeting, Role, meeting


def twinned(program: Any, twins: Sequence[bool]) -> Callable[..., list[Any]]:
    """The program with feedback weights, as a function of its inputs and of their twins.

    Args:
        program: Any program; its first inputs are leaves.
        twins: Which of them have a twin. The twins follow the inputs, in the same order.

    Where a synapse `w` meets an activity `x` in an equation ``f(w, x)``, the value is ``f(w, x)``,
    the message to `w` is the pull of `f` at ``(w, x)``, and the message to `x` is the pull at
    ``(psi, x)``. On its way there the twin `psi` goes through the same transposes, slices, casts,
    masks as `w`.

    Raises:
        ValueError: where a synapse enters non-linearly, or is changed by a scan.
    """

    def run(*inputs: Any) -> list[Any]:
        own = len(inputs) - sum(twins)
        supply, given = iter(inputs[own:]), inputs[:own]
        has_twin = [*twins, *[False] * (own - len(twins))]
        signals = [
            Signal(x, Role.SYNAPSE, next(supply)) if has else _activity(x)
            for x, has in zip(given, has_twin, strict=True)
        ]
        return [output.value for output in Twinned().steady(program, signals)]

    return run


class Twinned(Followed):
    """Runs a program on the twins as well, as far as they reach.

    What an index picks from a parameter is a synapse (one layer of a stack) or an activity (the
    embedding of a token); which of them shows where it meets another value.
    """

    def single(self, alone: Alone, given: list[Signal], path: Path) -> list[Signal]:
        """The outputs of an equation; messages that read a synapse are taken at its twin."""
        meets = meeting(alone, [signal.role for signal in given])
        for k in meets.revealed:
            self.shown |= given[k].since
        for k in sorted(meets.bending):
            if not given[k].since:
                met = "a parameter that enters non-linearly cannot have feedback weights."
                raise ValueError(explain(met, given[k].bent or _place(path), GIVE_NONE))
        values = [signal.value for signal in given]
        if meets.crossing:
            moving = {k for k, signal in enumerate(given) if signal.role not in GIVEN}
            at = [s.twin if k in meets.crossing else s.value for k, s in enumerate(given)]
            outputs = _crossed(alone, meets.activities, moving - meets.activities)(values, at)
        else:
            outputs = alone(values)
        kind = self._kind(meets, given, path)
        results = [replace(kind, value=value) for value in outputs]
        if kind.role in SYNAPTIC:
            twins = alone([signal.like(kind).twin for signal in given])
            results = [replace(r, twin=twin) for r, twin in zip(results, twins, strict=True)]
        return [r if is_inexact(r.value) else Signal(r.value) for r in results]

    def is_whole(self, alone: Alone, given: list[Signal], path: Path) -> bool:
        """All calls are opened."""
        return False

    def carried(self, eqn: Any, start: Signal, end: Signal) -> None:
        """A parameter that a scan turns into an activity has no twin any more."""
        roles = {start.role, end.role}
        if Role.ACTIVITY in roles and not SYNAPTIC.isdisjoint(roles):
            met = "met a scan that changes a parameter which has feedback weights."
            raise ValueError(explain(met, located_at(eqn), GIVE_NONE))

    def closed(self, body: Any, path: Path) -> None:
        """Nothing shows at the end."""

    def _kind(self, meets: Meeting, given: list[Signal], path: Path) -> Signal:
        """What the outputs of an equation are, without their arrays."""
        if meets.role is Role.BENT:
            bent = max(signal.bent for signal in given) or _place(path)
            return Signal(None, meets.role, bent=bent)
        if meets.picks and path in self.shown:
            return Signal(None, Role.ACTIVITY)
        if meets.role is Role.SAMPLED:
            since = frozenset([path] if meets.picks else ())
            return Signal(None, meets.role, since=since.union(*(s.since for s in given)))
        return Signal(None, meets.role)


GIVE_NONE = "give this parameter none: backward=None at its place in Synapses."


def _crossed(
    run: Callable[[Sequence[Any]], list[Any]], activities: Collection[int], others: Collection[int]
) -> Callable[..., list[Any]]:
    """An equation whose messages to the activities are taken at the twins."""

    @jax.custom_vjp
    def crossed(values: list[Any], twins: list[Any]) -> list[Any]:
        return run(values)

    def forward(values: list[Any], twins: list[Any]) -> tuple[list[Any], Any]:
        return run(values), (values, twins)

    def backward(kept: Any, errors: list[Any]) -> tuple[list[Any], None]:
        values, twins = kept

        def messages(slots: Collection[int], at: list[Any]) -> dict[int, Any]:
            def moved(moving: dict[int, Any]) -> list[Any]:
                return run([moving.get(k, value) for k, value in enumerate(at)])

            _, pull = jax.vjp(moved, {k: at[k] for k in slots})
            return pull(errors)[0]

        sent = messages(activities, twins) | messages(others, values)
        return [sent.get(k) for k, _ in enumerate(values)], None

    crossed.defvjp(forward, backward)
    return crossed


def _place(path: Path) -> str:
    return located_at(*path[:-3:-1])


def _activity(value: Any) -> Signal:
    return Signal(value, Role.ACTIVITY if is_inexact(value) else Role.DATA)
