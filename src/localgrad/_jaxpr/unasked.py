"""Whether the derivative of an equation is linear in the errors that it gets."""

from typing import Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn
from jax.extend.core import primitives as p

from localgrad._jaxpr.again import bind, is_literal, variables
from localgrad._jaxpr.primitives import is_inexact


def sends_unasked(eqn: JaxprEqn) -> bool:
    """Whether a `custom_vjp` sends a message that does not depend on any error, and is not zero."""
    if eqn.primitive is not p.custom_vjp_call_p:
        return False
    kinds = [v.aval for v in eqn.invars]
    moving = [k for k, kind in enumerate(kinds) if is_inexact(kind)]
    wanted = [k for k, v in enumerate(eqn.outvars) if is_inexact(v.aval)]

    def messages(operands: list[Any], errors: list[Any]) -> Any:
        def run(*given: Any) -> list[Any]:
            full = dict(enumerate(operands)) | dict(zip(moving, given, strict=True))
            outputs = bind(eqn, list(full.values()))
            return [outputs[k] for k in wanted]

        return jax.vjp(run, *(operands[k] for k in moving))[1](errors)

    closed = jax.make_jaxpr(messages)(kinds, [eqn.outvars[k].aval for k in wanted])
    jaxpr = closed.jaxpr
    reached, known = (
        set(jaxpr.invars[len(kinds) :]),
        dict(zip(jaxpr.constvars, closed.consts, strict=True)),
    )
    for inside in jaxpr.eqns:
        read = variables(inside.invars)
        if not reached.isdisjoint(read):
            reached.update(inside.outvars)
        elif all(v in known for v in read):
            operands = [v.val if is_literal(v) else known[v] for v in inside.invars]
            with jax.ensure_compile_time_eval():
                known.update(zip(inside.outvars, bind(inside, operands), strict=True))

    def is_silent(atom: Any) -> bool:
        value = atom.val if is_literal(atom) else known.get(atom)
        return value is not None and not np.any(np.asarray(value))

    return not all(
        (not is_literal(atom) and atom in reached) or is_silent(atom) for atom in jaxpr.outvars
    )
