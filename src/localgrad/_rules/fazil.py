"""Fa-Z-IL: Z-IL with neither clock nor control."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, final

import jax.numpy as jnp

from localgrad._engine import Autonomous, Loop, Synchronous
from localgrad._rules.rule import (
    Real,
    Rule,
    check_choice,
    check_count,
    check_positive,
    learning_rule,
)

Settle = Literal["forward", "relaxation"]


class Neuron(NamedTuple):
    """The state of a vertex.

    Attributes:
        value, error, prediction: As in inference learning.
        seen: The value until the unit fired: what the synapses to the children learn from.
        phi: Where its synapses are plastic now.
        fired: Where they have been.
        memory: What phi remembers.
    """

    value: Any
    error: Any
    prediction: Any
    seen: Any
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

    def initial(self, value: Any) -> Any:
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
    available. Where the true error is exactly 0 (a dead ReLU) it fires late, on some other change,
    and the update is wrong, or never. *(ours)*

    Attributes:
        quiet: Q, the number of steps that the error must have been silent, at least 1.
        threshold: tau, the size of an error that counts as silence, in units of the error.

    Example:
        >>> import localgrad as lg
        >>> rule = lg.FaZIL(phi=lg.ValuePhi(quiet=2), wait_before=3)
    """

    quiet: int = 1
    threshold: float = 0.0

    def initial(self, value: Any) -> Any:
        """For how many steps the error of each unit has been silent."""
        return jnp.zeros(value.shape, jnp.int32)

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
    phase is read. After it has fired, a unit keeps its value and its error.

    Attributes:
        phi: What makes a vertex plastic: `TokenPhi` or `ValuePhi`.
        settle: How the network comes to rest before the target: by a ``"forward"`` sweep, or by
            ``"relaxation"`` of the same dynamics from silence. Then equality with backpropagation
            is asymptotic in `wait_before`, and rest is reached with small weights only (on a scalar
            chain of two vertices iff ``w^2 < 1/2``).
        wait_before: Steps between input and target, at least 0; for `ValuePhi` at least `quiet`.
        wait_after: Steps after the wave has passed, at least 0.
        nudge: ``beta``, the error of the loss; greater than 0. Without effect up to rounding after
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
    engine: ClassVar[Synchronous] = Synchronous(Autonomous)
    levelled: ClassVar[bool] = True
    tolerance: ClassVar[float] = 0.0
    derivatives: ClassVar[str] = "everywhere"

    phi: TokenPhi | ValuePhi = TokenPhi()
    settle: Settle = "forward"
    wait_before: int = 2
    wait_after: int = 0
    nudge: Real = 1.0
    loop: Loop = Loop()

    def __post_init__(self) -> None:
        check_count(self, "wait_before", "wait_after", least=0)
        check_choice(self, settle=Settle)
        check_positive(self, "nudge")
        if isinstance(self.phi, ValuePhi):
            check_count(self.phi, "quiet")
            check_count(self, "wait_before", least=self.phi.quiet)

    def first(self, stored: Any) -> Any:
        """The value when the input is presented: that of a forward sweep, or 0."""
        return stored if self.settle == "forward" else jnp.zeros_like(stored)

    def initial(self, value: Any, prediction: Any) -> Neuron:
        """``e = mu - x``, exactly 0 after a forward sweep; nothing has fired."""
        no = jnp.zeros(value.shape, bool)
        error = prediction - value
        if self.settle == "forward":  # also where both are infinite
            error, prediction = jnp.zeros_like(value), value
        return Neuron(value, error, prediction, value, no, no, self.phi.initial(value))

    def value(self, state: Neuron, stored: Any) -> Any:
        """The live value."""
        return state.value

    def error(self, state: Neuron, prediction: Any) -> Any:
        """``e + (mu_t - mu_{t-1})``, held where the unit has fired."""
        moved = prediction != state.prediction  # inf - inf would be no number
        change = jnp.where(moved, prediction - state.prediction, 0)
        return jnp.where(state.fired, state.error, state.error + change)

    def learned(self, state: Neuron, stored: Any) -> Any:
        """The value until the unit fired: behind the wave it may overflow, and nobody reads it."""
        return state.seen

    def plasticity(self, state: Neuron, error: Any) -> Any:
        """``phi * e``, what the synapses onto the vertex read at every step."""
        return jnp.where(state.phi, error, 0)

    def update(
        self, state: Neuron, prediction: Any, error: Any, feedback: Any, pulse: Any
    ) -> Neuron:
        """``x + e - fb``, and so ``e = fb``; held where the unit has fired."""
        moved = prediction != state.prediction
        phi, memory = self.phi(state.memory, feedback, moved, pulse)
        value = jnp.where(state.fired, state.value, state.value + error - feedback)
        phi = phi & ~state.fired
        fired = state.fired | phi
        return Neuron(
            value=value,
            error=jnp.where(state.fired, state.error, feedback),
            prediction=prediction,
            seen=jnp.where(fired, state.seen, value),
            phi=phi,
            fired=fired,
            memory=memory,
        )
