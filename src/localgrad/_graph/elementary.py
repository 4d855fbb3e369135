"""A vertex of one equation, or a piece of wiring: its pull is the equation's own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from localgrad._graph.vertex import Single, Values, Wave, flags
from localgrad._jaxpr import Equation, Pulls, advice, explain, located_at

IRREVERSIBLE = (TypeError, ValueError, NotImplementedError, jax.errors.UnexpectedTracerError)
"""What JAX raises about an equation without a derivative in reverse."""


def can_move(equation: Equation) -> bool:
    """Whether an output is of a dtype that has a derivative."""
    return any(_is_inexact(var.aval) for var in equation.eqn.outvars)


def moved(equation: Equation, active: set[int], pulls: Pulls) -> set[int]:
    """The outputs that can carry errors when the active slots do.

    An equation that cannot be differentiated counts as if it could: it is an error only if an
    error has to pass it.
    """
    inexact = tuple(_is_inexact(var.aval) for var in equation.eqn.outvars)
    try:
        pull = pulls.of(equation, flags(equation.slots, active), inexact)
    except Exception:
        reached = frozenset(range(sum(inexact)))
    else:
        reached = frozenset().union(*pull.depends)
    carriers = [o for o, i in zip(equation.outputs, inexact, strict=True) if i]
    return {carriers[k] for k in reached}


class Elementary(Single):
    """One equation, with the errors of its wanted outputs pulled by its own `jax.vjp`."""

    def __init__(
        self,
        equation: Equation,
        active: set[int],
        wanted: set[int],
        pulls: Pulls,
        fresh: Callable[[int], tuple[int, ...]],
        is_vertex: bool,
        is_root: bool,
    ) -> None:
        super().__init__(equation, pulls, is_vertex, is_root)
        with _blaming(equation):
            self._pull = pull = pulls.of(
                equation, flags(equation.slots, active), flags(equation.outputs, wanted)
            )
        self._reached = [k for k, on in enumerate(pull.depends) if on]
        moving = [s for s in equation.slots if s in active]
        self.parents = tuple(moving[k] for k in self._reached)
        self.wanted = tuple(o for o in equation.outputs if o in wanted)
        self.own = fresh(pull.own)
        place = {"operand": equation.slots, "output": equation.outputs, "own": self.own}
        self.residuals = tuple(place[source.kind][source.place] for source in pull.residuals)

    def forward(self, values: Values) -> None:
        with self.equation.context(), _blaming(self.equation):
            outputs, own = self._pull.forward([values[s] for s in self.reads])
        values.update(zip(self.writes, (*outputs, *own), strict=True))

    def pull(self, residuals: Sequence[Any], errors: Sequence[Any], wave: Wave) -> Sequence[Any]:
        with self.equation.context(), _blaming(self.equation):
            messages = self._pull.pull(residuals, errors)
        return [messages[k] for k in self._reached]


@contextmanager
def _blaming(equation: Equation) -> Iterator[None]:
    """Say of what JAX raises here which equation of the user's it is about, and what to do."""
    try:
        yield
    except IRREVERSIBLE as error:
        met = f"{equation.eqn.primitive} cannot send errors back: {error}"
        text = explain(met, located_at(equation.site), advice(equation.eqn, error))
        raise type(error)(text) from error


def _is_inexact(aval: Any) -> bool:
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
