"""What an engine is given, and what it returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from localgrad._graph import Builder, Graph
from localgrad._jaxpr import defined_at, explain, trace


class Derivative(NamedTuple):
    """The value of the loss, the auxiliary outputs, and one gradient per leaf."""

    value: Any
    aux: list[Any]
    gradients: list[Any]


@dataclass(frozen=True)
class Problem:
    """A flat function `f(*leaves) -> (loss, aux)`: leaves and aux are arrays, the loss a scalar.

    `blame` is the user's own function, for messages; `vertices` what to make a vertex of.
    """

    f: Callable[..., tuple[Any, list[Any]]]
    leaves: Sequence[Any]
    blame: Callable[..., Any]
    vertices: str | None

    def graph(self) -> Graph:
        """The graph from the leaves to the loss; the auxiliary outputs are computed beside it."""
        program = trace(lambda *leaves: _flat(self.f(*leaves)), self.leaves)
        builder = Builder(program, self.vertices)
        if self.vertices == "marked" and not builder.is_marked:
            met = "vertices='marked' met a function without marks."
            do = "name values in it with localgrad.vertex(x, name), or use vertices='elementary'."
            raise ValueError(explain(met, defined_at(self.blame), do))
        is_loss = (True, *(False for _ in program.outputs[1:]))
        return builder.graph(program, (True,) * len(self.leaves), is_loss)


class Engine(Protocol):
    """Drives a rule over a problem."""

    def __call__(self, rule: Any, problem: Problem) -> Derivative:
        """The loss and its gradients by the rule."""
        ...


def _flat(outcome: tuple[Any, list[Any]]) -> list[Any]:
    loss, aux = outcome
    return [loss, *aux]
