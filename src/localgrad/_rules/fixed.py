"""Fixed prediction: predictive coding with the Jacobians of the forward pass."""

from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from localgrad._protocol import Derivatives, Inbox, Loop, Rule, check_relaxing, learning_rule, real


@final
@learning_rule
class FixedPrediction(Rule):
    """Inference learning with predictions and Jacobians frozen at the forward pass.

    With ``mu`` fixed, the descent of the energy in ``x`` is a relaxation of the errors alone::

        e_v <- (1 - rate) e_v + rate fb_v,      fb_v = sum_c J_cv^T e_c

    It is linear; its rest *is* backpropagation, for any nudge, on any graph. With ``rate = 1`` it
    is exact after as many steps as the longest path to the loss. It converges for
    ``0 < rate < 2``; rates above 1 are useless.

    Attributes:
        steps: Number of steps, at least 1. Static.
        rate: ``gamma``, between 0 and 2.
        nudge: ``beta``, the error of the loss; of either sign. Without effect up to rounding.
        tolerance: Stop when ``max |fb - e| / max |fb|`` is no larger than this; 0 takes all steps,
            and can be differentiated in reverse. Static.
        derivatives: Where the derivatives of activation units are used: ``"everywhere"``,
            ``"parameters"`` (messages pass a unit unchanged), ``"messages"`` or ``"nowhere"``.
        levelled: Whether relays make all paths between two vertices equally long.
        loop: How the loop is compiled.

    Raises:
        ValueError: for a field out of its range.

    Source: Millidge, Tschantz and Buckley 2020b (predictive coding along arbitrary computation
    graphs); the name is that of Rosenbaum 2022.

    Example:
        >>> import jax, jax.numpy as jnp, localgrad as lg
        >>> def loss(w, x): return jnp.sum(jnp.tanh(lg.vertex(x @ w, "h")) ** 2)
        >>> w, x = jnp.ones((3, 2)), jnp.ones((4, 3))
        >>> local = lg.grad(loss, rule=lg.FixedPrediction(steps=1, rate=1.0))(w, x)
        >>> bool(jnp.allclose(local, jax.grad(loss)(w, x)))
        True
    """

    name: ClassVar[str] = "fixed-prediction"

    steps: int = 100
    rate: float | jax.Array = real(0.2)
    nudge: float | jax.Array = real(1.0)
    tolerance: float = 0.0
    derivatives: Derivatives = "everywhere"
    levelled: bool = False
    loop: Loop = Loop()

    def __post_init__(self) -> None:
        check_relaxing(self)

    def init(self, mu: Any) -> Any:
        """``e = 0``; the error is the whole state."""
        return jnp.zeros_like(mu)

    def value(self, s: Any, mu: Any) -> Any:
        """The value of the forward pass."""
        return mu

    def error(self, s: Any, mu: Any) -> Any:
        """``e``."""
        return s

    def step(self, s: Any, inbox: Inbox) -> Any:
        """``(1 - rate) e + rate fb``."""
        return (1 - self.rate) * s + self.rate * inbox.feedback
