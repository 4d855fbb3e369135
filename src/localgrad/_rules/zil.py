"""Z-IL: predictive coding that equals backpropagation exactly."""

from typing import Any, ClassVar, NamedTuple, final

import jax.numpy as jnp

from localgrad._engine import Clocked, Engine, Events, Loop, Synchronous
from localgrad._rules.rule import Real, Rule, check, check_positive, learning_rule

EVENTS, CLOCK = Events(), Synchronous(Clocked)


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
    nudge: ClassVar[float] = 1.0
    tolerance: ClassVar[float] = 0.0
    derivatives: ClassVar[str] = "everywhere"

    clock: bool = False
    rate: Real = 1.0
    levelled: bool = True
    loop: Loop = Loop()

    def __post_init__(self) -> None:
        check_positive(self, "rate")
        if isinstance(self.rate, int | float):
            self._check_rate()

    @property
    def engine(self) -> Engine:  # type: ignore[override]
        """Events, or the synchronous engine with a clock."""
        self._check_rate()
        return CLOCK if self.clock else EVENTS

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

    def initial(self, value: Any) -> Neuron:
        """C1: ``x = mu``, ``e = 0``."""
        return Neuron(value, jnp.zeros_like(value), value)

    def value(self, state: Neuron, stored: Any) -> Any:
        """The live value."""
        return state.value

    def error(self, state: Neuron, prediction: Any, level: Any, time: Any) -> Any:
        """``e``, and before the wave also what a change of the prediction adds to it."""
        if self.levelled:  # nothing has moved ahead of the wave: a difference would be rounding
            return state.error
        change = prediction - state.prediction
        return jnp.where(time < level, state.error + change, state.error)

    def update(
        self, state: Neuron, prediction: Any, error: Any, feedback: Any, level: Any, time: Any
    ) -> Neuron:
        """Inference learning's step until ``t = l``; behind the wave all is held.

        Nobody reads what happens behind the wave, but at ``gamma = 1`` it would overflow. The error
        that is held is the one that C2 reads.
        """
        waits = time < level
        value = state.value + self.rate * (error - feedback)
        error = (1 - self.rate) * error + self.rate * feedback
        return Neuron(
            jnp.where(waits, value, state.value), jnp.where(waits, error, state.error), prediction
        )

    def learned(self, state: Neuron, stored: Any) -> Any:
        """At ``t = l`` the parents have not moved: theirs are the values of the forward pass."""
        return stored
