"""Two values at once: one at which functions are differentiated, one that products read.

A synapse learns from an error, a derivative ``f'`` and the activity before it, and these may belong
to different times. Whatever the function, an equation tells them apart by itself: the message to an
operand reads the operand's own value where the operand is bent, and the values of the others where
it is a factor of a product.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from localgrad._jaxpr import (
    Alone,
    bind,
    derivative,
    evaluate,
    is_call,
    is_inexact,
    is_literal,
    opened,
    programs,
)
from localgrad._network.kind import NUMBERS


class Pair(NamedTuple):
    """One value as it is `bent` by functions, and as it is `read` by products."""

    bent: Any
    read: Any


class Pairs:
    """A pair of numbers for each number. Errors flow through the values that are bent."""

    def operands(self, atoms: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        return [x if x is None or isinstance(x, Pair) else Pair(x, x) for x in values]

    def bind(self, eqn: Any, operands: Sequence[Any]) -> Sequence[Any]:
        if is_call(eqn):
            body, consts = opened(programs(eqn)[0])
            return evaluate(body, consts, operands, lambda _, *inner: self.bind(*inner))
        bent, read = (
            zip(*self.operands(eqn.invars, operands), strict=True) if operands else ((), ())
        )
        return [Pair(*both) for both in zip(*_apart(eqn)(bent, read), strict=True)]

    def kept(self, values: Sequence[Any]) -> Sequence[Any]:
        return self.operands((), values)

    def enter(self, x: Any, length: int) -> Any:
        return x

    def leave(self, y: Any) -> Any:
        return y

    def choose(self, index: Any, ways: Sequence[Callable[..., Any]], given: Any, held: Any) -> Any:
        return NUMBERS.choose(index.bent, ways, given, held)


PAIRS = Pairs()


def _apart(eqn: Any) -> Callable[..., Any]:
    """An equation on both sides of its operands, with one message for both."""

    @jax.custom_vjp
    def both(bent: Sequence[Any], read: Sequence[Any]) -> Any:
        return bind(eqn, bent), bind(eqn, read)

    def forward(bent: Sequence[Any], read: Sequence[Any]) -> Any:
        return both(bent, read), (bent, read)

    def backward(kept: Any, errors: Any) -> Any:
        wanted = [k for k, v in enumerate(eqn.outvars) if is_inexact(v.aval)]
        given = [is_inexact(v.aval) for v in eqn.invars]
        arriving = [errors[0][k] for k in wanted]

        def messages(at: Sequence[Any]) -> dict[int, Any]:
            sent = derivative(eqn, at, given, wanted)[1](arriving)
            return dict(zip((k for k, g in enumerate(given) if g), sent, strict=True))

        alone = Alone(eqn)
        reads = alone.reads(tuple(is_inexact(slot.aval) for slot in alone.slots)) or {}
        own = [k in reads.get(k, ()) for k, _ in enumerate(alone.slots)]
        at_bent, at_read = map(messages, kept)
        bends = [not is_literal(v) and own[alone.slots.index(v)] for v in eqn.invars]
        return tuple((at_bent if b else at_read).get(k) for k, b in enumerate(bends)), None

    both.defvjp(forward, backward)
    return both
