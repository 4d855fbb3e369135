"""Arrays made from a type alone."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding


def empty(kind: Any) -> Any:
    """Zeros of a type, on the axes and devices of its mesh; for random keys, a key."""
    if jnp.issubdtype(kind.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0, impl=str(jax.random.key_impl(kind))), kind.shape)
    zeros = jnp.zeros(kind.shape, kind.dtype)
    if varying := _varying(kind):
        zeros = lax.pcast(zeros, varying, to="varying")
    elif isinstance(kind.sharding, NamedSharding) and not kind.sharding.mesh.empty:
        zeros = jax.sharding.reshard(zeros, kind.sharding)
    return zeros


def _varying(kind: Any) -> tuple[str, ...]:
    """The axes of a mesh over which the values differ, as each version of JAX calls them."""
    axes = kind.mat.varying if hasattr(kind, "mat") else getattr(kind, "vma", ())
    return tuple(axes)
