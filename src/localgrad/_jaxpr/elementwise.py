"""Whether an equation works on each entry of an array by itself, without a list of primitives."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Literal

from localgrad._jaxpr.primitives import body_of, is_call, is_derived, opened


def is_elementwise(eqn: JaxprEqn, home: Any, moving: Sequence[bool]) -> bool:
    """Whether every entry of the outputs depends on the same entry of the `moving` operands alone.

    The moving operands and the outputs have one shape. It is decided by evaluating the equation
    abstractly with scalars in their places, and in the places of other operands of that shape: a
    function of each entry by itself gives scalars, any other an array or an error. The inside of a
    call is looked at equation by equation. `home` is the jaxpr that the equation stands in.
    """
    shapes = {_shape(var) for var, m in zip(eqn.invars, moving, strict=True) if m}
    if set(map(_shape, eqn.outvars)) != shapes:
        return False
    if is_call(eqn) or is_derived(eqn):
        return _inside_is(opened(body_of(eqn))[0], moving)
    (shape,) = shapes
    given: dict[Any, Any] = {v: v.aval for v in eqn.invars if not isinstance(v, Literal)}
    alone = home.replace(
        constvars=[],
        invars=list(given),
        outvars=list(eqn.outvars),
        eqns=[eqn],
        effects=eqn.effects,
    )
    kinds = [
        jax.ShapeDtypeStruct(() if aval.shape == shape else aval.shape, aval.dtype)
        for aval in given.values()
    ]
    try:
        results = jax.eval_shape(lambda *args: jax.core.eval_jaxpr(alone, (), *args), *kinds)
    except Exception:  # whatever JAX says about operands of a wrong shape
        return False
    return all(result.shape == () for result in results)


def _inside_is(body: Any, moving: Sequence[bool]) -> bool:
    reached = {var for var, m in zip(body.invars, moving, strict=True) if m}
    for eqn in body.eqns:
        inner = [not isinstance(var, Literal) and var in reached for var in eqn.invars]
        if any(inner):
            if not is_elementwise(eqn, body, inner):
                return False
            reached.update(eqn.outvars)
    return True


def _shape(var: Any) -> tuple[int, ...] | None:
    """None for a value without a shape."""
    return getattr(var.aval, "shape", None)
