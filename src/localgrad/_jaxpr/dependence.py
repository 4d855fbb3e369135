"""What each result of a program depends on, and what the errors in it were multiplied with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from localgrad._jaxpr.primitives import (
    DERIVED,
    body_of,
    branches,
    is_loop,
    is_mark,
    is_wiring,
    loop_layout,
)
from localgrad._jaxpr.program import Equation, Program, flatten, literal

UNKNOWN = object()
"""Stands for a value that is not known before the program runs."""


class Flow(NamedTuple):
    """What has reached a value.

    Attributes:
        reads: The sources that it depends on, as a set of bits.
        carries: Per error in it the factors that the error met on its way, each as the set of the
            sources of the factor.
        constant: The one number that all entries are, where that is known.
        same: The source that it is, unchanged; None if it was computed.
    """

    reads: int = 0
    carries: Mapping[int, frozenset[int]] = {}
    constant: Any = UNKNOWN
    same: int | None = None

    def joined(self, *others: "Flow") -> "Flow":
        """What has reached any of several values."""
        flows = (self, *others)
        errors = dict.fromkeys(e for flow in flows for e in flow.carries)
        none = frozenset[int]()
        return Flow(
            _union(flow.reads for flow in flows),
            {e: none.union(*(flow.carries.get(e, none) for flow in flows)) for e in errors},
        )

    def times(self, *others: "Flow") -> "Flow":
        """The result of an equation: the errors met what came without an error.

        An equation on the way of an error is linear in it, so its other operands are factors (or
        choose among errors). Where an equation only adds, this errs on the safe side.
        """
        flow = self.joined(*others)
        factors = frozenset(f.reads for f in (self, *others) if f.reads and not f.carries)
        return flow._replace(carries={e: met | factors for e, met in flow.carries.items()})


Meet = Callable[[str, Flow], Flow]
"""`meet(name, flow)`: what goes on from a value that was given a name."""

NOTHING = Flow()


class Dependence:
    """Follows sources and errors through programs, and through the programs inside of them.

    No true dependence is dropped: an output of an equation depends on all its operands, whatever
    their values, a literal zero among them. A result that JAX knows to be zero when it traces (the
    derivative of what does not depend) is no equation and depends on nothing. The inside of a loop,
    a branch and a function with a derivative of its own is followed operand by operand; a choice
    that is made before the program runs is followed on the way chosen. All that is closed
    (solvers, callbacks) connects every operand to every output.
    """

    def __init__(self, meet: Meet) -> None:
        self._meet = meet
        self._programs: dict[Any, Program] = {}

    def run(self, program: Program, inputs: Sequence[Flow]) -> list[Flow]:
        """The flows at the outputs of a program from those at its inputs."""
        at = {slot: Flow(constant=_uniform(x)) for slot, x in program.constants.items()}
        at.update(zip(program.inputs, inputs, strict=True))
        for equation in program.equations:
            operands = [
                at[o] if isinstance(o, int) else Flow(constant=_uniform(literal(o)))
                for o in equation.operands
            ]
            at.update(zip(equation.outputs, self._equation(equation, operands), strict=True))
        return [at[slot] for slot in program.outputs]

    def _equation(self, equation: Equation, operands: list[Flow]) -> list[Flow]:
        eqn = equation.eqn
        if eqn.primitive is lax.convert_element_type_p and _dtypes(eqn)[0] == _dtypes(eqn)[1]:
            return operands  # only the weakness of the type has changed
        if is_mark(eqn):
            return [self._meet(eqn.params["name"], operands[0])]
        if is_loop(eqn):
            return self._loop(equation, operands)
        if is_while(eqn):
            return self._while(equation, operands)
        if eqn.primitive in (p.cond_p, lax.select_n_p):
            return self._choice(equation, operands)
        if eqn.primitive in DERIVED or eqn.primitive is p.remat_p:
            return self._inside(body_of(eqn), operands)
        flow = NOTHING.times(*operands)
        if is_wiring(eqn) and len(operands) == 1 and _keeps_numbers(eqn):
            flow = flow._replace(constant=operands[0].constant)
        return [flow] * len(equation.outputs)

    def _inside(self, jaxpr: Any, operands: Sequence[Flow]) -> list[Flow]:
        if jaxpr not in self._programs:
            self._programs[jaxpr] = flatten(jaxpr)
        return self.run(self._programs[jaxpr], operands)

    def _choice(self, equation: Equation, operands: list[Flow]) -> list[Flow]:
        """A `cond` or a `select_n`: the way chosen if it is known, else any of them."""
        which, *given = operands
        if equation.eqn.primitive is p.cond_p:
            ways = [self._inside(jaxpr, given) for jaxpr in branches(equation.eqn)]
        else:
            ways = [[flow] for flow in given]
        if which.constant is not UNKNOWN:
            return ways[min(max(int(which.constant), 0), len(ways) - 1)]
        return [which.times(first.joined(*rest)) for first, *rest in zip(*ways, strict=True)]

    def _loop(self, equation: Equation, operands: list[Flow]) -> list[Flow]:
        """A `scan`: what a carry has met in any iteration, it may have met in each."""
        layout = loop_layout(equation.eqn)
        (consts, carries, xs), (heads, tails) = layout.inputs, layout.outputs

        def body(carry: list[Flow]) -> list[Flow]:
            given = [*operands[consts], *carry, *operands[xs]]
            return self._inside(body_of(equation.eqn), given)

        carry = _settled(operands[carries], lambda carry: body(carry)[heads])
        return [*carry, *body(carry)[tails]]

    def _while(self, equation: Equation, operands: list[Flow]) -> list[Flow]:
        """A `while`: the carries also depend on what decides how often it runs."""
        params = equation.eqn.params
        first, second = params["cond_nconsts"], params["body_nconsts"]
        tested, given = operands[:first], operands[first : first + second]

        def body(carry: list[Flow]) -> list[Flow]:
            (again,) = self._inside(params["cond_jaxpr"], [*tested, *carry])
            ends = self._inside(params["body_jaxpr"], [*given, *carry])
            return [again.times(end) for end in ends]

        return _settled(operands[first + second :], body)


def is_while(eqn: Any) -> bool:
    """Whether the equation is a `while`."""
    return eqn.primitive is p.while_p


def _settled(carry: list[Flow], body: Callable[[list[Flow]], list[Flow]]) -> list[Flow]:
    """The flows of carries that another iteration would not change."""
    while True:
        # A carry that starts as a known constant may end as any.
        grown = [now.joined(end) for now, end in zip(carry, body(carry), strict=True)]
        if grown == carry:
            return carry
        carry = grown


def _uniform(value: Any) -> Any:
    """The number that an array consists of, where that decides a choice: flags and integers."""
    dtype = getattr(value, "dtype", None)
    is_known = not isinstance(value, jax.core.Tracer) and dtype in (np.bool_, np.int32)
    if not is_known or not np.size(value):
        return UNKNOWN
    first, *_ = found = np.ravel(np.asarray(value))
    return first if (found == first).all() else UNKNOWN


def _keeps_numbers(eqn: Any) -> bool:
    """Whether its one operand is of the dtype of the result, or a flag."""
    before, after = _dtypes(eqn)
    return before in (after, np.bool_)


def _dtypes(eqn: Any) -> tuple[Any, Any]:
    """Of its first operand and its first result."""
    return eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype


def _union(sets: Iterable[int]) -> int:
    total = 0
    for bits in sets:
        total |= bits
    return total
