"""A program without mutable references: what they contain travels as values.

An engine evaluates parts of a program many times, in an order of its own. That is right for values
alone: what was written into a reference would be there too late, or twice.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from localgrad._jaxpr.again import bind, evaluate, standing
from localgrad._jaxpr.errors import explain
from localgrad._jaxpr.primitives import (
    body_of,
    branches,
    is_branch,
    is_derived,
    is_loop,
    is_recomputed,
    is_reference,
    loop_layout,
    opened,
    programs,
    recomputation,
    refers,
)
from localgrad._jaxpr.source import located_at


class Box:
    """A reference, as what it contains now."""

    def __init__(self, content: Any, is_own: bool = True) -> None:
        self.content = content
        self.is_own = is_own
        """Whether the program has made it."""


def contents(closed: Any) -> Callable[..., list[Any]]:
    """A closed program as a function of its inputs, on what its references contain.

    References from outside are read now, and written once, at the end.

    Raises:
        NotImplementedError: where a custom_vjp function gets one from outside: its backward pass
            might write into it, at every step.
    """
    start = [x[...] if is_reference(jax.typeof(x)) else x for x in closed.consts]

    def run(*inputs: Any) -> list[Any]:
        held = [
            Box(x, is_own=False) if is_reference(jax.typeof(const)) else x
            for x, const in zip(start, closed.consts, strict=True)
        ]
        outputs = _run(closed.jaxpr, held, inputs)
        for reference, box in zip(closed.consts, held, strict=True):
            if isinstance(box, Box):
                reference[...] = box.content
        return outputs

    return run


@lru_cache(maxsize=4096)
def holds_references(program: Any) -> bool:
    """Whether references are made or used in a program, or inside."""
    return any(
        refers(eqn) or any(map(holds_references, programs(eqn))) for eqn in opened(program)[0].eqns
    )


def _run(program: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    def visit(_: int, eqn: JaxprEqn, operands: list[Any]) -> Sequence[Any]:
        if programs(eqn) and (refers(eqn) or any(map(holds_references, programs(eqn)))):
            with standing(eqn):
                return _inside(eqn, operands)
        if not refers(eqn):
            return bind(eqn, operands)
        if any(isinstance(x, Box) for x in operands):
            return _used(eqn, operands)
        kind: Any = eqn.outvars[0].aval
        return [Box(operands[0] if operands else jnp.zeros(kind.shape, kind.dtype))]

    return evaluate(program, consts, inputs, visit)


def _used(eqn: JaxprEqn, operands: list[Any]) -> Sequence[Any]:
    """What an equation gives, that reads or writes: on references that live no longer than it."""
    boxes = _boxes(operands)
    if is_derived(eqn) and not all(box.is_own for box in boxes):
        met = "a custom_vjp function met a mutable reference from outside of the function."
        do = "return what it writes from the function (has_aux=True), or use localgrad.ZIL()."
        raise NotImplementedError(explain(met, located_at(eqn), do))

    def run(contents: list[Any], values: list[Any]) -> tuple[list[Any], list[Any]]:
        references = list(map(jax.new_ref, contents))
        own = dict(zip(boxes, references, strict=True))
        outputs = list(bind(eqn, _filled(operands, own, values)))
        return outputs, [x[...] for x in references]

    return _stored(boxes, jax.jit(run)(*_parts(operands)))


def _inside(eqn: JaxprEqn, operands: list[Any]) -> Sequence[Any]:
    """What an equation gives whose programs use references."""
    boxes = _boxes(operands)

    def inside(program: Any, operands: list[Any]) -> Callable[..., tuple[list[Any], list[Any]]]:
        body, consts = opened(program)

        def run(contents: list[Any], values: list[Any]) -> tuple[list[Any], list[Any]]:
            own = {box: Box(x, box.is_own) for box, x in zip(boxes, contents, strict=True)}
            outputs = _run(body, consts, _filled(operands, own, values))
            return outputs, [box.content for box in own.values()]

        return run

    if is_branch(eqn):
        index, *operands = operands
        ways = [inside(branch, operands) for branch in branches(eqn)]
        return _stored(boxes, lax.switch(index, ways, *_parts(operands)))
    run = inside(body_of(eqn), operands)
    if is_loop(eqn):
        return _stored(boxes, _loop(eqn, operands, run))
    if is_recomputed(eqn):
        policy, prevent_cse = recomputation(eqn)
        run = jax.checkpoint(run, policy=policy, prevent_cse=prevent_cse)
    else:
        run = jax.jit(run)
    return _stored(boxes, run(*_parts(operands)))


def _loop(eqn: JaxprEqn, operands: list[Any], run: Any) -> tuple[list[Any], list[Any]]:
    """A scan that carries what its references contain."""
    layout = loop_layout(eqn)
    (consts, carries, xs), (heads, tails) = layout.inputs, layout.outputs
    before = [x for x in operands[consts] if not isinstance(x, Box)]

    def step(carry: Any, x: list[Any]) -> Any:
        contents, values = carry
        outputs, contents = run(contents, [*before, *values, *x])
        return (contents, outputs[heads]), outputs[tails]

    start = [box.content for box in _boxes(operands)], operands[carries]
    (after, final), ys = lax.scan(
        step, start, operands[xs], layout.length, layout.reverse, layout.unroll
    )
    return [*final, *ys], after


def _boxes(operands: Sequence[Any]) -> list[Box]:
    return list(dict.fromkeys(x for x in operands if isinstance(x, Box)))


def _parts(operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What the boxes among the operands contain, and the other operands."""
    values = [x for x in operands if not isinstance(x, Box)]
    return [box.content for box in _boxes(operands)], values


def _filled(operands: Sequence[Any], own: Mapping[Box, Any], values: Sequence[Any]) -> list[Any]:
    supply = iter(values)
    return [own[x] if isinstance(x, Box) else next(supply) for x in operands]


def _stored(boxes: list[Box], results: tuple[list[Any], list[Any]]) -> list[Any]:
    """The outputs, once what the boxes contain has been renewed."""
    outputs, after = results
    for box, content in zip(boxes, after, strict=True):
        box.content = content
    return outputs
