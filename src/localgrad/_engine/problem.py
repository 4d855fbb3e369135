"""What an engine is given, and what it returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from localgrad._graph import Builder, Graph, rooted
from localgrad._graph.rewritten import rewritten
from localgrad._jaxpr import Program, defined_at, explain, known, made, trace
from localgrad._network import has_marks


class Derivative(NamedTuple):
    """The value of the loss, the auxiliary outputs, and one gradient per leaf."""

    value: Any
    aux: list[Any]
    gradients: list[Any]


@dataclass(frozen=True)
class Problem:
    """A flat function `f(*leaves) -> (loss, aux)`: leaves and aux are arrays, the loss a scalar.

    `blame` is the user's own function, for messages; `vertices` what to make a vertex of. `twins`
    holds for each leaf its feedback weight, or None; empty if no leaf has one.
    """

    f: Callable[..., tuple[Any, list[Any]]]
    leaves: Sequence[Any]
    blame: Callable[..., Any]
    vertices: str | None
    twins: Sequence[Any | None] = ()

    @property
    def inputs(self) -> list[Any]:
        """What the program is run on: the leaves, then the twins that there are."""
        return [*self.leaves, *(twin for twin in self.twins if twin is not None)]

    def traced(self) -> tuple[Any, list[Any]]:
        """The function from all inputs to the loss and the auxiliary outputs, as a program of JAX.

        Returns:
            The program, one for all equal traces, and its constants.
        """
        def flat(*leaves: Any) -> list[Any]:
            return _flat(self.f(*leaves))

        if any(twin is not None for twin in self.twins):
            twins = [twin is not None for twin in self.twins]
            program = trace(flat, self.leaves)
            closed = made(rewritten(program, twins=twins), self.inputs)
        else:
            closed = made(flat, self.leaves)
        return known(closed.jaxpr), closed.consts

    def chosen(self, jaxpr: Any) -> str:
        """What the vertices of the program are, ``"marked"`` or ``"elementary"``; checked."""
        there = has_marks(jaxpr)
        if self.vertices == "marked" and not there:
            met = "vertices='marked' met a function without marks."
            do = "name values in it with localgrad.vertex(x, name), or use vertices='elementary'."
            raise ValueError(explain(met, defined_at(self.blame), do))
        return self.vertices or ("marked" if there else "elementary")

    def program(self, **rewriting: bool) -> Program:
        """The program from the inputs to the loss and the auxiliary outputs.

        Args:
            rewriting: `units`, `opened`, `unrolled`, see `rewritten`. With `units` the program has
                one more input, the last: the gate.
        """
        units = rewriting.get("units", False)
        program = trace(lambda *leaves: _flat(self.f(*leaves)), self.leaves, keep_calls=units)
        twins = [twin is not None for twin in self.twins]
        if not any((*twins, *rewriting.values())):
            return program
        gate = [jax.ShapeDtypeStruct((), jnp.bool_)] * units
        return trace(rewritten(program, twins=twins, **rewriting), [*self.inputs, *gate])

    def graph(self, **rewriting: bool) -> Graph:
        """The graph from the leaves to the loss; the auxiliary outputs are computed beside it.

        Args:
            rewriting: As for `program`.
        """
        program = rooted(self.program(**rewriting))
        builder = Builder(program, self.vertices)
        if self.vertices == "marked" and not builder.is_marked:
            met = "vertices='marked' met a function without marks."
            do = "name values in it with localgrad.vertex(x, name), or use vertices='elementary'."
            raise ValueError(explain(met, defined_at(self.blame), do))
        is_loss = (True, *(False for _ in program.outputs[1:]))
        is_leaf = [k < len(self.leaves) for k, _ in enumerate(program.inputs)]
        return builder.graph(program, is_leaf, is_loss)


class Engine(Protocol):
    """Drives a rule over a problem."""

    def __call__(self, rule: Any, problem: Problem) -> Derivative:
        """The loss and its gradients by the rule."""
        ...


def _flat(outcome: tuple[Any, list[Any]]) -> list[Any]:
    loss, aux = outcome
    return [loss, *aux]
