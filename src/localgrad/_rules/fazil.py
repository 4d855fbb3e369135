"""Fa-Z-IL: Z-IL with neither clock nor control."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, final

import jax
import jax.numpy as jnp

from localgrad._protocol import (
    Inbox,
    Loop,
    Phase,
    Rule,
    change,
    check_choice,
    check_count,
    check_nudge,
    learning_rule,
    real,
)

Settle = Literal["forward", "relaxation"]


class Neuron(NamedTuple):
    """The state of a vertex.

    Attributes:
        value, error, prediction: As in inference learning.
        phi: Where its synapses are plastic now.
        fired: Where they have been, until the feedback falls silent again.
        memory: What phi remembers.
    """

    value: Any
    error: Any
    prediction: Any
    phi: Any
    fired: Any
    memory: Any


@dataclass(frozen=True)
class TokenPhi:
    """A vertex is plastic one step after any of its children was.

    A pulse of one step travels along the feedback connections, emitted by the onset of the target::

        phi_v(t) = any phi_c(t - 1) of the children c

    Local and without a threshold, but an extension of the published rule. *(ours)*

    Example:
        >>> import localgrad as lg
        >>> rule = lg.FaZIL(phi=lg.TokenPhi())
    """

    threshold: ClassVar[float] = 0.0

    def init(self, mu: Any) -> Any:
        """Nothing to remember."""
        return ()

    def __call__(self, memory: Any, error: Any, moved: Any, pulse: Any) -> tuple[Any, Any]:
        """Where to be plastic, and the next memory."""
        return pulse, memory


@dataclass(frozen=True)
class ValuePhi:
    """A unit is plastic when its silent error becomes active while its prediction stands still.

    So the change came from feedback::

        phi(t) = |e(t - k)| <= threshold for k = 1..quiet,  |e(t)| > threshold,  mu(t) = mu(t - 1)

    It uses the unit's own recent past only. A reconstruction: the published formula of phi is not
    available. Where the true error is exactly 0 (a dead ReLU) it never fires. It takes the feedback
    of a network that settles by itself for that of a target: after ``settle="relaxation"`` the
    gradient holds what was learned then. *(ours)*

    Attributes:
        quiet: Q, the number of steps that the error must have been silent, at least 1.
        threshold: tau, the size of an error that counts as silence, in units of the error.

    Example:
        >>> import localgrad as lg
        >>> rule = lg.FaZIL(phi=lg.ValuePhi(quiet=2), wait_before=3)
    """

    quiet: int = 1
    threshold: float = 0.0

    def init(self, mu: Any) -> Any:
        """For how many steps the error of each unit has been silent."""
        return jnp.zeros_like(mu, dtype=jnp.int32)

    def __call__(self, memory: Any, error: Any, moved: Any, pulse: Any) -> tuple[Any, Any]:
        """Where to be plastic, and the next memory."""
        is_active = jnp.abs(error) > self.threshold
        return is_active & (memory >= self.quiet) & ~moved, jnp.where(is_active, 0, memory + 1)


@final
@learning_rule
class FaZIL(Rule):
    """Fully autonomous Z-IL: the same updates, with no clock and no external control.

    One dynamics throughout, that of inference learning with ``gamma = 1``, and one rule of
    plasticity for every synapse at every step, for ever::

        plasticity_v(t) = phi_v(t) * e_v(t)

    From outside only two things happen: the input is presented, and `wait_before` steps later the
    target is, which switches the root's error from 0 to the nudge. Every vertex fires once, at its
    own time: level ``l`` at onset + ``l``, on a graph levelled by relays. No time, no level and no
    phase is read. When it fires a unit keeps its value and its error, until its feedback falls
    silent: the target is gone.

    Attributes:
        phi: What makes a vertex plastic: `TokenPhi` or `ValuePhi`.
        settle: How the network comes to rest before the target: by a ``"forward"`` sweep, or by
            ``"relaxation"`` of the same dynamics from silence. Then equality with backpropagation
            is asymptotic in `wait_before`, and rest is reached with small weights only (on a scalar
            chain of two vertices iff ``w^2 < 1/2``).
        wait_before: Steps between input and target, at least 0; for `ValuePhi` at least `quiet`.
        wait_after: Steps after the wave has passed, at least 0.
        nudge: ``beta``, the error of the loss; of either sign. Without effect up to rounding after
            a forward sweep.
        loop: How the loop is compiled.

    Raises:
        ValueError: for a field out of its range.

    Source: Song, Lukasiewicz, Xu and Bogacz 2020 (Fa-Z-IL), with phi reconstructed; on graphs with
    levels of Salvatori, Song, Xu, Lukasiewicz and Bogacz 2022.

    Example:
        >>> import jax, jax.numpy as jnp, localgrad as lg
        >>> def loss(w, x): return jnp.sum(jnp.tanh(x @ w) ** 2)
        >>> w, x = jnp.ones((3, 2)), jnp.ones((4, 3))
        >>> local = lg.grad(loss, rule=lg.FaZIL(wait_before=5))(w, x)
        >>> bool(jnp.allclose(local, jax.grad(loss)(w, x), rtol=5e-6))
        True
    """

    name: ClassVar[str] = "fa-zil"
    asks: ClassVar[tuple[str, ...]] = ("pulse", "moved", "relay")
    levelled: ClassVar[bool] = True  # type: ignore[misc]

    phi: TokenPhi | ValuePhi = TokenPhi()
    settle: Settle = "forward"
    wait_before: int = 2
    wait_after: int = 0
    nudge: float | jax.Array = real(1.0)
    loop: Loop = Loop()

    def __post_init__(self) -> None:
        check_count(self, "wait_before", "wait_after", least=0)
        check_choice(self, settle=Settle)
        check_nudge(self)
        if isinstance(self.phi, ValuePhi):
            check_count(self.phi, "quiet")
            check_count(self, "wait_before", least=self.phi.quiet)

    def phases(self, depth: int) -> tuple[Phase, ...]:
        """The input alone, then the target, until the wave has passed the lowest synapse."""
        return (
            Phase(self.wait_before, nudge=0.0, read=1 / self.nudge, every=True),
            Phase(depth + self.wait_after, self.nudge, 1 / self.nudge, every=True),
        )

    def init(self, mu: Any) -> Neuron:
        """The values of a forward sweep, or silence; nothing has fired."""
        value = mu if self.settle == "forward" else jnp.zeros_like(mu)
        no, memory = jnp.zeros_like(mu, dtype=bool), self.phi.init(mu)
        return Neuron(value, jnp.zeros_like(mu), value, no, no, memory)

    def value(self, s: Neuron, mu: Any) -> Any:
        """The live value."""
        return s.value

    def error(self, s: Neuron, mu: Any) -> Any:
        """``mu - x``, carried as ``e + (mu_t - mu_{t-1})``; held after the unit has fired."""
        held = s.fired & ~s.phi
        return s.error + jnp.where(held, 0, change(mu, s.prediction))

    def plastic(self, s: Neuron | None, inbox: Inbox) -> Any:
        """Where phi is; the loss at the onset of the target."""
        return inbox.pulse if s is None else s.phi

    def pulse(self, s: Neuron) -> Any:
        """A vertex emits one while it is plastic."""
        return s.phi

    def step(self, s: Neuron, inbox: Inbox) -> Neuron:
        """``x + e - fb``, and so ``e = fb``; value and error are held when the unit fires.

        When its feedback falls silent again, for the target is gone, a unit is released: it takes
        up its prediction, and is as it was before the trial. A relay hands on the value of its
        parent and the error of its child, each one step later.
        """
        mu, e, fb = inbox.mu, inbox.error, inbox.feedback
        if inbox.relay:
            always = jnp.ones_like(s.fired)
            return Neuron(mu, fb, mu, always & inbox.pulse, always, s.memory)
        moved = jnp.abs(change(mu, s.prediction)) > self.phi.threshold
        phi, memory = self.phi(s.memory, fb, moved & inbox.moved, inbox.pulse)
        phi = phi & ~s.fired
        released = s.fired & ~s.phi & (jnp.abs(fb) <= self.phi.threshold)
        value = jnp.where(released, mu, jnp.where(s.fired | phi, s.value, s.value + e - fb))
        error = jnp.where(released, 0, jnp.where(s.fired, e, fb))
        return Neuron(value, error, mu, phi, (s.fired | phi) & ~released, memory)
