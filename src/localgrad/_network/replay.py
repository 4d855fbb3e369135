"""A flat program as JAX code that is traced again: the ground that every rewriting stands on."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from localgrad._jaxpr import (
    Equation,
    Program,
    Pulls,
    body_of,
    branches,
    flatten,
    is_branch,
    is_loop,
    is_recomputed,
    loop_layout,
    recomputation,
)


class Replay:
    """Runs a program equation by equation, each with the source line that it has.

    What is run is what the program says, loops, branches and checkpoints included. A rewriting is a
    subclass that says otherwise for some equations. Values are arrays, or pytrees of arrays where a
    rewriting lets more than one travel along a slot.
    """

    keeps_calls = False
    """Whether calls inside of loops and branches stay closed, as `flatten` has it."""

    def __init__(self) -> None:
        self._pulls = Pulls()
        self._bodies: dict[Any, Program] = {}

    def run(self, program: Program, inputs: Sequence[Any]) -> list[Any]:
        """The outputs of a program."""
        values = program.constants | dict(zip(program.inputs, inputs, strict=True))
        for equation in program.equations:
            with equation.context():
                outputs = self.evaluate(equation, values)
            values.update(zip(equation.outputs, outputs, strict=True))
        return [values[o] for o in program.outputs]

    def evaluate(self, equation: Equation, values: dict[int, Any]) -> Sequence[Any]:
        """The outputs of an equation of any kind; `values` holds all there are before it."""
        operands = equation.read(values)
        if is_loop(equation.eqn):
            return self.loop(equation, operands)
        if is_branch(equation.eqn):
            return self.branch(equation, operands)
        if is_recomputed(equation.eqn):
            return self.recomputed(equation, operands)
        return self.single(equation, operands)

    def single(self, equation: Equation, operands: Sequence[Any]) -> Sequence[Any]:
        """The outputs of an equation without a program inside that could be opened."""
        pairs = zip(equation.operands, operands, strict=True)
        return self._pulls.run(equation, {o: value for o, value in pairs if isinstance(o, int)})

    def loop(self, equation: Equation, operands: list[Any]) -> Sequence[Any]:
        """The outputs of a `scan`."""
        body, layout = self.body(body_of(equation.eqn)), loop_layout(equation.eqn)
        (consts, carries, xs), (heads, tails) = layout.inputs, layout.outputs

        def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
            outputs = self.run(body, [*operands[consts], *carry, *x])
            return outputs[heads], outputs[tails]

        final, ys = lax.scan(
            step,
            operands[carries],
            operands[xs],
            layout.length,
            reverse=layout.reverse,
            unroll=layout.unroll,
        )
        return [*final, *ys]

    def branch(self, equation: Equation, operands: list[Any]) -> Sequence[Any]:
        """The outputs of a `cond` or `switch`."""
        index, *given = operands
        bodies = [self.body(branch) for branch in branches(equation.eqn)]
        return lax.switch(
            index, [lambda *args, b=body: self.run(b, args) for body in bodies], *given
        )

    def recomputed(self, equation: Equation, operands: list[Any]) -> Sequence[Any]:
        """The outputs of a `jax.checkpoint`."""
        body, (policy, prevent_cse) = self.body(body_of(equation.eqn)), recomputation(equation.eqn)
        again = jax.checkpoint(
            lambda *args: self.run(body, args), policy=policy, prevent_cse=prevent_cse
        )
        return again(*operands)

    def body(self, jaxpr: Any) -> Program:
        """The flat program of a jaxpr that stands inside an equation."""
        if jaxpr not in self._bodies:
            self._bodies[jaxpr] = flatten(jaxpr, self.keeps_calls)
        return self._bodies[jaxpr]
