"""A program of JAX, run again equation by equation: the one interpreter of the library."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Literal
from jax.extend.core.primitives import device_put_p
from jax.extend.source_info_util import current_name_stack, user_context

Visit = Callable[[int, JaxprEqn, list[Any]], Sequence[Any]]
"""`visit(k, eqn, operands)`: the outputs of the k-th equation, from the values of its operands."""


def evaluate(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any], visit: Visit) -> list[Any]:
    """The outputs of a program, where `visit` says what each equation gives."""
    values = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for k, eqn in enumerate(jaxpr.eqns):
        outputs = visit(k, eqn, [read(atom) for atom in eqn.invars])
        values.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def bind(eqn: JaxprEqn, operands: Sequence[Any], **changed: Any) -> Sequence[Any]:
    """What an equation gives for these operands, with its source line, scopes and settings.

    Args:
        eqn: The equation.
        operands: A value for each of its operands.
        changed: Parameters of the equation in whose place others stand.
    """
    if eqn.primitive is device_put_p and not changed:
        # JAX looks up from where each array is taken, for its error has to go back there.
        return jax.device_put(list(operands), list(eqn.params["devices"]))
    with standing(eqn):
        got = eqn.primitive.get_bind_params({**eqn.params, **changed})
        *functions, params = got if isinstance(got, tuple) else (got,)  # a pair until JAX 0.9
        outputs = eqn.primitive.bind(*sum(functions, []), *operands, **params)
    return list(outputs) if eqn.primitive.multiple_results else [outputs]


def derivative(
    eqn: JaxprEqn, operands: Sequence[Any], given: Sequence[bool], wanted: Sequence[int]
) -> tuple[list[Any], Any]:
    """The outputs of an equation that are wanted, and their pull to the operands that are given.

    Args:
        eqn: The equation.
        operands: A value for each of its operands.
        given: Which of them carry errors.
        wanted: The positions of the outputs that do.
    """

    def run(*moving: Any) -> list[Any]:
        supply = iter(moving)
        full = [next(supply) if g else x for g, x in zip(given, operands, strict=True)]
        outputs = bind(eqn, full)
        return [outputs[k] for k in wanted]

    return jax.vjp(run, *(x for g, x in zip(given, operands, strict=True) if g))


class standing:  # noqa: N801 (a context manager)
    """What runs inside stands where the equation stands."""

    def __init__(self, eqn: JaxprEqn) -> None:
        info = eqn.source_info
        names = current_name_stack() + info.name_stack
        self._contexts = user_context(info.traceback, name_stack=names), eqn.ctx.manager

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *raised: Any) -> None:
        for context in reversed(self._contexts):
            context.__exit__(*raised)


def is_literal(atom: Any) -> bool:
    """Whether an operand is a number in the program, and no variable."""
    return isinstance(atom, Literal)


def variables(atoms: Sequence[Any]) -> list[Any]:
    """Those that are no literals."""
    return [atom for atom in atoms if not is_literal(atom)]


def replayed(jaxpr: Any, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of a program without constants, as JAX itself runs it."""
    return jax.core.eval_jaxpr(jaxpr, (), *inputs)
