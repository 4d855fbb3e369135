"""Activation relaxation."""

from typing import Any, ClassVar, Literal, final

import jax
import jax.numpy as jnp

from localgrad._protocol import (
    Derivatives,
    Inbox,
    Loop,
    Rule,
    check,
    check_choice,
    check_relaxing,
    learning_rule,
    real,
)

Start = Literal["zero", "activity"]
Schedule = Literal["together", "top-down"]
Unfrozen = Literal["nowhere", "relaxation", "parameters", "both", "activity"]


@final
@learning_rule
class ActivationRelaxation(Rule):
    """Activation relaxation (AR): one kind of unit, which relaxes towards its feedback.

    After the forward pass, whose values and Jacobians are stored, the same units relax::

        a_v <- (1 - rate) a_v + rate sum_c J_cv^T a_c

    and a parameter's gradient is ``sum_c (d mu_c / d p)^T a_c`` from the stored values. At rest
    ``a_v = dL/dmu_v`` on any graph. There is no energy. From a zero start this is the recursion of
    `FixedPrediction`, at every rate; what the unit stands for differs.

    From a zero start, on a chain, at distance k from the loss,
    ``a(t) = P[Binomial(t, rate) >= k] * gradient``: every layer is at all times a multiple of its
    true gradient, without overshoot for ``rate <= 1``.

    The relaxations of the method: feedback weights of their own are given with `Synapses` in the
    place of the parameters; the others are fields.

    Attributes:
        steps: Number of sweeps, at least 1. Static.
        rate: Between 0 and 2; rates above 1 are useless.
        start: Where the units begin: at ``"zero"``, or at their ``"activity"`` of the forward pass
            as published, which spoils the direction until it has decayed.
        schedule: All units ``"together"``, or ``"top-down"``, each seeing the one above already
            moved (what the authors' code did; with ``rate = 1`` that is backpropagation in one
            sweep).
        derivatives: Where the derivatives of activation units are used: ``"everywhere"``,
            ``"parameters"`` (the relaxation drops them: the published relaxation), ``"messages"``
            or ``"nowhere"``.
        unfrozen: Where the units' current activity stands for the stored value of the forward
            pass: ``"nowhere"``; in the derivatives ``f'`` of the ``"relaxation"``, in those with
            which ``"parameters"`` are read, in those of ``"both"``; or as the ``"activity"`` from
            which parameters learn. The error of the loss is that of the forward pass in any case.
        levelled: Whether relays make all paths between two vertices equally long, so that the
            proportionality of a chain holds on any graph.
        nudge: ``beta``, the error of the loss; of either sign.
        tolerance: Stop when ``max |fb - a| / max |fb|`` is no larger than this; 0 takes all steps,
            and can be differentiated in reverse. Static.
        loop: How the loop is compiled.

    Raises:
        ValueError: for a field out of its range.

    Source: Millidge, Tschantz, Seth and Buckley 2020, *Activation relaxation*, equations 5 to 11;
    *Investigating the scalability and biological plausibility of the activation relaxation
    algorithm* (unfrozen feedforward pass). Zero start, levels: ours.

    Example:
        >>> import jax, jax.numpy as jnp, localgrad as lg
        >>> def loss(w, x): return jnp.sum(jnp.tanh(lg.vertex(x @ w, "h")) ** 2)
        >>> w, x = jnp.ones((3, 2)), jnp.ones((4, 3))
        >>> half = lg.grad(loss, rule=lg.ActivationRelaxation(steps=1, rate=0.5))(w, x)
        >>> bool(jnp.allclose(half, 0.5 * jax.grad(loss)(w, x)))  # P[Binomial(1, .5) >= 1]
        True
    """

    name: ClassVar[str] = "ar"

    steps: int = 100
    rate: float | jax.Array = real(0.1)
    start: Start = "zero"
    schedule: Schedule = "together"
    derivatives: Derivatives = "everywhere"
    unfrozen: Unfrozen = "nowhere"
    levelled: bool = False
    nudge: float | jax.Array = real(1.0)
    tolerance: float = 0.0
    loop: Loop = Loop()

    def __post_init__(self) -> None:
        check_relaxing(self)
        check_choice(self, start=Start, schedule=Schedule, unfrozen=Unfrozen)
        in_sweeps = self.schedule == "top-down" and (self.levelled or self._uses("relaxation"))
        do = "use schedule='together', or neither levelled nor unfrozen relaxation."
        check(self, "schedule", not in_sweeps, do)

    @property
    def sweeps(self) -> bool:  # type: ignore[override]
        """Whether each unit sees those above already moved."""
        return self.schedule == "top-down"

    @property
    def clamped(self) -> bool:  # type: ignore[override]
        """The output's error is computed once, from the forward pass."""
        return self._uses("relaxation")

    def init(self, mu: Any) -> Any:
        """``a = 0``, or the activity; the one unit is the whole state."""
        return mu if self.start == "activity" else jnp.zeros_like(mu)

    def value(self, s: Any, mu: Any) -> Any:
        """Where the Jacobians are taken."""
        return s if self._uses("relaxation") else mu

    def error(self, s: Any, mu: Any) -> Any:
        """``a``."""
        return s

    def step(self, s: Any, inbox: Inbox) -> Any:
        """``(1 - rate) a + rate fb``: the other form, ``a - rate (a - fb)``, rounds badly."""
        return (1 - self.rate) * s + self.rate * inbox.feedback

    def learned(self, s: Any, mu: Any) -> Any:
        """What the parameters see of their parents."""
        return s if self.unfrozen == "activity" else mu

    def bent(self, s: Any, mu: Any) -> Any:
        """Where the derivatives are taken then."""
        return s if self._uses("parameters") else mu

    def _uses(self, where: str) -> bool:
        """Whether the current activity stands for the stored one there."""
        return self.unfrozen in (where, "both")
