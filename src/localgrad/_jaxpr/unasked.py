"""Whether the derivative of an equation is silent where no error arrives."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn
from jax.extend.core import primitives as p

from localgrad._jaxpr.again import derivative
from localgrad._jaxpr.primitives import is_inexact


def sends_unasked(eqn: JaxprEqn, given: Sequence[bool]) -> bool:
    """Whether a `custom_vjp` sends a message though its errors are zero.

    Every other equation's derivative is linear in its errors. This one's is tried, on numbers
    between 1 and 2; where it cannot be (it sums over the axis of a mesh, say) the answer is no.

    Args:
        eqn: An equation.
        given: Which of its operands carry errors.
    """
    if eqn.primitive is not p.custom_vjp_call_p:
        return False
    wanted = [k for k, v in enumerate(eqn.outvars) if is_inexact(v.aval)]

    generator = np.random.default_rng(0)
    try:
        with jax.ensure_compile_time_eval():
            drawn = [_drawn(generator, v.aval) for v in eqn.invars]
            outputs, pull = derivative(eqn, drawn, given, wanted)
            messages = pull([jnp.zeros_like(x) for x in outputs])
            return any(bool(jnp.any(message != 0)) for message in messages)
    except Exception:  # whatever the user's code says of such numbers
        return False


def _drawn(generator: np.random.Generator, kind: Any) -> Any:
    """Numbers of a type."""
    numbers = generator.uniform(1, 2, kind.shape)
    return jnp.asarray(numbers if is_inexact(kind) else np.zeros(kind.shape), kind.dtype)
