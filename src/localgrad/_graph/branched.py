"""`cond` and `switch`: the vertices of the branch that was taken."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from localgrad._graph.vertex import Step, Values, Wave, flags, gather, paired
from localgrad._jaxpr import Equation, branches


class Branched(Step):
    """The branches of a `cond`, opened; errors pass through the one that was taken.

    Every branch stores its own residuals; the places of the other branches' hold zeros, which
    nobody reads.
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
        self.graphs = tuple(
            builder.graph(
                builder.body(branch),
                flags(equation.operands[1:], active),
                flags(equation.outputs, wanted),
            )
            for branch in branches(equation.eqn)
        )
        learns = tuple(map(any, zip(*(graph.learns for graph in self.graphs), strict=True)))
        _, self.parents = paired(self.graphs[0].inputs, equation.operands[1:], learns)
        self._learns = learns
        self._is_wanted = flags(equation.outputs, wanted)
        self.wanted = tuple(o for o in equation.outputs if o in wanted)
        self._stored = [_inner_residuals(graph) for graph in self.graphs]
        self.own = fresh(sum(map(len, self._stored)))
        self.residuals = (*self.reads, *self.own)

    @staticmethod
    def moved(equation: Equation, active: set[int], builder: Any) -> set[int]:
        """The outputs that can carry errors when the active slots do, in any branch."""
        inputs = flags(equation.operands[1:], active)
        return {
            o
            for branch in branches(equation.eqn)
            for o, m in zip(
                equation.outputs, builder.moving(builder.body(branch), inputs), strict=True
            )
            if m
        }

    def forward(self, values: Values) -> None:
        index, *operands = self.equation.read(values)

        def run(graph: Any, stored: tuple[int, ...]) -> Callable[..., Any]:
            def branch(*operands: Any) -> tuple[list[Any], list[Any]]:
                inside = graph.forward(operands)
                return [inside[o] for o in graph.outputs], [inside[s] for s in stored]

            return branch

        plain = [run(g, s) for g, s in zip(self.graphs, self._stored, strict=True)]
        kinds = [jax.eval_shape(branch, *operands)[1] for branch in plain]

        def padded(k: int) -> Callable[..., Any]:
            def branch(*operands: Any) -> tuple[list[Any], list[Any]]:
                outputs, stored = plain[k](*operands)
                before = [_empty(kind) for kind in sum(kinds[:k], [])]
                after = [_empty(kind) for kind in sum(kinds[k + 1 :], [])]
                return outputs, [*before, *stored, *after]

            return branch

        with self.equation.context():
            outputs, own = lax.switch(index, [padded(k) for k in range(len(plain))], *operands)
        values.update(zip(self.writes, (*outputs, *own), strict=True))

    def pull(self, residuals: Sequence[Any], errors: Sequence[Any], wave: Wave) -> Sequence[Any]:
        count = len(self.reads)
        index, *operands = self.equation.read(dict(zip(self.reads, residuals[:count], strict=True)))
        own, start = residuals[count:], 0

        def pulled(graph: Any, stored: tuple[int, ...], start: int) -> Callable[..., Any]:
            def branch(operands: list[Any], own: Sequence[Any], errors: Sequence[Any]) -> list[Any]:
                inside = graph.program.constants | dict(zip(graph.inputs, operands, strict=True))
                inside.update(zip(stored, own[start : start + len(stored)], strict=True))
                roots, _ = paired(graph.outputs, self.equation.outputs, self._is_wanted)
                reached = wave(graph.moving, inside, gather(roots, errors))
                return [
                    reached.get(slot, jnp.zeros_like(operand))
                    for slot, operand, learns in zip(
                        graph.inputs, operands, self._learns, strict=True
                    )
                    if learns
                ]

            return branch

        choices = []
        for graph, stored in zip(self.graphs, self._stored, strict=True):
            choices.append(pulled(graph, stored, start))
            start += len(stored)
        with self.equation.context():
            return lax.switch(index, choices, operands, own, errors)


def _inner_residuals(graph: Any) -> tuple[int, ...]:
    """What the pulls of a graph read beside its inputs and constants."""
    known = {*graph.inputs, *graph.program.constants}
    read = dict.fromkeys(s for step in graph.moving for s in step.residuals)
    return tuple(s for s in read if s not in known)


def _empty(kind: Any) -> Any:
    """Zeros of a type; for random keys, a key."""
    if jnp.issubdtype(kind.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0, impl=str(jax.random.key_impl(kind))), kind.shape)
    return jnp.zeros_like(kind)
