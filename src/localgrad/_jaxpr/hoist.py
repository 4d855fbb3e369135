"""What does not change in a loop leaves the loop."""

from collections.abc import Callable, Iterable
from typing import Any

import jax

from localgrad._jaxpr.primitives import is_wiring
from localgrad._jaxpr.program import Equation, flatten
from localgrad._jaxpr.pull import Pulls


def hoisted(f: Callable[[Any], Any], state: Any) -> Callable[[Any], Any]:
    """`f`, with everything computed now, once, that does not depend on its argument.

    `f` is traced once, with an argument of the type of `state`. What enlarges a value without
    computing (zeros, a broadcast) is cheaper to repeat than to keep, and stays; what the result
    does not need is dropped.
    """
    closed, shape = jax.make_jaxpr(f, return_shape=True)(state)
    program, pulls = flatten(closed), Pulls()
    varies = set(program.inputs)
    repeated = []
    for equation in program.equations:
        if not varies.isdisjoint(equation.slots):
            varies.update(equation.outputs)
            repeated.append(equation)
        elif not equation.slots or (is_wiring(equation.eqn) and _enlarges(equation)):
            repeated.append(equation)
    inside = _needed(repeated, program.outputs)
    made = {slot for equation in inside for slot in equation.outputs} | set(program.inputs)
    read = {slot for equation in inside for slot in equation.slots} | set(program.outputs)
    before = _needed(program.equations, read - made)

    def run(equations: list[Equation], values: dict[int, Any]) -> dict[int, Any]:
        for equation in equations:
            with equation.context():
                outputs = pulls.run(equation, values)
            values.update(zip(equation.outputs, outputs, strict=True))
        return values

    known = run(before, dict(program.constants))
    known = {slot: known[slot] for slot in read - made}

    def body(state: Any) -> Any:
        inputs = zip(program.inputs, jax.tree.leaves(state), strict=True)
        values = run(inside, known | dict(inputs))
        return jax.tree.unflatten(jax.tree.structure(shape), [values[o] for o in program.outputs])

    return body


def _needed(equations: Iterable[Equation], slots: Iterable[int]) -> list[Equation]:
    """Those of the equations that compute the slots, in order."""
    wanted, found = set(slots), []
    for equation in reversed(list(equations)):
        if not wanted.isdisjoint(equation.outputs):
            wanted.update(equation.slots)
            found.append(equation)
    return found[::-1]


def _enlarges(equation: Equation) -> bool:
    avals: list[Any] = [var.aval for var in equation.eqn.outvars]
    operands: list[Any] = [var.aval for var in equation.eqn.invars]
    return sum(a.size for a in avals) > sum(a.size for a in operands)
