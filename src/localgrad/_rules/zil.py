"""Z-IL: predictive coding that equals backpropagation exactly."""

from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from localgrad._protocol import (
    Inbox,
    Loop,
    Phase,
    Rule,
    change,
    check,
    check_rate,
    learning_rule,
    real,
)


class Neuron(NamedTuple):
    """The state of a vertex on the clock: its value, its error, and its last prediction."""

    value: Any
    error: Any
    prediction: Any


@final
@learning_rule
class ZIL(Rule):
    """Zero-divergence inference learning, on events or by the clock.

    Inference learning moves every value down the energy ``1/2 sum_v |e_v|^2 + L`` with
    ``e_v = mu_v - x_v``::

        x_v <- x_v + gamma (e_v - fb_v),     so     e_v <- (1 - gamma) e_v + gamma fb_v

    where ``fb_v = sum_c J_cv^T e_c`` is the feedback of the children. Under three conditions its
    updates are those of backpropagation, exactly, on any computational graph:

    * C1: it starts from the forward pass, so every error is zero;
    * C2: the parameters of a vertex at level ``l`` are read at time ``l``, when the error first
      reaches it;
    * C3: ``gamma = 1``.

    Before the wave of errors arrives nothing moves, so the Jacobians are still those of the
    forward pass; afterwards nobody reads the vertex. Hence **on events** one visit per vertex is
    all the work: backpropagation's work. **By the clock** every vertex is simulated at every step,
    as a network without a scheduler would, 10 to 1,000 times slower: for study. Both give the same
    gradient.

    Attributes:
        clock: Whether to simulate all vertices at all times.
        rate: ``gamma``; on events 1. With C1 and C2 alone, ``e_v(t = l) = gamma^l dL/dmu_v``.
        levelled: By the clock only: whether relays delay the edges that are shorter than the
            longest path. Without them gradients are wrong where there are skip connections.
        loop: By the clock only: how the loop is compiled.

    Raises:
        ValueError: if `rate` is not greater than 0, or not 1 on events, where there are no relays
            that would slow down the short paths.

    Source: Song, Lukasiewicz, Xu and Bogacz 2020 (multi-layer perceptrons); Salvatori, Song, Xu,
    Lukasiewicz and Bogacz 2022 (computational graphs, levels).

    Example:
        >>> import jax, jax.numpy as jnp, localgrad as lg
        >>> def loss(w, x): return jnp.sum(jnp.tanh(x @ w) ** 2)
        >>> w, x = jnp.ones((3, 2)), jnp.ones((4, 3))
        >>> exact = jax.grad(loss)(w, x)
        >>> for rule in lg.ZIL(), lg.ZIL(clock=True):
        ...     print(bool(jnp.allclose(lg.grad(loss, rule=rule)(w, x), exact, rtol=5e-6)))
        True
        True
    """

    name: ClassVar[str] = "zil"
    asks: ClassVar[tuple[str, ...]] = ("level", "time")

    clock: bool = False
    rate: float | jax.Array = real(1.0)
    levelled: bool = True
    loop: Loop = Loop()

    def __post_init__(self) -> None:
        check_rate(self)
        if isinstance(self.rate, int | float):
            self._check_rate()

    @property
    def engine(self) -> str:  # type: ignore[override]
        """Events, or steps by the clock."""
        self._check_rate()
        return "steps" if self.clock else "events"

    def _check_rate(self) -> None:
        is_one = isinstance(self.rate, int | float) and self.rate == 1
        check(self, "rate", self.clock or is_one, "use clock=True with a rate other than 1.")

    def arrival(self, feedback: Any) -> Any:
        """On events: the error after one step from ``e = 0`` with ``gamma = 1``.

        Args:
            feedback: ``fb``, the sum of the children's messages; shape and dtype of the value.

        Returns:
            ``(1 - gamma) 0 + gamma fb = fb``; the same shape and dtype.
        """
        return feedback

    def phases(self, depth: int) -> tuple[Phase, ...]:
        """One, of as many steps as there are levels.

        Levelled, the error of every vertex is still there at its end, and so are the values that
        its synapses saw: nothing has to be read before.
        """
        return (Phase(depth, every=not self.levelled),)

    def init(self, mu: Any) -> Neuron:
        """C1: ``x = mu``, ``e = 0``."""
        return Neuron(mu, jnp.zeros_like(mu), mu)

    def value(self, s: Neuron, mu: Any) -> Any:
        """The live value."""
        return s.value

    def learned(self, s: Neuron, mu: Any) -> Any:
        """At ``t = l`` the parents have not moved, if levelled: they hold the values of then."""
        return mu if self.levelled else s.value

    def error(self, s: Neuron, mu: Any) -> Any:
        """``mu - x``. Levelled, nothing moves ahead of the wave: a difference would be rounding."""
        return s.error if self.levelled else s.error + change(mu, s.prediction)

    def plastic(self, s: Neuron | None, inbox: Inbox) -> Any:
        """C2: at ``t = l``."""
        return inbox.time == inbox.level

    def step(self, s: Neuron, inbox: Inbox) -> Neuron:
        """Inference learning's step; levelled, a vertex takes it once, when the wave arrives.

        Ahead of the wave nothing moves, and what happens behind it nobody reads; at ``gamma = 1``
        it would overflow.
        """
        e, fb = inbox.error, inbox.feedback
        x, e = s.value + self.rate * (e - fb), (1 - self.rate) * e + self.rate * fb
        if not self.levelled:
            return Neuron(x, e, inbox.mu)
        arrives = inbox.time + 1 == inbox.level
        return Neuron(jnp.where(arrives, x, s.value), jnp.where(arrives, e, s.error), inbox.mu)
