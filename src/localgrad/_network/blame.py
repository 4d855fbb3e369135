"""Which equation it was that sends no errors back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from localgrad._jaxpr import (
    advice,
    derivative,
    explain,
    is_call,
    is_derived,
    located_at,
    opened,
    programs,
    refers,
)
from localgrad._network.active import Flags, active, entering, flags

IRREVERSIBLE = (TypeError, ValueError, NotImplementedError, jax.errors.UnexpectedTracerError)
"""What JAX raises about an equation without a derivative in reverse."""


@contextmanager
def blaming(jaxpr: Any, leaves: Flags) -> Iterator[None]:
    """Say of what JAX raises here which equation of the user's it is about, and what to do."""
    try:
        yield
    except IRREVERSIBLE as error:
        if any("what to do:" in text for text in (str(error), *getattr(error, "__notes__", ()))):
            raise
        fails = _closes_over if isinstance(error, jax.errors.UnexpectedTracerError) else _fails
        found = next(reached(jaxpr, leaves, fails), None)
        if found:
            eqn, around = found
            met = f"{eqn.primitive} cannot send errors back."
            error.add_note(explain(met, located_at(eqn, around), advice(eqn, error)))
        raise


def reached(
    program: Any,
    inputs: Flags,
    holds: Callable[[Any, Flags, frozenset[Any]], bool],
    call: Any = None,
) -> Iterator[tuple[Any, Any]]:
    """The equations that errors reach and of which something holds.

    Args:
        program: A jaxpr, open or closed.
        inputs: Which of its inputs are leaves.
        holds: What is asked of an equation, of its operands and of all variables: which of them
            carry errors.
        call: The call that the program belongs to.

    Returns:
        Each equation with the call it stands in.
    """
    jaxpr, _ = opened(program)
    moves = active(jaxpr, inputs)
    for eqn in jaxpr.eqns:
        given = flags(eqn.invars, moves)
        if not any(given):
            continue
        around = call or eqn if is_call(eqn) else call
        for body in programs(eqn):
            yield from reached(body, entering(eqn, given), holds, around)
        if not programs(eqn) and holds(eqn, given, moves):
            yield eqn, call


def _closes_over(eqn: Any, given: Flags, moves: frozenset[Any]) -> bool:
    """Whether the equation may have closed over an array of the trace: it has code of its own."""
    return is_derived(eqn)


def _fails(eqn: Any, given: Flags, moves: frozenset[Any]) -> bool:
    """Whether the equation has no derivative in reverse, found by taking it."""
    wanted = [k for k, var in enumerate(eqn.outvars) if var in moves]
    if not wanted or refers(eqn):
        return False

    def pulled(operands: list[Any], errors: list[Any]) -> Any:
        return derivative(eqn, operands, given, wanted)[1](errors)

    try:
        jax.make_jaxpr(pulled)([v.aval for v in eqn.invars], [eqn.outvars[k].aval for k in wanted])
    except IRREVERSIBLE:
        return True
    return False
