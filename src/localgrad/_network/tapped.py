"""A program with a tap at every vertex: the identity forwards, the rule's answer backwards."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax

from localgrad._jaxpr import (
    bind,
    evaluate,
    is_mark,
    is_wiring,
    opened,
    programs,
    with_programs,
)
from localgrad._network.active import Flags, active, entering, flags
from localgrad._network.vertex import Tag

Answer = Callable[[Any], Any]
"""`answer(feedback)`: the error of a vertex, silent so far, once its feedback has arrived."""


def tapped(jaxpr: Any, inputs: Flags, answer: Answer, vertices: str) -> Callable[..., list[Any]]:
    """The program as a function of its inputs, its vertices tapped and its root not.

    What stands inside of calls, loops, branches and checkpoints is tapped in its place: the
    equation stays, with another program inside. All that JAX knows of it stays true.

    Args:
        jaxpr: The program; its first output is the root.
        inputs: Which of its inputs are leaves.
        answer: What a vertex does; it has a hash, for programs are tapped once.
        vertices: ``"elementary"`` or ``"marked"``.
    """
    visit = _visit(jaxpr, inputs, answer, vertices, jaxpr.outvars[0])

    def run(*values: Any) -> list[Any]:
        return evaluate(jaxpr, (), values, visit)

    return run


def has_marks(jaxpr: Any) -> bool:
    """Whether any value in the program is marked."""
    return _has_marks(opened(jaxpr)[0])


@lru_cache(maxsize=4096)
def _has_marks(body: Any) -> bool:
    return any(is_mark(eqn) or any(map(has_marks, programs(eqn))) for eqn in body.eqns)


def _visit(body: Any, inputs: Flags, answer: Answer, vertices: str, root: Any = None) -> Any:
    moves = active(body, inputs)

    def visit(k: int, eqn: Any, operands: Sequence[Any]) -> Sequence[Any]:
        given = flags(eqn.invars, moves)
        if not any(given):
            return bind(eqn, operands)
        if bodies := programs(eqn):
            inside = entering(eqn, given)
            changed = tuple(_tapped(body, inside, answer, vertices) for body in bodies)
            return bind(eqn, operands, **with_programs(eqn, changed))
        outputs = bind(eqn, operands)
        if not is_vertex(eqn, vertices):
            return outputs
        return [
            _tap(answer, value) if var in moves and var is not root else value
            for var, value in zip(eqn.outvars, outputs, strict=True)
        ]

    return visit


def is_vertex(eqn: Any, vertices: str) -> bool:
    """Whether an equation's value is a vertex, and not folded into its consumers."""
    if vertices == "elementary":
        return not is_wiring(eqn)
    return is_mark(eqn) and (vertices == "marked" or isinstance(eqn.params["name"], Tag))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def tap(answer: Answer, value: Any) -> Any:
    """The value; the vertex answers to the error that comes back."""
    return value


tap.defvjp(lambda answer, value: (value, None), lambda answer, _, feedback: (answer(feedback),))
_tap = jax.jit(tap, static_argnums=0, inline=True)


@lru_cache(maxsize=4096)
def _tapped(program: Any, given: Flags, answer: Answer, vertices: str) -> Any:
    """A program of the same inputs and outputs, with taps; the same one if there is no vertex."""
    body, consts = opened(program)
    if (vertices == "marked" and not has_marks(body)) or not any(given):
        return program

    def run(*values: Any) -> list[Any]:
        return evaluate(body, consts, values, _visit(body, given, answer, vertices))

    made = jax.make_jaxpr(run)(*(var.aval for var in body.invars))
    return made if hasattr(program, "jaxpr") else made.jaxpr
