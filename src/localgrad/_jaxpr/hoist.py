"""What does not change in a loop leaves the loop."""

from collections.abc import Callable
from typing import Any

import jax

from localgrad._jaxpr.again import bind, is_literal, variables
from localgrad._jaxpr.primitives import is_wiring


def hoisted(f: Callable[[Any], Any], state: Any) -> Callable[[Any], Any]:
    """`f`, with everything computed now, once, that does not depend on its argument.

    `f` is traced once, with an argument of the type of `state`. What enlarges a value without
    computing (zeros, a broadcast) is cheaper to repeat than to keep, and stays; what the result
    does not need is dropped.
    """
    closed, shape = jax.make_jaxpr(f, return_shape=True)(state)
    jaxpr = closed.jaxpr
    varies, repeated, before = set(jaxpr.invars), [], []
    for eqn in jaxpr.eqns:
        read = variables(eqn.invars)
        if not varies.isdisjoint(read):
            varies.update(eqn.outvars)
            repeated.append(eqn)
        elif not read or (is_wiring(eqn) and _enlarges(eqn)):
            repeated.append(eqn)
        before.append(eqn)
    repeated = _needed(repeated, jaxpr.outvars)
    inside = {var for eqn in repeated for var in eqn.outvars} | set(jaxpr.invars)
    used = {v for eqn in repeated for v in variables(eqn.invars)} | {*variables(jaxpr.outvars)}
    fixed = used - inside

    def run(eqns: list[Any], values: dict[Any, Any]) -> dict[Any, Any]:
        for eqn in eqns:
            operands = [x.val if is_literal(x) else values[x] for x in eqn.invars]
            values.update(zip(eqn.outvars, bind(eqn, operands), strict=True))
        return values

    constants = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    known = run(_needed(before, fixed), constants)
    known = {var: known[var] for var in fixed}

    def body(state: Any) -> Any:
        inputs = zip(jaxpr.invars, jax.tree.leaves(state), strict=True)
        values = run(repeated, known | dict(inputs))
        outputs = [x.val if is_literal(x) else values[x] for x in jaxpr.outvars]
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return body


def _needed(eqns: list[Any], wanted: Any) -> list[Any]:
    """Those of the equations that compute the variables, in order."""
    wanted, found = {*variables(list(wanted))}, []
    for eqn in reversed(eqns):
        if not wanted.isdisjoint(eqn.outvars):
            wanted.update(variables(eqn.invars))
            found.append(eqn)
    return found[::-1]


def _enlarges(eqn: Any) -> bool:
    outputs, operands = ([v.aval for v in side] for side in (eqn.outvars, eqn.invars))
    return sum(a.size for a in outputs) > sum(a.size for a in operands)
