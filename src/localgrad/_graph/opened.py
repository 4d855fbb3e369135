"""A program without branches and checkpoints, and without loops if asked."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from localgrad._graph.replay import Replay
from localgrad._jaxpr import Equation, Program, body_of, branches, loop_layout


def opened(program: Program, unrolled: bool) -> Callable[..., list[Any]]:
    """The program that a synchronous engine simulates, as a function of the program's inputs.

    Checkpoints are inlined. Of a `cond` or `switch` every branch is computed and one is selected:
    values and gradients are those of the branch taken, also where another one would divide by zero.
    An effect inside a branch (printing, a callback) happens only if the branch is taken: what is
    left of the branching there is a `cond` around the effect alone, without a derivative. Loops
    stay scans, with their bodies opened, unless `unrolled`.

    What cannot be opened stays: `while`, custom derivatives, the branches of
    `lax.platform_dependent`, checkpoints that offload. A `while` inside a branch not taken runs on
    operands of zeros; it has to end on those.
    """
    return lambda *inputs: Opened(unrolled).run(program, inputs)


class Opened(Replay):
    """Replays a program with its branches side by side."""

    def __init__(self, unrolled: bool) -> None:
        super().__init__()
        self._unrolled = unrolled
        self._taken: Any = None
        """Whether the branch that is being replayed is the one taken; None outside of branches."""

    def recomputed(self, equation: Equation, operands: list[Any]) -> Sequence[Any]:
        return self.run(self.body(body_of(equation.eqn)), operands)

    def branch(self, equation: Equation, operands: list[Any]) -> Sequence[Any]:
        index, *given = operands
        bodies = [self.body(branch) for branch in branches(equation.eqn)]
        index = lax.clamp(jnp.int32(0), jnp.int32(index), jnp.int32(len(bodies) - 1))
        around = self._taken
        results = []
        for k, body in enumerate(bodies):
            chosen = lax.eq(index, jnp.int32(k))
            self._taken = chosen if around is None else lax.bitwise_and(around, chosen)
            results.append(self.run(body, [_gated(chosen, operand) for operand in given]))
        self._taken = around
        return [lax.select_n(index, *cases) for cases in zip(*results, strict=True)]

    def single(self, equation: Equation, operands: Sequence[Any]) -> Sequence[Any]:
        if self._taken is None or not equation.eqn.effects:
            return super().single(equation, operands)
        run = super().single
        kinds = jax.eval_shape(lambda *operands: run(equation, operands), *operands)
        return lax.cond(
            self._taken,
            lambda *operands: run(equation, operands),
            lambda *_: [jnp.zeros(kind.shape, kind.dtype) for kind in kinds],
            *operands,
        )

    def loop(self, equation: Equation, operands: list[Any]) -> Sequence[Any]:
        if not self._unrolled:
            return super().loop(equation, operands)
        body, layout = self.body(body_of(equation.eqn)), loop_layout(equation.eqn)
        (consts, carries, xs), (heads, tails) = layout.inputs, layout.outputs
        order = range(layout.length)
        carry, rows = operands[carries], []
        for k in reversed(order) if layout.reverse else order:
            now = [lax.index_in_dim(x, k, keepdims=False) for x in operands[xs]]
            with jax.named_scope(f"iteration {k}"):  # by which `record` knows the copies apart
                outputs = self.run(body, [*operands[consts], *carry, *now])
            carry = outputs[heads]
            rows.append(outputs[tails])
        if layout.reverse:
            rows.reverse()
        if rows:
            return [*carry, *map(jnp.stack, zip(*rows, strict=True))]
        kinds: Any = [var.aval for var in equation.eqn.outvars[tails]]
        return [*carry, *(jnp.zeros(kind.shape, kind.dtype) for kind in kinds)]


def _gated(chosen: Any, operand: Any) -> Any:
    """The operand in the branch taken, zeros in the others.

    No derivative of a branch that is not taken passes here, be it infinite.
    """
    if not jnp.issubdtype(jnp.result_type(operand), jnp.inexact):
        return operand
    return lax.select_n(chosen, jnp.zeros_like(operand), jnp.asarray(operand))
