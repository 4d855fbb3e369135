"""Whether the units of a vertex see each other in the methods of a rule."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from localgrad._jaxpr import is_elementwise
from localgrad._network import Network
from localgrad._protocol import Inbox, Rule


def mixing(rule: Rule, network: Network) -> tuple[str, ...]:
    """The methods in which they do, on values of the shapes that the network has."""
    kinds = {(v.shape, v.dtype) for v in jax.tree.leaves(network.vertices) if v.shape}
    return tuple(sorted({name for kind in kinds for name in _mixing(rule, *kind)}))


def _mixing(rule: Rule, shape: tuple[int, ...], dtype: Any) -> list[str]:
    units = jax.ShapeDtypeStruct(shape, dtype)
    flag, number = jax.ShapeDtypeStruct(shape, bool), jax.ShapeDtypeStruct(shape, jnp.int32)
    seen = Inbox(units, units, units, units, number, 0, flag, flag, None, units)
    state = jax.eval_shape(rule.init, units)

    def told(method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda s, inbox: method(s, inbox._replace(relay=False))

    methods = {
        "value": (rule.value, units),
        "error": (rule.error, units),
        "learned": (rule.learned, units),
        "step": (told(rule.step), seen),
        "plastic": (told(rule.plastic), seen),
    }
    return [name for name, (f, given) in methods.items() if _mixes(f, shape, state, given)]


def _mixes(method: Callable[..., Any], shape: tuple[int, ...], *args: Any) -> bool:
    jaxpr = jax.make_jaxpr(method)(*args).jaxpr
    return not is_elementwise(jaxpr, [var.aval.shape == shape for var in jaxpr.invars])
