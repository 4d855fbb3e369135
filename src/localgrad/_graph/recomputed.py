"""`jax.checkpoint`: vertices whose values are forgotten and computed again for the errors."""

from collections.abc import Callable, Sequence
from typing import Any

from jax import lax

from localgrad._graph.vertex import Container, Part, Values, Wave, chosen, flags, gather
from localgrad._jaxpr import Equation, body_of, recomputation, survives


class Recomputed(Container):
    """The inside of a `jax.checkpoint`, opened.

    The forward pass stores the operands and what the policy keeps. When the errors arrive, the
    inside runs again from those; an optimisation barrier holds the second run back until then.
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
        policy, self._barrier = recomputation(equation.eqn)
        body, is_wanted = builder.body(body_of(equation.eqn)), flags(equation.outputs, wanted)
        self._graph = graph = builder.graph(body, flags(equation.operands, active), is_wanted)
        self._roots = chosen(graph.outputs, is_wanted)
        self._leaves = chosen(graph.inputs, graph.learns)
        kept = [step.equation for step in graph.steps if survives(policy, step.equation.eqn)]
        self._kept = tuple(slot for inner in kept for slot in inner.outputs)
        self.parts = (Part("checkpoint", graph, equation.operands),)
        self.parents = chosen(equation.operands, graph.learns)
        self.own = fresh(len(self._kept))
        self.residuals = (*self.reads, *self.own)

    @staticmethod
    def moved(equation: Equation, active: set[int], builder: Any) -> set[int]:
        """The outputs that can carry errors when the active slots do."""
        body = builder.body(body_of(equation.eqn))
        return set(chosen(equation.outputs, builder.moving(body, flags(equation.operands, active))))

    def forward(self, values: Values) -> None:
        with self.equation.context():
            inside = self._graph.forward(self.equation.read(values))
        made = (inside[slot] for slot in (*self._graph.outputs, *self._kept))
        values.update(zip(self.writes, made, strict=True))

    def pull(self, residuals: Sequence[Any], errors: Sequence[Any], wave: Wave) -> Sequence[Any]:
        if self._barrier:
            residuals, errors = lax.optimization_barrier((list(residuals), list(errors)))
        outside = dict(zip(self.residuals, residuals, strict=True))
        stored = {slot: outside[own] for slot, own in zip(self._kept, self.own, strict=True)}
        inside = self._graph.begin(self.equation.read(outside))
        for step in self._graph.steps:
            step.forward(inside)
            inside.update((s, stored[s]) for s in step.equation.outputs if s in stored)
        reached = wave(self._graph.moving, inside, gather(self._roots, errors))
        return [reached[slot] for slot in self._leaves]
