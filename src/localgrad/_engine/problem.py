"""What an engine is given: a function of its leaves, and the program that it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from localgrad._jaxpr import (
    contents,
    defined_at,
    explain,
    holds_functions,
    holds_references,
    is_traced,
    known,
    made,
)
from localgrad._network import Network, has_marks, network
from localgrad._network.twins import twinned
from localgrad._network.units import gated


class Traced(NamedTuple):
    """A program and its inputs: constants first, then the leaves, then all others.

    Attributes:
        jaxpr: The program, the same one for all equal traces.
        vertices: What its vertices are, ``"elementary"`` or ``"marked"``.
        before, leaves, rest: The inputs.
        is_eager: Whether all are numbers, and the whole may be compiled at once.
    """

    jaxpr: Any
    vertices: str
    before: list[Any]
    leaves: list[Any]
    rest: list[Any]
    is_eager: bool

    @property
    def network(self) -> Network:
        """The program cut at its vertices."""
        return network(self.jaxpr, self.is_leaf, self.vertices)

    @property
    def is_leaf(self) -> tuple[bool, ...]:
        """Which of the program's inputs are leaves."""
        first, last = len(self.before), len(self.before) + len(self.leaves)
        return tuple(first <= k < last for k in range(len(self.jaxpr.invars)))


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

    def traced(self, units: bool = False, on_events: bool = False) -> Traced:
        """The program from all inputs to the loss and the auxiliary outputs.

        Args:
            on_events: Whether it runs once, as it stands, mutable references included.
            units: Whether the derivatives of activation units can be switched off: by one more
                input, the last, a boolean scalar.
        """

        def flat(*leaves: Any) -> list[Any]:
            loss, aux = self.f(*leaves)
            return [loss, *aux]

        rest = [twin for twin in self.twins if twin is not None]
        n, inputs, closed = len(self.leaves), [*self.leaves], made(flat, self.leaves)
        if not on_events and holds_references(closed):
            closed = made(contents(closed), inputs)
        if units:
            inputs.append(jax.ShapeDtypeStruct((), jnp.bool_))
            closed = made(gated(closed, n), inputs)
        if rest:
            run = twinned(closed, [twin is not None for twin in self.twins])
            # The gate is given last, and comes before the twins in the program.
            inputs = [*inputs[:n], *rest, *inputs[n:]]
            last = n + len(rest)
            closed = made(lambda *x: run(*x[:n], *x[last:], *x[n:last]), inputs)
        jaxpr, before, leaves = known(closed), list(closed.consts), list(self.leaves)
        is_eager = not holds_functions(jaxpr) and not any(map(is_traced, (*before, *leaves, *rest)))
        return Traced(jaxpr, self._chosen(jaxpr), before, leaves, rest, is_eager)

    def _chosen(self, jaxpr: Any) -> str:
        """What the vertices of a program are; checked."""
        there = has_marks(jaxpr)
        if self.vertices == "marked" and not there:
            met = "vertices='marked' met a function without marks."
            do = "name values in it with localgrad.vertex(x, name), or use vertices='elementary'."
            raise ValueError(explain(met, defined_at(self.blame), do))
        return self.vertices or ("marked" if there else "elementary")
