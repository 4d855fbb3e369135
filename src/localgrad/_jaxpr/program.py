"""A jaxpr as a flat list of equations over numbered slots, with every call opened."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn, Literal
from jax.extend.source_info_util import current_name_stack, user_context

from localgrad._jaxpr.errors import untraceable
from localgrad._jaxpr.primitives import body_of, is_call, opened
from localgrad._jaxpr.source import is_of_library


@dataclass(frozen=True, slots=True, eq=False)
class Equation:
    """One equation of a flat program.

    `operands` are slots or literals, in the equation's order, `slots` the distinct slots among
    them; `outputs` are slots. `home` is the jaxpr it stands in. `site` is the equation to show to
    the user: itself, or the call of a library function around it.
    """

    eqn: JaxprEqn
    operands: tuple[int | Literal, ...]
    slots: tuple[int, ...]
    outputs: tuple[int, ...]
    home: Any
    site: JaxprEqn

    def read(self, values: dict[int, Any]) -> list[Any]:
        """The operands' values, literals included."""
        return [values[o] if isinstance(o, int) else literal(o) for o in self.operands]

    def context(self) -> Any:
        """What runs inside carries this equation's source line and scopes."""
        info = self.site.source_info
        return user_context(info.traceback, name_stack=current_name_stack() + info.name_stack)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Equations in order; `avals[slot]` is the type of a slot's value."""

    equations: tuple[Equation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: dict[int, Any]
    avals: tuple[Any, ...]


def trace(f: Callable[..., Any], args: Sequence[Any], keep_calls: bool = False) -> Program:
    """The flat program of `f(*args)`: arrays (or their types) in, a list of arrays out."""
    return flatten(made(f, args), keep_calls)


def made(f: Callable[..., Any], args: Sequence[Any]) -> Any:
    """The program of `f(*args)` as JAX traces it."""
    try:
        return jax.make_jaxpr(f)(*args)
    except Exception as error:
        raise untraceable(error) from error.__cause__


def literal(atom: Literal) -> Any:
    """A literal's value as an array of its dtype."""
    aval: Any = atom.aval
    return np.asarray(atom.val, aval.dtype)


def flatten(jaxpr: Any, keep_calls: bool = False) -> Program:
    """Open every call of a jaxpr, once, unless calls are kept, and number its values."""
    avals: list[Any] = []
    constants: dict[int, Any] = {}
    equations: list[Equation] = []

    def slot(aval: Any) -> int:
        avals.append(aval)
        return len(avals) - 1

    def constant(aval: Any, value: Any) -> int:
        constants[new := slot(aval)] = value
        return new

    def walk(
        jaxpr: Any, consts: Sequence[Any], operands: Sequence[Any], site: JaxprEqn | None
    ) -> list[Any]:
        bound = dict(zip(jaxpr.invars, operands, strict=True))
        for var, value in zip(jaxpr.constvars, consts, strict=True):
            bound[var] = constant(var.aval, value)

        def read(atom: Any) -> Any:
            return atom if isinstance(atom, Literal) else bound[atom]

        for eqn in jaxpr.eqns:
            inputs = tuple(map(read, eqn.invars))
            if is_call(eqn) and not keep_calls:
                body, body_consts = opened(body_of(eqn))
                blamed = site or (eqn if is_of_library(body) else None)
                outputs = walk(body, body_consts, inputs, blamed)
            else:
                outputs = [slot(var.aval) for var in eqn.outvars]
                slots = tuple(dict.fromkeys(o for o in inputs if isinstance(o, int)))
                equations.append(Equation(eqn, inputs, slots, tuple(outputs), jaxpr, site or eqn))
            bound.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    body, consts = opened(jaxpr)
    inputs = tuple(slot(var.aval) for var in body.invars)
    outputs = tuple(
        constant(atom.aval, literal(atom)) if isinstance(atom, Literal) else atom
        for atom in walk(body, consts, inputs, None)
    )
    return Program(tuple(equations), inputs, outputs, constants, tuple(avals))
