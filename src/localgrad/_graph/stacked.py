"""`scan`: a stacked vertex. One graph of the body, its values at all iterations on one axis."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from localgrad._graph.vertex import Container, Part, Step, Values, Wave, chosen, flags, gather
from localgrad._jaxpr import Equation, body_of, loop_layout


class Stacked(Container):
    """A scan: run forwards storing what the pulls read, run backwards with the body's own pulls.

    Steps of the body that depend on its constants alone are the same in every iteration. They run
    once, before the loop; their errors are summed over the iterations and pulled once, after it.
    """

    def __init__(
        self,
        equation: Equation,
        active: set[int],
        wanted: set[int],
        builder: Any,
        fresh: Callable[[int], tuple[int, ...]],
    ) -> None:
        super().__init__(equation, wanted)
        self.layout = layout = loop_layout(equation.eqn)
        operands, outputs = equation.operands, equation.outputs
        (consts, carries, xs), (heads, _) = layout.inputs, layout.outputs

        moving, _ = _moving(equation, active, builder)
        is_wanted = list(flags(outputs, wanted))
        while True:  # the error of one carry may need those of others, one iteration later
            graph = builder.graph(builder.body(body_of(equation.eqn)), moving, is_wanted)
            grown = [w or k for w, k in zip(is_wanted[heads], graph.learns[carries], strict=True)]
            if grown == is_wanted[heads]:
                break
            is_wanted[heads] = grown
        self.body = graph
        self._once, self._each, fixed = _divided(graph, consts)
        self.parts = (Part(f"scan x {layout.length}", graph, operands, carries, layout.length),)

        # Inside: the carries with errors, the roots (their ends, and ys), and the leaves.
        self._carries = chosen(graph.inputs[carries], is_wanted[heads])
        self._roots = chosen(graph.outputs, is_wanted)
        self._consts = chosen(graph.inputs[consts], graph.learns[consts])
        self._xs = chosen(graph.inputs[xs], graph.learns[xs])
        # Outside: where the errors of the carries come from and go to.
        self._finals = chosen(outputs[heads], is_wanted[heads])
        starts = chosen(operands[carries], is_wanted[heads])
        self._learns_start = flags(starts, active)
        self.parents = (
            *chosen(operands[consts], graph.learns[consts]),
            *chosen(starts, self._learns_start),
            *chosen(operands[xs], graph.learns[xs]),
        )

        messages = {p for step in self._each for p in step.parents}
        self._summed = tuple(sorted((messages | set(self._roots)) & fixed))
        read = {s for step in graph.moving for s in step.residuals} | set(self._summed)
        read -= {*graph.inputs[consts], *graph.inputs[xs], *graph.program.constants}
        self._stored, self._kept = tuple(sorted(read - fixed)), tuple(sorted(read & fixed))
        self.own = fresh(len(read))
        self.residuals = (*self.reads, *self.own)

    @staticmethod
    def moved(equation: Equation, active: set[int], builder: Any) -> set[int]:
        """The outputs that can carry errors when the active slots do."""
        return set(chosen(equation.outputs, _moving(equation, active, builder)[1]))

    def forward(self, values: Values) -> None:
        graph, operands = self.body, self.equation.read(values)
        (consts, carries, xs), (heads, tails) = self.layout.inputs, self.layout.outputs
        inside = graph.begin(operands[consts], consts)

        def body(carry: list[Any], x: list[Any]) -> tuple[list[Any], Any]:
            values = inside | graph.begin(carry, carries) | graph.begin(x, xs)
            for step in self._each:
                step.forward(values)
            outputs = [values[o] for o in graph.outputs]
            return outputs[heads], (outputs[tails], [values[s] for s in self._stored])

        with self.equation.context():
            for step in self._once:
                step.forward(inside)
            final, (ys, stored) = self._loop(body, operands[carries], operands[xs], False)
        kept = (inside[s] for s in self._kept)
        values.update(zip(self.writes, (*final, *ys, *stored, *kept), strict=True))

    def pull(self, residuals: Sequence[Any], errors: Sequence[Any], wave: Wave) -> Sequence[Any]:
        graph, outside = self.body, dict(zip(self.residuals, residuals, strict=True))
        consts, carries, xs = self.layout.inputs
        operands, own = self.equation.read(outside), [outside[s] for s in self.own]
        stored, kept = own[: len(self._stored)], own[len(self._stored) :]
        inside = graph.begin(operands[consts], consts) | dict(zip(self._kept, kept, strict=True))
        start = graph.begin(operands[carries], carries)
        silent = {carry: jnp.zeros_like(start[carry]) for carry in self._carries}
        each = [step for step in self._each if not step.is_still]
        once = [step for step in self._once if not step.is_still]

        def body(carry: Any, x: Any) -> tuple[Any, list[Any]]:
            (carried, sums), (now, stored, arriving) = carry, x
            values = inside | graph.begin(now, xs) | dict(zip(self._stored, stored, strict=True))
            reached = wave(each, values, gather(self._roots, (*carried, *arriving)))
            before = [reached.get(carry, silent[carry]) for carry in self._carries]
            sums = {s: lax.add(e, reached[s]) if s in reached else e for s, e in sums.items()}
            return (before, sums), [reached[slot] for slot in self._xs]

        incoming = dict(zip(self.wanted, errors, strict=True))
        ends = zip(self._finals, self._carries, strict=True)
        finals = [incoming.pop(final, silent[carry]) for final, carry in ends]
        sums = {slot: jnp.zeros_like(inside[slot]) for slot in self._summed}
        with self.equation.context():
            (begun, sums), messages = self._loop(
                body, (finals, sums), (operands[xs], stored, list(incoming.values())), True
            )
            reached = wave(once, inside, sums)
        learned = [reached[slot] for slot in self._consts]
        return [*learned, *chosen(begun, self._learns_start), *messages]

    def _loop(self, body: Callable[..., Any], init: Any, xs: Any, backwards: bool) -> Any:
        length, reverse, unroll = self.layout[2:]
        return lax.scan(body, init, xs, length, reverse=reverse != backwards, unroll=unroll)


def _moving(
    equation: Equation, active: set[int], builder: Any
) -> tuple[list[bool], tuple[bool, ...]]:
    """Which of the body's inputs and outputs carry errors, a carry in any iteration."""
    layout = loop_layout(equation.eqn)
    (_, carries, _), (heads, tails) = layout.inputs, layout.outputs
    inputs = list(flags(equation.operands, active))
    while True:
        outputs = builder.moving(builder.body(body_of(equation.eqn)), inputs)
        grown = [i or o for i, o in zip(inputs[carries], outputs[heads], strict=True)]
        if grown == inputs[carries]:  # without any iteration, a carry ends as it starts
            return inputs, (*grown, *outputs[tails])
        inputs[carries] = grown


def _divided(graph: Any, consts: slice) -> tuple[list[Step], list[Step], set[int]]:
    """Steps that are the same in every iteration, the others, and the slots that never change."""
    once, each, fixed = [], [], {*graph.inputs[consts], *graph.program.constants}
    for step in graph.steps:
        if fixed.issuperset(step.reads) and not step.equation.eqn.effects:
            fixed.update(step.writes)
            once.append(step)
        else:
            each.append(step)
    return once, each, fixed
