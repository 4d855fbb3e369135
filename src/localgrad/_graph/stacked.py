"""`scan`: a stacked vertex. One graph of the body, its values at all iterations on one axis."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from localgrad._graph.vertex import Step, Values, Wave, flags, gather, paired
from localgrad._jaxpr import Equation, body_of, loop_layout


class Stacked(Step):
    """A scan: run forwards storing what the pulls read, run backwards with the body's own pulls.

    Steps of the body that depend on its constants alone are the same in every iteration. They run
    once, before the loop; their errors are summed over the iterations and pulled once, after it.
    """

    is_container = True

    def __init__(
        self,
        equation: Equation,
        active: set[int],
        wanted: set[int],
        builder: Any,
        fresh: Callable[[int], tuple[int, ...]],
    ) -> None:
        super().__init__(equation)
        self.layout = layout = loop_layout(equation.eqn)
        consts, carries = slice(layout.consts), slice(layout.consts, layout.consts + layout.carries)
        xs = slice(layout.consts + layout.carries, None)
        heads, tails = slice(layout.carries), slice(layout.carries, None)

        body = builder.body(body_of(equation.eqn))
        inputs, _ = _moving(equation, active, builder)
        is_wanted = list(flags(equation.outputs, wanted))
        while True:  # the error of one carry may need those of others, one iteration later
            self.graph = graph = builder.graph(body, inputs, is_wanted)
            grown = [w or k for w, k in zip(is_wanted[heads], graph.learns[carries], strict=True)]
            if grown == is_wanted[heads]:
                break
            is_wanted[heads] = grown

        self._once, self._each, fixed = _divided(graph.steps, graph.inputs[consts], graph.program)
        self._heads, self._finals = paired(
            graph.outputs[heads], equation.outputs[heads], is_wanted[heads]
        )
        self._carries, starts = paired(
            graph.inputs[carries], equation.operands[carries], is_wanted[heads]
        )
        self._tails, ys = paired(graph.outputs[tails], equation.outputs[tails], is_wanted[tails])
        self._xs, learned_xs = paired(graph.inputs[xs], equation.operands[xs], graph.learns[xs])
        self._consts, learned = paired(
            graph.inputs[consts], equation.operands[consts], graph.learns[consts]
        )
        self._learned_starts = flags(starts, active)
        learned_starts = [o for o, k in zip(starts, self._learned_starts, strict=True) if k]
        self.parents = (*learned, *learned_starts, *learned_xs)
        self.wanted = (*(o for o in self._finals if o in wanted), *ys)

        messages = {p for step in self._each for p in step.parents}
        self._summed = tuple(sorted((messages | {*self._heads, *self._tails}) & fixed))
        read = {s for step in graph.moving for s in step.residuals} | set(self._summed)
        known = {*graph.inputs[consts], *graph.inputs[xs], *graph.program.constants}
        self._stored = tuple(sorted(read - fixed - known))
        self._kept = tuple(sorted((read & fixed) - known))
        self.own = fresh(len(self._stored) + len(self._kept))
        self.residuals = (*self.reads, *self.own)
        self._slices = consts, carries, xs, heads, tails

    @staticmethod
    def moved(equation: Equation, active: set[int], builder: Any) -> set[int]:
        """The outputs that can carry errors when the active slots do."""
        _, outputs = _moving(equation, active, builder)
        return {o for o, m in zip(equation.outputs, outputs, strict=True) if m}

    def forward(self, values: Values) -> None:
        graph, layout = self.graph, self.layout
        consts, carries, xs, heads, tails = self._slices
        operands = self.equation.read(values)
        inside = graph.program.constants | dict(
            zip(graph.inputs[consts], operands[consts], strict=True)
        )

        def body(carry: list[Any], x: list[Any]) -> tuple[list[Any], Any]:
            values = inside | dict(zip(graph.inputs[layout.consts :], (*carry, *x), strict=True))
            for step in self._each:
                step.forward(values)
            outputs = [values[o] for o in graph.outputs]
            return outputs[heads], (outputs[tails], [values[s] for s in self._stored])

        with self.equation.context():
            for step in self._once:
                step.forward(inside)
            final, (ys, stored) = lax.scan(
                body,
                operands[carries],
                operands[xs],
                length=layout.length,
                reverse=layout.reverse,
                unroll=layout.unroll,
            )
        kept = (inside[s] for s in self._kept)
        values.update(zip(self.writes, (*final, *ys, *stored, *kept), strict=True))

    def pull(self, residuals: Sequence[Any], errors: Sequence[Any], wave: Wave) -> Sequence[Any]:
        graph, layout = self.graph, self.layout
        consts, carries, xs, *_ = self._slices
        outside = dict(zip(self.residuals, residuals, strict=True))
        operands = self.equation.read(outside)
        own = [outside[s] for s in self.own]
        stored, kept = own[: len(self._stored)], own[len(self._stored) :]
        inside = graph.program.constants | dict(zip(self._kept, kept, strict=True))
        inside.update(zip(graph.inputs[consts], operands[consts], strict=True))
        incoming = dict(zip(self.wanted, errors, strict=True))
        starts = dict(zip(graph.inputs[carries], operands[carries], strict=True))
        each = [step for step in self._each if not step.is_still]
        once = [step for step in self._once if not step.is_still]

        def body(carry: Any, x: Any) -> tuple[Any, list[Any]]:
            carried, sums = carry
            now, values, arriving = x
            values = inside | dict(
                zip((*graph.inputs[xs], *self._stored), (*now, *values), strict=True)
            )
            seeds = gather((*self._heads, *self._tails), (*carried, *arriving))
            reached = wave(each, values, seeds)
            before = [reached.get(c, jnp.zeros_like(starts[c])) for c in self._carries]
            sums = [
                lax.add(s, reached[slot]) if slot in reached else s
                for slot, s in zip(self._summed, sums, strict=True)
            ]
            return (before, sums), [reached[slot] for slot in self._xs]

        finals = [
            incoming.get(o, jnp.zeros_like(starts[c]))
            for o, c in zip(self._finals, self._carries, strict=True)
        ]
        sums = [jnp.zeros_like(inside[slot]) for slot in self._summed]
        arriving = [incoming[o] for o in self.wanted if o not in self._finals]
        with self.equation.context():
            (carried, sums), messages = lax.scan(
                body,
                (finals, sums),
                (operands[xs], stored, arriving),
                length=layout.length,
                reverse=not layout.reverse,
                unroll=layout.unroll,
            )
            reached = wave(once, inside, dict(zip(self._summed, sums, strict=True)))
        learned = [reached[slot] for slot in self._consts]
        begun = [c for c, k in zip(carried, self._learned_starts, strict=True) if k]
        return [*learned, *begun, *messages]


def _moving(
    equation: Equation, active: set[int], builder: Any
) -> tuple[list[bool], tuple[bool, ...]]:
    """Which of the body's inputs and outputs carry errors, a carry in any iteration."""
    layout = loop_layout(equation.eqn)
    body = builder.body(body_of(equation.eqn))
    carries = slice(layout.consts, layout.consts + layout.carries)
    inputs = list(flags(equation.operands, active))
    while True:
        outputs = builder.moving(body, inputs)
        grown = [i or o for i, o in zip(inputs[carries], outputs, strict=False)]
        if grown == inputs[carries]:  # without any iteration, a carry ends as it starts
            return inputs, (*grown, *outputs[layout.carries :])
        inputs[carries] = grown


def _divided(
    steps: Sequence[Step], consts: Sequence[int], program: Any
) -> tuple[list[Step], list[Step], set[int]]:
    """Steps that are the same in every iteration, the others, and the slots that never change."""
    once, each, fixed = [], [], {*consts, *program.constants}
    for step in steps:
        if fixed.issuperset(step.reads) and not step.equation.eqn.effects:
            fixed.update(step.writes)
            once.append(step)
        else:
            each.append(step)
    return once, each, fixed
