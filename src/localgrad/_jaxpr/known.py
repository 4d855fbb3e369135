"""Equal programs are one program, so that nothing is compiled twice."""

from functools import lru_cache
from typing import Any

from jax.extend.core import Literal


def known(jaxpr: Any) -> Any:
    """The first program seen that is equal to this one, its constants aside.

    JAX keeps what it compiled by the identity of a program, and every trace of a user's function
    makes a new one. Programs are equal if their equations are, with their types, parameters,
    settings and source lines. Functions among the parameters (callbacks, derivatives) are compared
    as Python compares them.
    """
    try:
        return _first(Program(jaxpr))
    except TypeError:  # a parameter that has no hash
        return jaxpr


@lru_cache(maxsize=512)
def _first(program: "Program") -> Any:
    return program.jaxpr


class Program:
    """A program that is equal to others with the same content."""

    def __init__(self, jaxpr: Any) -> None:
        self.jaxpr = jaxpr
        self._key = _key(jaxpr)
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self._key == other._key


def _key(jaxpr: Any) -> Any:
    number: dict[Any, int] = {}

    def at(atom: Any) -> Any:
        if isinstance(atom, Literal):
            return repr(atom.val), type(atom.val), atom.aval
        return number[atom]

    def new(var: Any) -> Any:
        number[var] = len(number)
        return var.aval

    given = (*map(new, jaxpr.constvars),), (*map(new, jaxpr.invars),)
    equations = tuple(
        (
            eqn.primitive,
            tuple(map(at, eqn.invars)),
            tuple(map(new, eqn.outvars)),
            tuple((name, _param(value)) for name, value in eqn.params.items()),
            eqn.ctx,
            eqn.source_info.traceback,
            str(eqn.source_info.name_stack),
        )
        for eqn in jaxpr.eqns
    )
    return given, equations, tuple(map(at, jaxpr.outvars))


def _param(value: Any) -> Any:
    """A parameter as a thing that can be compared: programs by their content."""
    if hasattr(value, "eqns"):
        inner = getattr(value, "jaxpr", value)
        return _key(inner), tuple(map(id, getattr(value, "consts", ())))
    if isinstance(value, tuple | list):
        return tuple(map(_param, value))
    return value
