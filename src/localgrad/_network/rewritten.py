"""Every rewriting of a program, one after the other."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from localgrad._jaxpr import Program, trace
from localgrad._network.replay import Replay
from localgrad._network.twins import twinned
from localgrad._network.units import gated


def rewritten(
    program: Program,
    *,
    twins: Sequence[bool] = (),
    units: bool = False,
) -> Callable[..., list[Any]]:
    """The program as a function of its inputs, its twins and its gate, in this order.

    Args:
        program: Its inputs are the leaves, its first output is the loss. With `units` it was traced
            with ``keep_calls=True``.
        twins: Which of the leaves have a twin, see `twinned`. Empty if none has. The function takes
            as many more arguments: the twins in the order of their leaves.
        units: Whether there are gates at the activation units, see `gated`. The function takes one
            more argument, the last: `keep`, a boolean scalar.

    Returns:
        ``f(*leaves, *twins, keep) -> outputs``, a list. Twins and `keep` get no message: they are
        not to be differentiated.
    """
    leaves = [program.avals[slot] for slot in program.inputs]
    kinds, count = list(leaves), sum(twins)
    f: Callable[..., list[Any]] | None = None

    def current() -> Program:
        return program if f is None else trace(f, kinds)

    if units:
        f = gated(program, len(leaves))
        kinds.append(jax.ShapeDtypeStruct((), jnp.bool_))
    if count:
        f = twinned(current(), [*twins, *[False] * units])
        kinds += [leaf for leaf, has_twin in zip(leaves, twins, strict=True) if has_twin]
    run = f or (lambda *inputs: Replay().run(program, inputs))

    def ordered(*inputs: Any) -> list[Any]:
        # The gate is given last, and comes before the twins in the program.
        n = len(leaves)
        return run(*inputs[:n], *inputs[n + count :], *inputs[n : n + count])

    return ordered
