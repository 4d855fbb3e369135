"""`vertex`: name a value inside a function."""

from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name


def vertex(x: Any, name: str) -> Any:
    """Mark a value as a vertex of the graph, under a name; the identity otherwise.

    This is ``jax.ad_checkpoint.checkpoint_name``: functions that name values for a checkpoint
    policy are marked already.

    Args:
        x: An array, or a pytree of arrays (each leaf becomes a vertex of this name).
        name: What to call it in tables and figures.

    Returns:
        `x`, unchanged.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> def loss(w, x): return jnp.sum(lg.vertex(x @ w, "hidden") ** 2)
        >>> [v.name for v in lg.graph(loss)(jnp.ones((3, 2)), jnp.ones(3)).vertices]
        ['hidden', 'loss']
    """
    return jax.tree.map(lambda leaf: checkpoint_name(leaf, name), x)
