"""A rule on a network: all vertices at once, step after step."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from localgrad._engine.loop import Loop
from localgrad._engine.problem import Derivative, Problem
from localgrad._graph import ARRAYS, Arrays, Levelled, Network, State, each, entries
from localgrad._jaxpr import hoisted


class Neuron(Protocol):
    """What a simulation asks of a rule; every method is about one vertex.

    `state` is whatever `initial` returned or `update` made of it; all other arrays have the shape
    and dtype of the vertex's value.
    """

    steps: int
    nudge: Any
    tolerance: float
    derivatives: str
    levelled: bool
    loop: Loop

    def initial(self, value: Any) -> Any:
        """The state after the forward pass, which gave this value."""
        ...

    def value(self, state: Any, stored: Any) -> Any:
        """What the children read; `stored` is the value of the forward pass."""
        ...

    def error(self, state: Any, prediction: Any) -> Any:
        """The error that is sent to the parents, given the prediction that they make now."""
        ...

    def update(self, state: Any, prediction: Any, error: Any, feedback: Any) -> Any:
        """The state one step later, given the children's feedback."""
        ...

    def learned(self, state: Any, stored: Any) -> Any:
        """The value that the synapses to the children read when they learn."""
        ...


class Signals(NamedTuple):
    """What passes between the vertices at one step, one entry per vertex each."""

    predictions: Any
    errors: Any
    feedback: Any


class Simulation:
    """A problem as a network of neurons that obey a rule; states are pure data.

    Attributes:
        graph, network: The vertices and what connects them.
        leaves, messages, synapses: The parameters, and the inputs of the network when it sends
            messages and when its parameters learn. The leaves come first in both.
        stored: The values of the forward pass.
        loss, aux: The outputs of the forward pass.
        seed: The error of the root, the nudge.
    """

    network: Network

    def __init__(self, rule: Any, problem: Problem) -> None:
        self.rule = rule
        self._build(problem, unrolled=False)
        if rule.levelled and self.network.needs_relays:
            self._build(problem, unrolled=True)
            self.network = Levelled(self.graph)
        (self.loss, *self.aux), self.stored = self.network.forward(self.messages)
        self.seed = jnp.ones_like(self.loss) * rule.nudge

    def _build(self, problem: Problem, unrolled: bool) -> None:
        where = self.rule.derivatives
        gated = where != "everywhere"
        self.graph = problem.graph(opened=True, unrolled=unrolled, units=gated)
        self.network = Network(self.graph)
        self.leaves = list(problem.leaves)

        def inputs(keep: bool) -> list[Any]:
            return [*problem.inputs, *[jnp.bool_(keep)] * gated]

        self.messages = inputs(where in ("everywhere", "messages"))
        self.synapses = inputs(where in ("everywhere", "parameters"))

    @functools.cached_property
    def levels(self) -> State:
        """The longest path from each copy of a vertex to the loss; counted when first asked for."""
        return self.network.levels()

    @property
    def depth(self) -> int:
        """The deepest level of all."""
        return max((int(np.max(level, initial=0)) for level in entries(self.levels)), default=0)

    @property
    def steps(self) -> int:
        """How many steps the rule asks for."""
        return self.rule.steps

    @property
    def outside(self) -> Any:
        """What happens from outside at each step: arrays with the steps on their first axis."""
        return None

    def begin(self) -> Any:
        """The state after the forward pass."""
        return each(self.rule.initial, self.stored)

    def neurons(self, state: Any) -> State:
        """The neurons' own states."""
        return state

    def step(self, state: Any, outside: Any = None) -> Any:
        """All vertices, once, from one snapshot."""
        return each(typed(self.rule.update), state, *self.signals(state))

    def signals(self, state: Any) -> Signals:
        """Predictions, errors and feedback that follow from a state."""
        values = each(self.rule.value, self.neurons(state), self.stored)
        (predictions, _), pull = jax.vjp(
            lambda values: self.network.predict(self.messages, values, self.looped), values
        )
        errors = self.errors(state, predictions)
        (feedback,) = pull((errors, self.seed))
        return Signals(predictions, errors, feedback)

    def errors(self, state: Any, predictions: State) -> State:
        """The errors that the vertices send."""
        return each(self.rule.error, self.neurons(state), predictions)

    def residual(self, state: Any) -> Any:
        """How far from rest the network is: ``max |fb - e| / max |fb|`` over all vertices."""
        _, errors, feedback = self.signals(state)
        distance = each(lambda e, fb: jnp.max(jnp.abs(fb - e), initial=0.0), errors, feedback)
        size = each(lambda fb: jnp.max(jnp.abs(fb), initial=0.0), feedback)
        largest = max_of(size)
        return jnp.where(largest > 0, max_of(distance) / jnp.where(largest > 0, largest, 1), 0)

    def plastic(self, state: Any) -> State:
        """Whether the synapses onto each copy of a vertex learn at this step.

        Without a clock or a trigger of their own they are read by someone else, after the last one.
        """
        return each(lambda level: np.zeros(level.shape, bool), self.levels)

    @property
    def looped(self) -> Arrays:
        """How equations are evaluated inside the loop."""
        return Arrays(self.rule.loop.rewrites)

    def relaxed(self, state: Any) -> tuple[Any, Any]:
        """The state after all steps, or once at rest within the tolerance, and the steps taken."""
        outside, unroll = self.outside, self.rule.loop.unroll
        first = jax.tree.map(lambda x: x[0], outside)
        step = hoisted(lambda now: self.step(*now), (state, first))

        def body(state: Any, outside: Any) -> tuple[Any, None]:
            return step((state, outside)), None

        if not self.rule.tolerance:
            state, _ = lax.scan(body, state, outside, self.steps, unroll=unroll)
            return state, jnp.int32(self.steps)
        distance = hoisted(self.residual, state)

        def continues(now: tuple[Any, Any]) -> Any:
            state, count = now
            return (count < self.steps) & (distance(state) > self.rule.tolerance)

        def onward(now: tuple[Any, Any]) -> tuple[Any, Any]:
            state, count = now
            return step((state, None)), count + 1

        return lax.while_loop(continues, onward, (state, jnp.int32(0)))

    def run(self, state: Any) -> Any:
        """The state after all steps, or once at rest within the tolerance."""
        return self.relaxed(state)[0]

    def gradients(self, state: Any) -> list[Any]:
        """What the synapses of every parameter have learned: their feedback over the nudge."""
        predictions, pull = self.learning(state, ARRAYS)
        return self.shares(pull((self.errors(state, predictions), self.seed)))

    def learning(self, state: Any, kind: Arrays) -> tuple[State, Callable[..., Sequence[Any]]]:
        """The predictions, and the pull of errors of vertices and root to the parameters."""
        values = each(self.rule.learned, self.neurons(state), self.stored)
        rest = self.synapses[len(self.leaves) :]
        (predictions, _), pull = jax.vjp(
            lambda *leaves: self.network.predict([*leaves, *rest], values, kind), *self.leaves
        )
        return predictions, pull

    def shares(self, feedback: Sequence[Any]) -> list[Any]:
        """The feedback of the leaves in units of the loss."""
        return [(fb / self.rule.nudge).astype(fb.dtype) for fb in feedback]

    def derivative(self) -> Derivative:
        """The gradients after all steps."""
        return Derivative(self.loss, self.aux, self.gradients(self.run(self.begin())))


def typed(update: Callable[..., Any]) -> Callable[..., Any]:
    """An update whose results keep the types of the state, whatever the type of the rate."""

    def typed_update(state: Any, *others: Any) -> Any:
        return jax.tree.map(lambda new, old: new.astype(old.dtype), update(state, *others), state)

    return typed_update


def fitted(flag: Any, like: Any) -> Any:
    """One number for each copy of a vertex, with axes that fit those of its values."""
    return flag.reshape(flag.shape + (1,) * (like.ndim - flag.ndim))


def max_of(numbers: State) -> Any:
    """The largest of one number per vertex; not a number if one is."""
    return jnp.max(jnp.stack([jnp.zeros(()), *entries(numbers)]))


class Synchronous:
    """All vertices at once, step after step."""

    def __init__(self, simulation: type[Simulation] = Simulation) -> None:
        self.simulation = simulation

    def __call__(self, rule: Any, problem: Problem) -> Derivative:
        return self.simulation(rule, problem).derivative()
