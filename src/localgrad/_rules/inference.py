"""Inference learning: predictive coding as usual."""

import math
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp

from localgrad._protocol import (
    Derivatives,
    Inbox,
    Loop,
    Rule,
    change,
    check_relaxing,
    learning_rule,
    real,
)


class Neuron(NamedTuple):
    """The state of a vertex: its value, its error, and the prediction that the error refers to."""

    value: Any
    error: Any
    prediction: Any


@final
@learning_rule
class InferenceLearning(Rule):
    """Inference learning (IL), ordinary predictive coding.

    From the forward pass on, every value descends the free energy
    ``F = 1/2 sum_v |e_v|^2 + nudge * L`` with ``e_v = mu_v - x_v``, all vertices at once::

        x_v <- x_v - rate dF/dx_v  =  x_v + rate (e_v - fb_v)

    with Jacobians at the live values. After the last step every parameter is read: its gradient is
    ``fb_p / nudge``. At equilibrium ``e_v = fb_v``, backpropagation's recursion at the relaxed
    values: the estimate tends to backpropagation's as the nudge tends to 0, its relative error
    falls in proportion to it.

    **Which nudge.** The energy is a sum over units and over the examples of a batch; the loss has
    the scaling that you gave it. For a *mean* over B examples, ``nudge=B`` makes the dynamics of
    each example that of a network which sees it alone, whatever B; for a *sum* over examples,
    ``nudge=1`` does. Classical predictive coding, with the output clamped to a target of variance
    v, is the loss ``1/2 sum (out - target)^2`` with ``nudge = 1/v``, its output no vertex.

    The error is carried as state, ``e_t = e + (mu_t - mu_{t-1})``, since ``mu - x`` would lose
    small errors to rounding. What remains in float32 is a noise floor of about ``1e-7 |mu| / |e|``.

    Attributes:
        steps: Number of inference steps, at least 1; the longest path to the loss at least, or
            some parameters receive nothing. Static.
        rate: ``gamma``, in steps of time; greater than 0. Too large a rate diverges (the limit is
            2 over the largest curvature of the energy); `compare` and `record` tell.
        nudge: ``beta``, the error of the loss; of either sign.
        tolerance: Stop when ``max |fb - e| / max |fb|`` is no larger than this; 0 takes all steps,
            and can be differentiated in reverse. Static.
        derivatives: Where the derivatives of activation units are used: ``"everywhere"``,
            ``"parameters"`` (messages pass a unit unchanged), ``"messages"`` or ``"nowhere"``.
        loop: How the loop is compiled.

    Raises:
        ValueError: for a field out of its range.

    Source: Whittington and Bogacz 2017; Song, Lukasiewicz, Xu and Bogacz 2020, algorithm 1;
    Millidge, Song, Salvatori, Lukasiewicz and Bogacz 2022 (the limit of a small nudge).

    Example:
        >>> import jax, jax.numpy as jnp, localgrad as lg
        >>> def loss(w, x): return jnp.mean((lg.vertex(x @ w, "h") ** 2).sum(1))
        >>> w, x = jnp.ones((3, 2)), jnp.ones((4, 3))
        >>> rule = lg.InferenceLearning(steps=64, rate=0.1, nudge=0.01)
        >>> local, exact = lg.grad(loss, rule=rule)(w, x), jax.grad(loss)(w, x)
        >>> bool(jnp.allclose(local, exact, rtol=0.01))
        True
    """

    name: ClassVar[str] = "il"

    steps: int = 64
    rate: float | jax.Array = real(0.1)
    nudge: float | jax.Array = real(1.0)
    tolerance: float = 0.0
    derivatives: Derivatives = "everywhere"
    loop: Loop = Loop()

    def __post_init__(self) -> None:
        check_relaxing(self, most=math.inf)

    def init(self, mu: Any) -> Neuron:
        """``x = mu``, ``e = 0``."""
        return Neuron(mu, jnp.zeros_like(mu), mu)

    def value(self, s: Neuron, mu: Any) -> Any:
        """The live value."""
        return s.value

    def error(self, s: Neuron, mu: Any) -> Any:
        """``e + (mu_t - mu_{t-1})``."""
        return s.error + change(mu, s.prediction)

    def step(self, s: Neuron, inbox: Inbox) -> Neuron:
        """``x + rate (e - fb)``, and the error that this leaves."""
        e, fb = inbox.error, inbox.feedback
        return Neuron(
            s.value + self.rate * (e - fb), (1 - self.rate) * e + self.rate * fb, inbox.mu
        )
