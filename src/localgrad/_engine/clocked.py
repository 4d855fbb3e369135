"""Simulation with a clock: every vertex is told the time and its level."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from localgrad._engine.problem import Problem
from localgrad._engine.simulation import Simulation, fitted, typed
from localgrad._graph import State, each


class Moment(NamedTuple):
    """The states of all neurons, and the time in steps since the forward pass."""

    neurons: State
    time: Any


class Clocked(Simulation):
    """A levelled network, for as many steps as it has levels; stored values are what is learned."""

    def __init__(self, rule: Any, problem: Problem) -> None:
        super().__init__(rule, problem)
        self._fitted = each(fitted, self.levels, self.stored)

    @property
    def steps(self) -> int:
        """As many as there are levels."""
        return self.depth

    def begin(self) -> Moment:
        return Moment(super().begin(), jnp.zeros((), jnp.int32))

    def neurons(self, state: Moment) -> State:
        return state.neurons

    def errors(self, state: Moment, predictions: State) -> State:
        def error(neuron: Any, prediction: Any, level: Any) -> Any:
            return self.rule.error(neuron, prediction, level, state.time)

        return each(error, state.neurons, predictions, self._fitted)

    def plastic(self, state: Moment) -> State:
        return each(lambda level: state.time == level, self.levels)

    def step(self, state: Moment, outside: None = None) -> Moment:
        def update(neuron: Any, *args: Any) -> Any:
            return self.rule.update(neuron, *args, state.time)

        neurons = each(typed(update), state.neurons, *self.signals(state), self._fitted)
        return Moment(neurons, state.time + 1)
