"""Equal programs are one program, so that nothing is compiled twice."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Literal
from jax.extend.core.primitives import device_put_p

from localgrad._jaxpr.errors import untraceable
from localgrad._jaxpr.primitives import is_call


def made(f: Callable[..., Any], args: Sequence[Any]) -> Any:
    """The program of `f(*args)`, as JAX traces it."""
    try:
        return jax.make_jaxpr(f)(*args)
    except Exception as error:
        raise untraceable(error) from error.__cause__


def known(closed: Any) -> Any:
    """The first program seen that is equal to this one, its constants among its inputs.

    JAX keeps what it compiled by the identity of a program, and every trace of a user's function
    makes a new one. Programs are equal if their equations are, with their types, parameters,
    settings and source lines. Functions among the parameters (callbacks, derivatives) are compared
    as Python compares them.
    """
    jaxpr = closed.jaxpr
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    names = ("",) * len(jaxpr.constvars) + tuple(jaxpr.debug_info.arg_names or ())
    info = jaxpr.debug_info._replace(arg_names=names)
    jaxpr = jaxpr.replace(constvars=[], invars=inputs, debug_info=info)
    try:
        return _first(Program(jaxpr))
    except TypeError:  # a parameter that has no hash
        return jaxpr


@lru_cache(maxsize=512)
def _first(program: "Program") -> Any:
    return program.jaxpr


def is_traced(value: Any) -> bool:
    """Whether a value has no numbers yet."""
    return isinstance(value, jax.core.Tracer)


@lru_cache(maxsize=4096)
def holds_functions(jaxpr: Any) -> bool:
    """Whether functions of Python, or a choice of devices, stand among the parameters.

    Such a program is another one at every trace, or has to run where its arrays are. The inside of
    a call is not looked at: JAX has traced it once, and keeps it.
    """
    return any(eqn.primitive is device_put_p or not _is_data(eqn) for eqn in jaxpr.eqns)


def _is_data(eqn: JaxprEqn) -> bool:
    if is_call(eqn):
        return True
    leaves = jax.tree.leaves(dict(eqn.params), is_leaf=lambda x: hasattr(x, "eqns"))
    programs = [getattr(x, "jaxpr", x) for x in leaves if hasattr(x, "eqns")]
    return not any(map(holds_functions, programs)) and not any(map(_is_code, leaves))


def _is_code(value: Any) -> bool:
    """Whether a parameter is a function; programs are none, and meshes only look like one."""
    return callable(value) and not isinstance(value, jax.sharding.Mesh)


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
