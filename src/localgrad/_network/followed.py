"""A program run on signals: values together with what is known of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
from jax import lax

from localgrad._jaxpr import (
    Alone,
    body_of,
    branches,
    evaluate,
    is_branch,
    is_call,
    is_loop,
    is_recomputed,
    loop_layout,
    opened,
    recomputation,
    standing,
)
from localgrad._network.roles import SYNAPTIC, Role

Path = tuple[Any, ...]
"""An equation, after those that it stands in."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["value", "twin"],
    meta_fields=["role", "bent", "since", "is_marked", "made"],
)
@dataclass(frozen=True)
class Signal:
    """A value and its role; with it the twin of a synapse.

    Attributes:
        value: The array.
        role: What it is to the synapses.
        twin: What stands for a synapse where messages travel.
        bent: The line where a synapse was bent.
        since: The equations on its way of which it has to show what they are.
        is_marked: Whether it is a marked value, up to wiring.
        made: The equations whose result it is, up to wiring.
    """

    value: Any
    role: Role = Role.DATA
    twin: Any = None
    bent: str = ""
    since: frozenset[Path] = frozenset()
    is_marked: bool = False
    made: frozenset[Path] = frozenset()

    @property
    def kind(self) -> "Signal":
        """All but the arrays."""
        return replace(self, value=None, twin=None)

    def like(self, other: "Signal") -> "Signal":
        """The same value as one of another's kind. The twin of data is the data."""
        twin = None
        if other.role in SYNAPTIC:
            twin = self.twin if self.role in SYNAPTIC else self.value
        return replace(other, value=self.value, twin=twin)

    def joined(self, *others: "Signal") -> "Signal":
        """The same value as one that may be of any of several kinds."""
        each = (self, *others)
        last = max(each, key=lambda signal: signal.role)
        return self.like(
            replace(
                last,
                since=frozenset().union(*(signal.since for signal in each)),
                is_marked=any(signal.is_marked for signal in each),
                made=frozenset().union(*(signal.made for signal in each)),
            )
        )


class Followed(ABC):
    """Runs a program on signals, into its calls, loops, branches and checkpoints.

    What an equation is may show only later, in what is done with its result: `shown` are those of
    which it has shown so far.
    """

    def __init__(self) -> None:
        self.shown: set[Any] = set()

    @abstractmethod
    def single(self, alone: Alone, given: list[Signal], path: Path) -> list[Signal]:
        """The outputs of an equation that is not opened."""

    @abstractmethod
    def is_whole(self, alone: Alone, given: list[Signal], path: Path) -> bool:
        """Whether a call is one equation, and not opened."""

    @abstractmethod
    def carried(self, eqn: Any, start: Signal, end: Signal) -> None:
        """Look at what a scan makes of what it carries."""

    @abstractmethod
    def closed(self, body: Any, path: Path) -> None:
        """Look at a program once it has been run."""

    def steady(self, program: Any, signals: Sequence[Signal]) -> list[Signal]:
        """The outputs of a program, once all that shows has shown."""
        known = -1
        while known != len(self.shown):
            known = len(self.shown)
            jax.eval_shape(lambda signals: self._run(program, (), signals), signals)
        return self._run(program, (), signals)

    def _run(self, program: Any, path: Path, signals: Sequence[Signal]) -> list[Signal]:
        body, consts = opened(program)

        def visit(_: int, eqn: Any, operands: list[Any]) -> list[Signal]:
            return self._visit(eqn, list(map(signal, operands)), (*path, eqn))

        outputs = evaluate(body, consts, signals, visit)
        self.closed(body, path)
        return list(map(signal, outputs))

    def _visit(self, eqn: Any, operands: list[Signal], path: Path) -> list[Signal]:
        if is_loop(eqn):
            return self._loop(eqn, operands, path)
        if is_branch(eqn):
            return self._branch(eqn, operands, path)
        if is_recomputed(eqn):
            policy, prevent_cse = recomputation(eqn)
            run = partial(self._run, body_of(eqn), path)
            with standing(eqn):
                return jax.checkpoint(
                    lambda *signals: run(signals), policy=policy, prevent_cse=prevent_cse
                )(*operands)
        alone = Alone(eqn)
        given = alone.given(operands)
        if is_call(eqn) and not self.is_whole(alone, given, path):
            return self._run(body_of(eqn), path, operands)
        return self.single(alone, given, path)

    def _loop(self, eqn: Any, operands: list[Signal], path: Path) -> list[Signal]:
        layout = loop_layout(eqn)
        (consts, carries, xs), (heads, tails) = layout.inputs, layout.outputs
        start, rows = operands[carries], operands[xs]

        def step(carry: list[Signal], x: list[Signal]) -> tuple[list[Signal], list[Signal]]:
            outputs = self._run(body_of(eqn), path, [*operands[consts], *carry, *x])
            return outputs[heads], outputs[tails]

        def steady(carry: list[Signal], x: list[Signal]) -> tuple[list[Signal], list[Signal]]:
            ends, ys = step(carry, x)
            return [end.like(now) for end, now in zip(ends, carry, strict=True)], ys

        first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), rows)
        while True:
            ends, _ = jax.eval_shape(step, start, first)
            pairs = list(zip(start, ends, strict=True))
            for pair in pairs:
                self.carried(eqn, *pair)
            joined = [s.joined(e) for s, e in pairs]
            if [s.kind for s in joined] == [s.kind for s in start]:
                break
            start = joined
        with standing(eqn):
            final, ys = lax.scan(
                steady, start, rows, layout.length, reverse=layout.reverse, unroll=layout.unroll
            )
        return [*final, *ys]

    def _branch(self, eqn: Any, operands: list[Signal], path: Path) -> list[Signal]:
        index, *given = operands
        bodies = [partial(self._run, branch, path) for branch in branches(eqn)]
        each = [jax.eval_shape(body, given) for body in bodies]
        joined = [Signal.joined(*signals) for signals in zip(*each, strict=True)]

        def joining(body: Any, *operands: Signal) -> list[Signal]:
            return [s.like(j) for s, j in zip(body(operands), joined, strict=True)]

        with standing(eqn):
            return lax.switch(index.value, [partial(joining, body) for body in bodies], *given)


def signal(value: Any) -> Signal:
    """A value that is data, unless something is known of it."""
    return value if isinstance(value, Signal) else Signal(value)
