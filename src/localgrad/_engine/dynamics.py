"""A rule on a network: all vertices at once, step after step."""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from localgrad._engine.limits import check_followed
from localgrad._network import NUMBERS, PAIRS, Network, Numbers, Pair, State, added, cut, each
from localgrad._protocol import Inbox, Rule


class Forward(NamedTuple):
    """What the forward pass leaves: it never changes during a trial."""

    loss: Any
    aux: list[Any]
    stored: State
    kept: State
    top: State | None


class Moment(NamedTuple):
    """What is in the network at one time.

    Attributes:
        neurons: The states of all vertices.
        time: The steps since the forward pass.
        nudge: The error of the loss in the step before; the target appears when it leaves 0.
        moved: Of each copy of a vertex, whether its value changed in the last step; None if the
            rule does not ask.
        mu: The predictions of the step before, where the rule asks whether a parent has moved.
    """

    neurons: State
    time: Any
    nudge: Any
    moved: State | None
    mu: State | None


class Signals(NamedTuple):
    """What passes between the vertices at one step, one entry per vertex each."""

    predictions: State
    errors: State
    feedback: State


class Dynamics:
    """A rule on a network; pure functions of what they are given.

    Attributes:
        rule, network: As given; the network is levelled if the rule asks for it.
        messages: What is put before the leaves and after them when messages are sent, and when
            synapses learn: `(constants, rest)` each.
    """

    def __init__(self, rule: Rule, network: Network, messages: Any, synapses: Any) -> None:
        self.rule = rule
        self.network = network.levelled if rule.levelled else network
        check_followed(rule, network)
        self._messages, self._synapses = messages, synapses
        self._vertices = self.network.vertices
        self.levels = self.network.levels if "level" in rule.asks else None

    def forward(self, leaves: Sequence[Any]) -> Forward:
        """The forward pass."""
        inputs = self._inputs(self._messages, leaves)
        (loss, *aux), stored, kept = self.network.forward(inputs)
        forward = Forward(loss, aux, stored, kept, None)
        if self.rule.clamped or "top" in self.rule.asks:

            def root(values: State) -> Any:
                return self._predict(self._messages, leaves, forward, values, NUMBERS)[0]

            forward = forward._replace(top=jax.grad(root)(stored))
        return forward

    def begin(self, forward: Forward) -> Moment:
        """The state after the forward pass."""
        neurons = self.each(self.rule.init, forward.stored)
        moved = mu = None
        if "moved" in self.rule.asks:
            values = self.each(self.rule.value, neurons, forward.stored)
            moved, mu = self._moved(forward.stored, values), forward.stored
        return Moment(neurons, jnp.int32(0), jnp.zeros((), forward.loss.dtype), moved, mu)

    def step(
        self,
        leaves: Sequence[Any],
        forward: Forward,
        now: Moment,
        nudge: Any,
        changed: Sequence[Any] = (),
    ) -> Moment:
        """All vertices, once, from one snapshot.

        `changed` has for each input of the network a flag, a number: whether it is new.
        """
        nudge = jnp.asarray(nudge, forward.loss.dtype)
        if self.rule.sweeps:
            return now._replace(
                neurons=self._swept(leaves, forward, now, nudge), time=now.time + 1, nudge=nudge
            )
        signals = self.signals(leaves, forward, now, nudge, changed)
        told = self._asides(forward, now, _onset(now, nudge), changed)
        inboxes = self.each(self._inbox(now), *signals, forward.stored, *told)
        neurons = self.each(self._stepped, now.neurons, inboxes)
        moved = None
        if now.moved is not None:
            sides = now.neurons, neurons
            moved = self._moved(*(self.each(self.rule.value, s, forward.stored) for s in sides))
        kept = signals.predictions if now.mu is not None else None
        return Moment(neurons, now.time + 1, nudge, moved, kept)

    def signals(
        self,
        leaves: Sequence[Any],
        forward: Forward,
        now: Moment,
        nudge: Any,
        changed: Sequence[Any] = (),
    ) -> Signals:
        """Predictions, errors and feedback that follow from a state; `changed` as in `step`."""
        nudge = jnp.asarray(nudge, forward.loss.dtype)
        looped = Numbers(self.rule.loop.rewrites)
        values = self.each(self.rule.value, now.neurons, forward.stored)
        (_, mu), pull = self._pulled(self._messages, leaves, forward, values, looped)
        mu = self._still(forward, now, mu, changed)
        errors = self.each(self.rule.error, now.neurons, mu)
        seed = jnp.zeros_like(nudge) if self.rule.clamped else nudge
        _, feedback = pull((seed, errors))
        if self.rule.clamped:
            feedback = jax.tree.map(
                lambda fb, top: fb + (nudge * top).astype(fb.dtype), feedback, forward.top
            )
        return Signals(mu, errors, feedback)

    def read(
        self,
        leaves: Sequence[Any],
        forward: Forward,
        now: Moment,
        nudge: Any,
        every: bool,
        changed: Sequence[Any] = (),
    ) -> list[Any]:
        """The feedback of the leaves: of all vertices, or `every` time of those plastic now."""
        rule = self.rule
        nudge = jnp.asarray(nudge, forward.loss.dtype)
        read = self.each(rule.learned, now.neurons, forward.stored)
        is_one = type(rule).bent is Rule.bent
        bent = read if is_one else self.each(rule.bent, now.neurons, forward.stored)
        (_, mu), pull = self._learned(leaves, forward, read, bent)
        mu = self._still(forward, now, mu, changed)
        errors, root = self.each(rule.error, now.neurons, mu), nudge
        if every:
            plastic, of_root = self._plastic(forward, now, nudge, mu, errors)
            errors, root = self.each(_masked, plastic, errors), _masked(of_root, nudge)
        return pull((root, errors))[0]

    def plastic(self, forward: Forward, now: Moment, nudge: Any) -> tuple[State, Any]:
        """Of each copy of a vertex, and of the loss, whether its synapses learn now."""
        silent = self.each(jnp.zeros_like, forward.stored)
        plastic, root = self._plastic(forward, now, jnp.asarray(nudge), silent, silent)
        units = self.each(lambda p, x: jnp.broadcast_to(p, jnp.shape(x)), plastic, forward.stored)
        return self.each_copy(lambda shape, flags: over(flags, shape), units), root

    def _plastic(
        self, forward: Forward, now: Moment, nudge: Any, mu: State, errors: State
    ) -> tuple[State, Any]:
        onset = _onset(now, nudge)
        told = self._asides(forward, now, onset)
        silent = self.each(jnp.zeros_like, errors)
        inboxes = self.each(self._inbox(now), mu, errors, silent, forward.stored, *told)
        top = Inbox(None, nudge, None, None, level=0, time=now.time, pulse=onset, relay=False)
        plastic = self.each(self.rule.plastic, now.neurons, inboxes)
        return plastic, self.rule.plastic(None, top)

    def loss(self, leaves: Sequence[Any], forward: Forward, now: Moment) -> Any:
        """The loss that follows from the values."""
        values = self.each(self.rule.value, now.neurons, forward.stored)
        return self._predict(self._messages, leaves, forward, values, NUMBERS)[0]

    def sent(self, leaves: Sequence[Any], forward: Forward, nudge: Any) -> State:
        """The error that backpropagation sends to each vertex, times the nudge."""
        inputs = self._inputs(self._messages, leaves)

        def flowing(errors: State) -> Any:
            return self.network.predict(inputs, errors, forward.kept, added)[0]

        _, pull = jax.vjp(flowing, self.each(jnp.zeros_like, forward.stored))
        return pull(nudge)[0]

    def residual(self, signals: Signals) -> Any:
        """How far from rest the network is: ``max |fb - e| / max |fb|`` over all vertices."""
        distance = self.each(lambda e, fb: most(fb - e), signals.errors, signals.feedback)
        size = largest(self.each(most, signals.feedback))
        return jnp.where(size > 0, largest(distance) / jnp.where(size > 0, size, 1), 0)

    def each(self, f: Callable[..., Any], *states: Any) -> State:
        """A function of each vertex's own entries."""
        return each(f, self._vertices, *states)

    def each_copy(self, f: Callable[..., Any], *states: Any) -> State:
        """The same, told the shape of the vertex's copies: one axis for each scan around it."""
        return jax.tree.map(lambda v, *s: f(v.lengths, *s), self._vertices, *states)

    def _moved(self, before: State, after: State) -> State:
        """Of each copy of a vertex, whether its value changed."""
        return self.each_copy(lambda shape, a, b: over(a != b, shape), before, after)

    def _inputs(self, around: Any, leaves: Sequence[Any]) -> list[Any]:
        constants, rest = around
        return [*constants, *leaves, *rest]

    def _predict(
        self, around: Any, leaves: Sequence[Any], forward: Forward, values: State, kind: Any
    ) -> Any:
        meet = added if self.rule.flows else cut
        inputs = self._inputs(around, leaves)
        return self.network.predict(inputs, values, forward.kept, meet, kind)

    def _pulled(
        self, around: Any, leaves: Sequence[Any], forward: Forward, values: State, kind: Any
    ) -> Any:
        """Loss and predictions, and the pull of their errors to the leaves and to the values.

        Who wants one of the two lets the other go: what nobody reads is not computed.
        """

        def predict(leaves: list[Any], values: State) -> Any:
            return self._predict(around, leaves, forward, values, kind)

        return jax.vjp(predict, list(leaves), values)

    def _learned(self, leaves: Sequence[Any], forward: Forward, read: State, bent: State) -> Any:
        """The same for the leaves alone, with derivatives where the values are bent.

        Those of the loss are always at the values of the forward pass there.
        """
        if all(map(operator.is_, *map(jax.tree.leaves, (read, bent)))):
            return self._pulled(self._synapses, leaves, forward, read, NUMBERS)

        def predict(leaves: list[Any], at: State) -> Any:
            pairs = self.each(Pair, at, read)
            found = self._predict(self._synapses, leaves, forward, pairs, PAIRS)
            return jax.tree.map(
                lambda pair: pair.bent, found, is_leaf=lambda x: isinstance(x, Pair)
            )

        (_, mu), pull = jax.vjp(lambda leaves: predict(leaves, bent), list(leaves))
        (loss, _), pull_loss = jax.vjp(lambda leaves: predict(leaves, forward.stored), list(leaves))
        silent = self.each(jnp.zeros_like, mu)

        def pulled(seeds: tuple[Any, State]) -> tuple[list[Any]]:
            root, errors = seeds
            sides = pull((jnp.zeros_like(root), errors))[0], pull_loss((root, silent))[0]
            return (jax.tree.map(jnp.add, *sides),)

        return (loss, mu), pulled

    def _swept(self, leaves: Sequence[Any], forward: Forward, now: Moment, nudge: Any) -> State:
        """One sweep from the loss down, in which each vertex answers before its parents see it."""
        inputs = self._inputs(self._messages, leaves)

        def loss(neurons: State) -> Any:
            held = self.each(lambda *pair: pair, neurons, forward.stored)
            return self.network.predict(inputs, held, forward.kept, partial(swept, self.rule))[0]

        _, pull = jax.vjp(loss, now.neurons)
        return pull(nudge)[0]

    def _still(self, forward: Forward, now: Moment, mu: State, changed: Sequence[Any]) -> State:
        """A vertex whose parents have not moved keeps its prediction to the last bit.

        The compiler may round it differently each time.
        """
        if now.moved is None:
            return mu
        moved = self._moves(forward, now, changed)
        return self.each(
            lambda m, new, old: jnp.where(fitted(m > 0, new), new, old), moved, mu, now.mu
        )

    def _moves(self, forward: Forward, now: Moment, changed: Sequence[Any]) -> State:
        """Of each copy of a vertex, how much of what its prediction reads has moved."""
        raised = self.each(lambda flag: flag.astype(jnp.float32), now.moved)
        return self.network.raised(raised, forward.kept, changed)

    def _asides(
        self, forward: Forward, now: Moment, onset: Any, changed: Sequence[Any] = ()
    ) -> list[State]:
        """What the rule asked for, each as a state, in the order of its asking."""
        asked = [ask for ask in self.rule.asks if ask != "time"]
        return [self._aside(ask, forward, now, onset, changed) for ask in asked]

    def _aside(
        self, ask: str, forward: Forward, now: Moment, onset: Any, changed: Sequence[Any]
    ) -> State:
        if ask == "level":
            return self.each(fitted, self.levels, forward.stored)
        if ask == "relay":
            return jax.tree.map(lambda v: np.bool_(v.is_relay), self._vertices)
        if ask == "moved":
            found = self._moves(forward, now, changed)
        elif ask == "pulse":
            raised = self.each_copy(
                lambda shape, s: over(self.rule.pulse(s), shape).astype(jnp.float32), now.neurons
            )
            found = self.network.answered(onset.astype(jnp.float32), raised, forward.kept)
        else:
            return forward.top or {}
        return self.each(lambda flag, x: fitted(flag > 0, x), found, forward.stored)

    def _inbox(self, now: Moment) -> Callable[..., Inbox]:
        """An inbox of what every vertex sees, what was asked for, and the time if asked for."""
        names = [ask for ask in self.rule.asks if ask != "time"]
        time = {"time": now.time} if "time" in self.rule.asks else {}

        def made(mu: Any, error: Any, feedback: Any, stored: Any, *told: Any) -> Inbox:
            return Inbox(mu, error, feedback, stored, **time, **dict(zip(names, told, strict=True)))

        return made

    def _stepped(self, s: Any, inbox: Inbox) -> Any:
        """A step whose results keep the types of the state, whatever the type of the rate."""
        new = self.rule.step(s, inbox)
        kinds = [jax.tree.map(jnp.shape, state) for state in (new, s)]
        if kinds[0] != kinds[1]:
            raise TypeError(
                f"{type(self.rule).__name__}.step returned arrays of shapes {kinds[0]} for a state "
                f"of shapes {kinds[1]}; return the state one step later."
            )
        return jax.tree.map(lambda new, old: jnp.asarray(new).astype(old.dtype), new, s)


def _onset(now: Moment, nudge: Any) -> Any:
    """Whether the target has just appeared."""
    return (nudge != 0) & (now.nudge == 0)


def fitted(flag: Any, like: Any) -> Any:
    """One number for each copy of a vertex, with the axes of its values, and where those are."""
    if not flag.ndim:
        return flag
    whole = flag.reshape(flag.shape + (1,) * (jnp.ndim(like) - flag.ndim))
    return jnp.zeros_like(like, dtype=flag.dtype) + whole  # of flags, a sum is an or


def over(flags: Any, copies: tuple[int, ...]) -> Any:
    """One flag for each copy of a vertex: whether any of its units raises one."""
    return jnp.any(flags, axis=tuple(range(len(copies), flags.ndim)))


def most(x: Any) -> Any:
    """``max |x|``."""
    return jnp.max(jnp.abs(x), initial=0.0)


def largest(numbers: State) -> Any:
    """The largest of one number per vertex; not a number if one is."""
    wide = any(x.dtype == jnp.float64 for x in jax.tree.leaves(numbers))
    kind = jnp.float64 if wide else jnp.float32
    found = [x.astype(kind) for x in jax.tree.leaves(numbers)]
    return jnp.max(jnp.stack([jnp.zeros((), kind), *found]))


def _masked(plastic: Any, error: Any) -> Any:
    """The error where the synapses learn, a select and no product: 0 times inf is no number."""
    if plastic is True:
        return error
    return jnp.where(plastic, error, jnp.zeros_like(error))


@jax.custom_vjp
def swept(rule: Rule, mu: Any, held: tuple[Any, Any]) -> Any:
    """The stored value. The rule answers to the error that comes back, and passes its answer on.

    Of what is held, state and stored value, the new state comes out where the gradient of the old
    one would.
    """
    return held[1]


def _kept(rule: Rule, mu: Any, held: tuple[Any, Any]) -> tuple[Any, Any]:
    return held[1], (rule, *held)


def _answered(kept: tuple[Rule, Any, Any], feedback: Any) -> tuple[Any, Any, Any]:
    rule, s, stored = kept
    new = rule.step(s, Inbox(None, s, feedback, stored)).astype(s.dtype)
    return jax.tree.map(jnp.zeros_like, rule), new, (new, jnp.zeros_like(stored))


swept.defvjp(_kept, _answered)
