"""`jax.checkpoint`: vertices whose values are forgotten and computed again for the errors."""

from collections.abc import Callable, Sequence
from typing import Any

from jax import lax

from localgrad._graph.vertex import Step, Values, Wave, flags, gather, paired
from localgrad._jaxpr import Equation, body_of, recomputation, survives


class Recomputed(Step):
    """The inside of a `jax.checkpoint`, opened.

    The forward pass stores the operands and what the policy keeps. When the errors arrive, the
    inside runs again from those; an optimisation barrier holds the second run back until then.
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
        policy, self._barrier = recomputation(equation.eqn)
        self._pulls = builder.pulls
        self.graph = graph = builder.graph(
            builder.body(body_of(equation.eqn)),
            flags(equation.operands, active),
            flags(equation.outputs, wanted),
        )
        self._kept = tuple(
            slot
            for step in graph.steps
            if survives(policy, step.equation.eqn)
            for slot in step.equation.outputs
        )
        self._learning, self.parents = paired(graph.inputs, equation.operands, graph.learns)
        self._roots, self.wanted = paired(
            graph.outputs, equation.outputs, flags(equation.outputs, wanted)
        )
        self.own = fresh(len(self._kept))
        self.residuals = (*self.reads, *self.own)

    @staticmethod
    def moved(equation: Equation, active: set[int], builder: Any) -> set[int]:
        """The outputs that can carry errors when the active slots do."""
        body = builder.body(body_of(equation.eqn))
        moving = builder.moving(body, flags(equation.operands, active))
        return {o for o, m in zip(equation.outputs, moving, strict=True) if m}

    def forward(self, values: Values) -> None:
        with self.equation.context():
            inside = self.graph.forward(self.equation.read(values))
        values.update(
            zip(self.equation.outputs, (inside[o] for o in self.graph.outputs), strict=True)
        )
        values.update(zip(self.own, (inside[s] for s in self._kept), strict=True))

    def pull(self, residuals: Sequence[Any], errors: Sequence[Any], wave: Wave) -> Sequence[Any]:
        if self._barrier:
            residuals, errors = lax.optimization_barrier((list(residuals), list(errors)))
        operands = dict(zip(self.reads, residuals, strict=False))
        stored = dict(zip(self._kept, residuals[len(self.reads) :], strict=True))
        graph = self.graph
        inside = graph.program.constants | dict(
            zip(graph.inputs, self.equation.read(operands), strict=True)
        )
        for step in graph.steps:
            step.forward(inside)
            inside.update((s, stored[s]) for s in step.equation.outputs if s in stored)
        reached = wave(graph.moving, inside, gather(self._roots, errors))
        return [reached[slot] for slot in self._learning]
