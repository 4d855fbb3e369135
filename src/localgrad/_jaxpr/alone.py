"""One equation by itself: a function of its distinct operands, and what its messages read."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Literal

from localgrad._jaxpr.again import bind, derivative, is_literal, variables
from localgrad._jaxpr.dependence import NOTHING, Flow, dependence
from localgrad._jaxpr.primitives import body_of, is_call, is_derived, is_inexact, opened

Flags = tuple[bool, ...]


class Alone:
    """An equation as a function of its distinct operands, the variables among them.

    Two are equal if they compute the same function of the same types. A literal counts by how it is
    written: 0.0 and -0.0 differ. Parameters that have no hash are never shared.

    Attributes:
        eqn: The equation.
        slots: The variables that it reads, each once.
    """

    def __init__(self, eqn: JaxprEqn) -> None:
        self.eqn = eqn
        self.slots = tuple(dict.fromkeys(variables(eqn.invars)))
        pattern = (self.slots.index(a) if a in self.slots else repr(a) for a in eqn.invars)
        types = (var.aval for var in (*self.slots, *eqn.invars, *eqn.outvars))
        self._key: Any = eqn.primitive, *pattern, *types, *eqn.params.items(), eqn.ctx
        try:
            self._hash = hash(self._key)
        except TypeError:
            self._key = self._hash = id(eqn)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alone) and self._key == other._key

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        """The outputs, from a value for each slot."""
        return list(bind(self.eqn, self._operands(dict(zip(self.slots, values, strict=True)))))

    def given(self, operands: Sequence[Any]) -> list[Any]:
        """What is given for each slot, of what is given for each operand."""
        pairs = zip(self.eqn.invars, operands, strict=True)
        of = {atom: operand for atom, operand in pairs if not is_literal(atom)}
        return [of[slot] for slot in self.slots]

    def reads(self, moving: Flags) -> dict[int, frozenset[int]] | None:
        """For each slot that moves, the slots whose values the message to it depends on.

        None where nothing can be sent: an error that has to pass there says so itself.
        """
        return _reads(self, moving)

    def is_elementwise(self, moving: Flags) -> bool:
        """Whether every entry of the outputs depends on the same entry of what moves alone.

        What moves and the outputs have one shape. It is decided by evaluating the equation
        abstractly with scalars in their places, and in the places of other operands of that shape:
        a function of each entry by itself gives scalars, any other an array or an error. The inside
        of a call is looked at equation by equation.
        """
        return _is_elementwise(self, moving)

    def _operands(self, of: dict[Any, Any]) -> list[Any]:
        return [a.val if isinstance(a, Literal) else of[a] for a in self.eqn.invars]


@lru_cache(maxsize=4096)
def _is_elementwise(alone: Alone, moving: Flags) -> bool:
    eqn = alone.eqn
    shapes = {_shape(v) for v, m in zip(alone.slots, moving, strict=True) if m}
    if set(map(_shape, eqn.outvars)) != shapes:
        return False
    if is_call(eqn) or is_derived(eqn):
        chosen = {v for v, m in zip(alone.slots, moving, strict=True) if m}
        flags = [not is_literal(v) and v in chosen for v in eqn.invars]
        return is_elementwise(opened(body_of(eqn))[0], flags)
    (shape,) = shapes
    kinds = [
        jax.ShapeDtypeStruct(() if v.aval.shape == shape else v.aval.shape, v.aval.dtype)
        for v in alone.slots
    ]
    try:
        results = jax.eval_shape(lambda *values: alone(values), *kinds)
    except Exception:  # whatever JAX says about operands of a wrong shape
        return False
    return all(result.shape == () for result in results)


def is_elementwise(body: Any, moving: Sequence[bool]) -> bool:
    """Whether all equations of a program that what moves has reached work on each entry alone."""
    reached = {var for var, m in zip(body.invars, moving, strict=True) if m}
    for alone in map(Alone, body.eqns):
        flags = tuple(slot in reached for slot in alone.slots)
        if any(flags):
            if not alone.is_elementwise(flags):
                return False
            reached.update(alone.eqn.outvars)
    return True


@lru_cache(maxsize=4096)
def _reads(alone: Alone, moving: Flags) -> dict[int, frozenset[int]] | None:
    eqn = alone.eqn
    wanted = [k for k, var in enumerate(eqn.outvars) if is_inexact(var.aval)]
    chosen = {v: k for k, (v, m) in enumerate(zip(alone.slots, moving, strict=True)) if m}
    given = [not is_literal(v) and v in chosen for v in eqn.invars]

    def messages(values: list[Any], errors: list[Any]) -> list[Any]:
        operands = alone._operands(dict(zip(alone.slots, values, strict=True)))
        _, pull = derivative(eqn, operands, given, wanted)
        return list(pull(errors))

    kinds = [v.aval for v in alone.slots], [eqn.outvars[k].aval for k in wanted]
    sources = [Flow(frozenset([k])) for k, _ in enumerate(alone.slots)], [NOTHING] * len(wanted)
    try:
        flows = dependence(messages, kinds, sources)
    except Exception:  # JAX has many classes for what it cannot differentiate
        return None
    read: dict[int, frozenset[int]] = dict.fromkeys(chosen.values(), frozenset())
    of = (chosen[v] for v, g in zip(eqn.invars, given, strict=True) if g)
    for k, flow in zip(of, flows, strict=True):
        read[k] |= flow.reads
    return read


def _shape(var: Any) -> tuple[int, ...] | None:
    """None for a value without a shape."""
    return getattr(var.aval, "shape", None)
