"""Z-IL: predictive coding that equals backpropagation exactly."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

from localgrad._engine import Events
from localgrad._rules.rule import Rule


@final
@dataclass(frozen=True)
class ZIL(Rule):
    """Zero-divergence inference learning, run on events.

    Inference learning moves every value down the energy ``1/2 sum_v |e_v|^2 + L`` with
    ``e_v = mu_v - x_v``::

        x_v <- x_v + gamma (e_v - fb_v),     so     e_v <- (1 - gamma) e_v + gamma fb_v

    where ``fb_v = sum_c J_cv^T e_c`` is the feedback of the children. Under three conditions its
    updates are those of backpropagation, exactly, on any computational graph:

    * C1: it starts from the forward pass, so every error is zero;
    * C2: the parameters of a vertex are read when the error first reaches it;
    * C3: ``gamma = 1``.

    Before the wave of errors arrives nothing moves, so the Jacobians are still those of the
    forward pass; afterwards nobody reads the vertex. Hence one visit per vertex is all the work.

    Source: Song, Lukasiewicz, Xu and Bogacz 2020 (multi-layer perceptrons); Salvatori, Song, Xu,
    Lukasiewicz and Bogacz 2022 (computational graphs, levels).

    Example:
        >>> import jax, jax.numpy as jnp, localgrad as lg
        >>> def loss(w, x): return jnp.sum(jnp.tanh(x @ w) ** 2)
        >>> w, x = jnp.ones((3, 2)), jnp.ones((4, 3))
        >>> local, exact = lg.grad(loss, rule=lg.ZIL())(w, x), jax.grad(loss)(w, x)
        >>> bool(jnp.allclose(local, exact, rtol=5e-6))
        True
    """

    name: ClassVar[str] = "zil"
    engine: ClassVar[Events] = Events()

    def arrival(self, feedback: Any) -> Any:
        """The error after one step with ``gamma = 1`` from ``e = 0``.

        Args:
            feedback: ``fb``, the sum of the children's messages; shape and dtype of the value.

        Returns:
            ``(1 - gamma) 0 + gamma fb = fb``; the same shape and dtype.
        """
        return feedback
