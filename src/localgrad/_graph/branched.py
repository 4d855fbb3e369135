"""`cond` and `switch`: the vertices of the branch that was taken."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from localgrad._graph.vertex import Container, Part, Values, Wave, chosen, flags, gather
from localgrad._jaxpr import Equation, branches


class Branched(Container):
    """The branches of a `cond`, opened; errors pass through the one that was taken.

    Every branch stores its own residuals; the places of the other branches' hold zeros, which
    nobody reads.
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
        operands, is_wanted = equation.operands[1:], flags(equation.outputs, wanted)
        bodies = [builder.body(branch) for branch in branches(equation.eqn)]
        self._graphs = [builder.graph(b, flags(operands, active), is_wanted) for b in bodies]
        self._roots = [chosen(graph.outputs, is_wanted) for graph in self._graphs]
        self._learns = [any(k) for k in zip(*(g.learns for g in self._graphs), strict=True)]
        self._stored = [_residuals_inside(graph) for graph in self._graphs]
        self.parts = tuple(
            Part(f"branch {k}", graph, operands) for k, graph in enumerate(self._graphs)
        )
        self.parents = chosen(operands, self._learns)
        self.own = fresh(sum(map(len, self._stored)))
        self.residuals = (*self.reads, *self.own)

    @staticmethod
    def moved(equation: Equation, active: set[int], builder: Any) -> set[int]:
        """The outputs that can carry errors when the active slots do, in any branch."""
        inputs = flags(equation.operands[1:], active)
        each = [builder.moving(builder.body(b), inputs) for b in branches(equation.eqn)]
        return {o for moving in each for o in chosen(equation.outputs, moving)}

    def forward(self, values: Values) -> None:
        index, *operands = self.equation.read(values)

        def run(k: int, *operands: Any) -> tuple[list[Any], list[Any]]:
            inside = self._graphs[k].forward(operands)
            outputs = [inside[o] for o in self._graphs[k].outputs]
            return outputs, [inside[s] for s in self._stored[k]]

        numbers = range(len(self._graphs))
        kinds = [jax.eval_shape(partial(run, k), *operands)[1] for k in numbers]

        def padded(k: int, *operands: Any) -> tuple[list[Any], list[Any]]:
            outputs, stored = run(k, *operands)
            return outputs, [
                x for j in numbers for x in (stored if j == k else map(_empty, kinds[j]))
            ]

        with self.equation.context():
            outputs, own = lax.switch(index, [partial(padded, k) for k in numbers], *operands)
        values.update(zip(self.writes, (*outputs, *own), strict=True))

    def pull(self, residuals: Sequence[Any], errors: Sequence[Any], wave: Wave) -> Sequence[Any]:
        outside = dict(zip(self.residuals, residuals, strict=True))
        index, *operands = self.equation.read(outside)
        supply = iter([outside[s] for s in self.own])
        stored = [[next(supply) for _ in slots] for slots in self._stored]

        def pulled(k: int, operands: list[Any], stored: list[Any], errors: list[Any]) -> list[Any]:
            graph = self._graphs[k]
            inside = graph.begin(operands) | dict(zip(self._stored[k], stored[k], strict=True))
            reached = wave(graph.moving, inside, gather(self._roots[k], errors))
            pairs = chosen(zip(graph.inputs, operands, strict=True), self._learns)
            return [reached.get(slot, jnp.zeros_like(operand)) for slot, operand in pairs]

        with self.equation.context():
            pulls = [partial(pulled, k) for k in range(len(self._graphs))]
            return lax.switch(index, pulls, operands, stored, list(errors))


def _residuals_inside(graph: Any) -> tuple[int, ...]:
    """What the pulls of a graph read beside its inputs and constants."""
    known = {*graph.inputs, *graph.program.constants}
    read = dict.fromkeys(s for step in graph.moving for s in step.residuals)
    return tuple(s for s in read if s not in known)


def _empty(kind: Any) -> Any:
    """Zeros of a type; for random keys, a key."""
    if jnp.issubdtype(kind.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0, impl=str(jax.random.key_impl(kind))), kind.shape)
    return jnp.zeros_like(kind)
