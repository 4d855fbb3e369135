"""Simulation without control: one dynamics for ever, in which the target appears some time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from localgrad._engine.problem import Problem
from localgrad._engine.simulation import Signals, Simulation, fitted, typed
from localgrad._graph import State, each


class Moment(NamedTuple):
    """What is in the network at one time.

    `moved` tells of every vertex whether its value changed in the last step, `learned` is what the
    synapses of each leaf have collected so far.
    """

    neurons: State
    root: Any
    moved: State
    learned: Sequence[Any]


class Autonomous(Simulation):
    """A levelled network whose synapses learn at every step, wherever their neurons are plastic.

    From outside only two things happen: the input is presented, and later the target is, which
    switches the root's error from 0 to the nudge. A vertex whose parents have not moved keeps its
    prediction to the last bit, for the compiler may round it differently each time.
    """

    def __init__(self, rule: Any, problem: Problem) -> None:
        super().__init__(rule, problem)
        # The copies of a vertex, in a scan or in a chain of relays, are vertices: one flag each.
        self._copies = each(lambda level: level.shape, self.levels)

    @property
    def steps(self) -> int:
        """Until the wave has passed the lowest synapse, and the waiting times."""
        return self.rule.wait_before + 1 + self.depth + 1 + self.rule.wait_after

    @property
    def outside(self) -> Any:
        """Whether the target is there."""
        return jnp.arange(self.steps) >= self.rule.wait_before

    def begin(self) -> Moment:
        """The input has just been presented."""
        values = each(self.rule.first, self.stored)
        predictions, loss = self.network.predict(self.messages, values, self.looped)
        return Moment(
            neurons=each(self.rule.initial, values, predictions),
            root=self.rule.initial(loss, loss),
            moved=each(lambda shape: jnp.zeros(shape, bool), self._copies),
            learned=[jnp.zeros_like(leaf) for leaf in self.leaves],
        )

    def neurons(self, state: Moment) -> State:
        return state.neurons

    def step(self, state: Moment, outside: Any = True) -> Moment:
        signals, root = self._signals(state)
        plastic = each(self.rule.plasticity, state.neurons, signals.errors)
        _, pull = self.learning(state, self.looped)
        learned = pull((plastic, self.rule.plasticity(state.root, root.errors)))
        neurons = each(typed(self.rule.update), state.neurons, *signals, self._pulses(state))
        nudge = jnp.where(outside, self.seed, 0)
        return Moment(
            neurons=neurons,
            root=typed(self.rule.update)(state.root, *root._replace(feedback=nudge), outside),
            moved=each(_changed, state.neurons, neurons, self._copies),
            learned=[a + b for a, b in zip(state.learned, learned, strict=True)],
        )

    def signals(self, state: Moment) -> Signals:
        return self._signals(state)[0]

    def plastic(self, state: Moment) -> State:
        return each(lambda neuron, shape: _any(neuron.phi, shape), state.neurons, self._copies)

    def gradients(self, state: Moment) -> list[Any]:
        return self.shares(state.learned)

    def _signals(self, state: Moment) -> tuple[Signals, Signals]:
        """What passes between the vertices, and what the root sees and sends."""
        values = each(self.rule.value, state.neurons, self.stored)
        (predictions, loss), pull = jax.vjp(
            lambda values: self.network.predict(self.messages, values, self.looped), values
        )
        moved, root_moved = self.network.joined(each(_number, state.moved))
        predictions = each(_kept, predictions, state.neurons, moved)
        loss = _kept(loss, state.root, root_moved)
        errors = each(self.rule.error, state.neurons, predictions)
        root_error = state.root.error  # of the target alone: the loss has no other
        (feedback,) = pull((errors, root_error))
        return Signals(predictions, errors, feedback), Signals(loss, root_error, None)

    def _pulses(self, state: Moment) -> State:
        """Of each vertex, whether any of its children is plastic now."""
        raised = each(lambda n, shape: _number(_any(n.phi, shape)), state.neurons, self._copies)
        _, pull = jax.vjp(self.network.joined, raised)
        (pulses,) = pull((raised, _number(jnp.any(state.root.phi))))
        return each(lambda pulse, neuron: fitted(pulse > 0, neuron.phi), pulses, state.neurons)


def _kept(new: Any, neuron: Any, moved: Any) -> Any:
    """The new prediction if any parent has moved, else the old one."""
    return jnp.where(fitted(moved > 0, new), new, neuron.prediction)


def _changed(old: Any, new: Any, copies: tuple[int, ...]) -> Any:
    return _any(old.value != new.value, copies)


def _any(flags: Any, copies: tuple[int, ...]) -> Any:
    """One flag for each copy of a vertex."""
    return jnp.any(flags, axis=tuple(range(len(copies), flags.ndim)))


def _number(flag: Any) -> Any:
    return flag.astype(jnp.float32)
