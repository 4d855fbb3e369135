"""Backpropagation: the oracle."""

from typing import ClassVar, final

from localgrad._protocol import Rule, learning_rule


@final
@learning_rule
class Backprop(Rule):
    """Backpropagation as JAX computes it, to compare the other rules with.

    Each vertex passes its feedback on: ``e_v = fb_v = sum_c J_cv^T e_c``, a parameter's gradient is
    ``fb_p``. This is `jax.vjp` of the whole function and shares no code with localgrad's graph.

    Source: Rumelhart, Hinton and Williams 1986.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> float(lg.grad(lambda w: jnp.sum(w**2), rule=lg.Backprop())(jnp.array([1.0, 2.0]))[1])
        4.0
    """

    name: ClassVar[str] = "backprop"
    engine: ClassVar[str] = "oracle"  # type: ignore[misc]
