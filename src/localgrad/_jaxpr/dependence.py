"""What each result of a program depends on, and what the errors in it were multiplied with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from localgrad._jaxpr.again import evaluate
from localgrad._jaxpr.known import is_traced
from localgrad._jaxpr.primitives import (
    body_of,
    branches,
    is_call,
    is_derived,
    is_loop,
    is_reference,
    is_while,
    is_wiring,
    loop_layout,
    opened,
)

UNKNOWN = object()
"""Stands for a value that is not known before the program runs."""

Sources = frozenset[Any]


@dataclass(frozen=True)
class Flow:
    """What has reached a value.

    Attributes:
        reads: The sources that it depends on.
        carries: Per error in it the factors that the error met on its way, each as the sources of
            the factor.
        constant: The one number that all entries are, where that is known.
    """

    reads: Sources = frozenset()
    carries: Mapping[str, frozenset[Sources]] = field(default_factory=dict)
    constant: Any = UNKNOWN

    def joined(self, *others: "Flow") -> "Flow":
        """What has reached any of several values."""
        flows, carries = (self, *others), dict[str, frozenset[Sources]]()
        for flow in flows:
            carries |= {e: met | carries.get(e, frozenset()) for e, met in flow.carries.items()}
        return Flow(self.reads.union(*(flow.reads for flow in others)), carries)

    def times(self, *others: "Flow") -> "Flow":
        """The result of an equation: the errors met what came without an error.

        An equation on the way of an error is linear in it, so its other operands are factors (or
        choose among errors). Where an equation only adds, this errs on the safe side.
        """
        flow = self.joined(*others)
        factors = frozenset(f.reads for f in (self, *others) if f.reads and not f.carries)
        return replace(flow, carries={e: met | factors for e, met in flow.carries.items()})


NOTHING = Flow()
ZERO = object()
SILENT = Flow(constant=ZERO)
"""What reaches a value that is zero for ever, and no equation for whoever is multiplied with it."""


def dependence(f: Callable[..., Any], args: Any, sources: Any) -> Any:
    """What reaches each array that a function returns.

    No true dependence is dropped: an output of an equation depends on all its operands, whatever
    their values, a literal zero among them. A result that JAX knows to be zero when it traces (the
    derivative of what does not depend) is no equation and depends on nothing. The inside of a loop,
    a branch and a function with a derivative of its own is followed operand by operand; a choice
    that is made before the program runs is followed on the way chosen. All that is closed
    (solvers, callbacks) connects every operand to every output. What is written into a mutable
    reference is not followed.

    Args:
        f: A function of pytrees of arrays.
        args: Its arguments, arrays or their types.
        sources: The same pytrees with a `Flow` for each array.

    Returns:
        The pytree that `f` returns, with a `Flow` for each array: the very one that came in where
        an argument is returned as it is.
    """
    closed, results = jax.make_jaxpr(f, return_shape=True)(*args)
    flows = _run(closed, jax.tree.leaves(sources))
    return jax.tree.unflatten(jax.tree.structure(results), flows)


def _run(program: Any, inputs: Sequence[Flow]) -> list[Flow]:
    """The flows at the outputs of a program from those at its inputs."""
    jaxpr, consts = opened(program)
    return list(map(_flow, evaluate(jaxpr, consts, inputs, _visit)))


def _visit(_: int, eqn: Any, operands: list[Any]) -> list[Flow]:
    flows = list(map(_flow, operands))
    if is_loop(eqn):
        return _loop(eqn, flows)
    if is_while(eqn):
        return _while(eqn, flows)
    if eqn.primitive in (p.cond_p, lax.select_n_p):
        return _choice(eqn, flows)
    if is_call(eqn) or is_derived(eqn) or eqn.primitive is p.remat_p:
        return _run(body_of(eqn), flows)
    if eqn.primitive is lax.mul_p and any(flow.constant is ZERO for flow in flows):
        return [SILENT]
    flow = NOTHING.times(*flows)
    if is_wiring(eqn) and len(flows) == 1:
        before, after = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
        if eqn.primitive is lax.convert_element_type_p and before == after:
            return flows  # only the weakness of the type has changed
        if before in (after, np.bool_):
            flow = replace(flow, constant=flows[0].constant)
    return [flow] * len(eqn.outvars)


def _flow(value: Any) -> Flow:
    """What has reached a value: nothing, if it stands in the program."""
    return value if isinstance(value, Flow) else Flow(constant=_uniform(value))


def _uniform(value: Any) -> Any:
    """The number that an array consists of: of flags and integers, which decide choices, or one."""
    dtype = getattr(value, "dtype", np.dtype(type(value)))
    is_number = isinstance(dtype, np.dtype) and not is_reference(jax.typeof(value))
    if not is_number or is_traced(value) or not np.size(value):
        return UNKNOWN
    if np.size(value) > 1 and dtype not in (np.bool_, np.int32):
        return UNKNOWN
    first, *_ = found = np.ravel(np.asarray(value))
    return first if (found == first).all() else UNKNOWN


def _choice(eqn: Any, flows: list[Flow]) -> list[Flow]:
    """A `cond` or a `select_n`: the way chosen if it is known, else any of them."""
    which, *given = flows
    is_select = eqn.primitive is lax.select_n_p
    ways = [[g] for g in given] if is_select else [_run(b, given) for b in branches(eqn)]
    if which.constant is not UNKNOWN:
        return ways[min(max(int(which.constant), 0), len(ways) - 1)]
    return [which.times(first.joined(*rest)) for first, *rest in zip(*ways, strict=True)]


def _loop(eqn: Any, flows: list[Flow]) -> list[Flow]:
    """A `scan`: what a carry has met in any iteration, it may have met in each."""
    layout = loop_layout(eqn)
    (consts, carries, xs), (heads, tails) = layout.inputs, layout.outputs

    def body(carry: list[Flow]) -> list[Flow]:
        return _run(body_of(eqn), [*flows[consts], *carry, *flows[xs]])

    carry = _settled(flows[carries], lambda carry: body(carry)[heads])
    return [*carry, *body(carry)[tails]]


def _while(eqn: Any, flows: list[Flow]) -> list[Flow]:
    """A `while`: the carries also depend on what decides how often it runs."""
    first, second = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    tested, given = flows[:first], flows[first : first + second]

    def body(carry: list[Flow]) -> list[Flow]:
        (again,) = _run(eqn.params["cond_jaxpr"], [*tested, *carry])
        return [again.times(end) for end in _run(eqn.params["body_jaxpr"], [*given, *carry])]

    return _settled(flows[first + second :], body)


def _settled(carry: list[Flow], body: Callable[[list[Flow]], list[Flow]]) -> list[Flow]:
    """The flows of carries that another iteration would not change."""
    while True:
        # A carry that starts as a known constant may end as any.
        grown = [now.joined(end) for now, end in zip(carry, body(carry), strict=True)]
        if grown == carry:
            return carry
        carry = grown
