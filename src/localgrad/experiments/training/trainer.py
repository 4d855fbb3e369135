"""The training step and what is measured of a network: compiled functions of plain pytrees."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax
from jax.typing import ArrayLike

import localgrad as lg
from localgrad.experiments.data import batch_indices, load, order, steps_per_epoch
from localgrad.experiments.losses import LOSSES
from localgrad.experiments.models import Params, build, check_seeds, is_own
from localgrad.experiments.training.config import Config
from localgrad.experiments.training.devices import Devices
from localgrad.experiments.training.feedback import FEEDBACK, forward
from localgrad.experiments.training.optimisers import make_optimiser

EVALUATED = 1000
"""So many examples of the test set at a time."""


class State(NamedTuple):
    """What a step changes. With several seeds every array has an axis for them in front."""

    params: Params
    optimiser: optax.OptState


class Window(NamedTuple):
    """Consecutive steps, done.

    ``step`` counts the steps done at its end, ``losses`` are those of its steps, each before its
    update: an array (steps,), or (steps, seeds). ``before`` is the state before its first step,
    ``is_finite`` whether all losses and the parameters at its end are, ``measured`` what was to be
    measured at its end.
    """

    step: int
    losses: np.ndarray
    state: State
    before: State
    is_finite: bool
    measured: Any


class _Pending(NamedTuple):
    """A window that the device may still be at; its losses and what else is to be fetched."""

    step: int
    state: State
    before: State
    results: tuple[list[Array], Array, Any]

    def fetched(self) -> Window:
        """The window, done: waits for it."""
        losses, finite, measured = jax.device_get(self.results)
        losses = np.stack(losses)
        is_finite = bool(finite and np.isfinite(losses).all())
        return Window(self.step, losses, self.state, self.before, is_finite, measured)


@dataclass(frozen=True)
class StepTimes:
    """Median seconds of one training step, with the rule and with backpropagation."""

    rule: float
    backprop: float
    rounds: int

    @property
    def ratio(self) -> float:
        """The rule's time over backpropagation's."""
        return self.rule / self.backprop


class Trainer:
    """One model, one rule, one data set; all of it follows from the configuration.

    Args:
        config: What to train.
        devices: Where; everywhere by default.

    Raises:
        ValueError: if there is no such model, the configuration does not fit the data, or seeds
            change more than the parameters in a model of your own.
        DataError: if the data cannot be used.
    """

    def __init__(self, config: Config, devices: Devices | None = None) -> None:
        self.config = config
        self.devices = devices or Devices()
        self.data = load(config.data, config.folder, config.seed)
        self.steps_per_epoch = steps_per_epoch(len(self.data.train_labels), config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.seeds = range(config.seed, config.seed + config.seeds)
        made = partial(build, shape=self.data.shape, classes=self.data.classes)
        models = [made(config.model, config.hidden, seed) for seed in self.seeds]
        if is_own(config.model) and len(models) > 1:
            pairs = [(model.params, model.apply) for model in models]
            check_seeds(config.model, pairs, self.seeds, self.held_out[0])
        self.model = models[0]
        weights = FEEDBACK[config.feedback]
        # Not the key of the forward weights, which the feedback weights would else repeat.
        keys = [jax.random.fold_in(jax.random.key(seed), 1) for seed in self.seeds]
        params = [weights(k, model.params) for k, model in zip(keys, models, strict=True)]
        self._initial = self._stacked(params)
        self.optimiser = make_optimiser(
            config.optimiser,
            config.schedule,
            config.learning_rate,
            config.weight_decay,
            self.total_steps,
        )
        self._order: tuple[int, Array] | None = None

    def loss(self, params: Params, inputs: ArrayLike, labels: ArrayLike) -> Array:
        """The loss of a batch: a scalar."""
        return LOSSES[self.config.loss](self.model.apply(params, inputs), jnp.asarray(labels))

    def batch(self, step: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of batch number ``step``, of the first seed or of another."""
        examples, size = len(self.data.train_labels), self.config.batch_size
        chosen = batch_indices(self.seeds[seed], step, examples, size)
        return self.data.train_inputs[chosen], self.data.train_labels[chosen]

    @property
    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch of the test set, to measure gradients on."""
        size = self.config.batch_size
        return self.data.test_inputs[:size], self.data.test_labels[:size]

    def start(self) -> State:
        """The state before the first step.

        Raises:
            ValueError: if a batch cannot be divided among the devices.
        """
        self.devices.check(self.config.batch_size)
        return self._begun(self.devices.copied(self._initial))

    def windows(
        self,
        state: State,
        step: int,
        next_stop: Callable[[int], int],
        measure: Callable[[int, State], Any] = lambda step, state: None,
    ) -> Iterator[Window]:
        """Train from a state that ``step`` steps have led to, to the end.

        Steps are handed to the device without waiting for it. A window is fetched once the next
        one has been handed over, so that the device has work while its results are looked at. Where
        programs do not run in their order, each step is waited for, and each window.

        Args:
            state: Where to begin.
            step: The steps that led there.
            next_stop: At which step the window after a step ends; asked one window ahead.
            measure: Of the steps done and the state at the end of a window: a pytree of arrays,
                computed after its steps and fetched with its losses.
        """
        ahead: deque[_Pending] = deque()
        while step < self.total_steps:
            before, stop, losses = state, min(next_stop(step), self.total_steps), []
            leaves = jax.tree.leaves(state)
            for k in range(step, stop):
                leaves, loss = self._advance(leaves, k)
                losses.append(loss)
            step, state = stop, self._structure.unflatten(leaves)
            results = losses, all_finite(state.params), measure(step, state)
            ahead.append(_Pending(step, state, before, results))
            if len(ahead) > self.devices.are_in_order:
                yield ahead.popleft().fetched()
        yield from (pending.fetched() for pending in ahead)

    def advance(self, state: State, step: int) -> tuple[State, Array]:
        """Do step number ``step``: the state after it, and the loss before it."""
        leaves, loss = self._advance(jax.tree.leaves(state), step)
        return self._structure.unflatten(leaves), loss

    def _advance(self, leaves: list[Array], step: int) -> tuple[list[Array], Array]:
        """The same of a state's leaves: to flatten modules takes as long as a small step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        done = self._step(leaves, self._order_of(epoch), position, *self._examples)
        return done if self.devices.are_in_order else jax.block_until_ready(done)

    def accuracy(self, params: Params) -> np.ndarray:
        """The fraction of the test set's labels predicted correctly; of each seed, if several."""
        return self.fraction(self.correct(params))

    def fraction(self, correct: ArrayLike) -> np.ndarray:
        """So many correct predictions as a fraction of the test set's labels."""
        return np.asarray(correct) / self.data.test_labels.size

    def correct(self, params: Params) -> ArrayLike:
        """How many of the test set's labels are predicted correctly, without waiting for it."""
        correct: Any = 0
        for start in range(0, len(self.data.test_labels), EVALUATED):
            part = slice(start, start + EVALUATED)
            examples = self.data.test_inputs[part], self.data.test_labels[part]
            correct += self._hits(params, *examples)
        return correct

    def of_seed(self, params: Params, seed: int = 0) -> Params:
        """The parameters of one seed, by its number."""
        return jax.tree.map(lambda x: x[seed], params) if len(self.seeds) > 1 else params

    def compare(self, params: Params) -> lg.Comparison:
        """Compare the rule's gradient with backpropagation's on the first batch.

        Of the first seed alone, on one device, whatever the trainer has.
        """
        compared: lg.Comparison = self.local(lg.compare)(self._alone(params), *self.batch(0))
        return compared

    def time_steps(self, params: Params, rounds: int = 200, seconds: float = 5.0) -> StepTimes:
        """Time the rule's training step and backpropagation's in turn, on one batch.

        Of the first seed alone, on one device, whatever the trainer has. Both are compiled and run
        once before. Stops after ``rounds`` rounds, or after the first one that ends later than
        ``seconds`` seconds.
        """
        weights = self._alone(params)
        sides = {
            "rule": (self.local(lg.value_and_grad), weights),
            "backprop": (jax.value_and_grad(self.loss), forward(weights)),
        }
        steps = {
            name: partial(
                jax.jit(partial(self.update, value_and_grad)),
                State(params, self.optimiser.init(params)),
                *self.batch(0),
            )
            for name, (value_and_grad, params) in sides.items()
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for step in steps.values():
            jax.block_until_ready(step())
        end = time.perf_counter() + seconds
        for _ in range(rounds):
            for name, step in steps.items():
                start = time.perf_counter()
                jax.block_until_ready(step())
                times[name].append(time.perf_counter() - start)
            if time.perf_counter() > end:
                break
        return StepTimes(
            rule=statistics.median(times["rule"]),
            backprop=statistics.median(times["backprop"]),
            rounds=len(times["rule"]),
        )

    def local(self, transform: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """The loss under `lg.grad`, `lg.record` or the like, by the configuration's rule.

        Returns:
            A function of parameters (of one seed), inputs and labels.
        """
        rule, vertices = self.config.rule, self.config.vertices
        return transform(self.loss, rule=rule, vertices=vertices, **options)

    def _alone(self, params: Params) -> Params:
        """The parameters of the first seed on one device."""
        return jax.device_put(self.of_seed(params), jax.local_devices()[0])

    @cached_property
    def _examples(self) -> tuple[Array, Array]:
        return self.devices.copied((self.data.train_inputs, self.data.train_labels))

    def _order_of(self, epoch: int) -> Array:
        """The order of an epoch's examples, of each seed."""
        if self._order is None or self._order[0] != epoch:
            examples = len(self.data.train_labels)
            orders = [order(seed, epoch, examples).astype(np.int32) for seed in self.seeds]
            self._order = epoch, self.devices.copied(self._stacked(orders))
        return self._order[1]

    def _begun(self, params: Params) -> State:
        return State(params, self.devices.copied(self._each(self.optimiser.init)(params)))

    @cached_property
    def _structure(self) -> Any:
        """Of a state."""
        return jax.tree.structure(jax.eval_shape(self._begun, self._initial))

    @cached_property
    def _step(self) -> Callable[..., tuple[list[Array], Array]]:
        size = self.config.batch_size

        def step(
            leaves: list[Array], order: Array, position: Array, inputs: Array, labels: Array
        ) -> tuple[list[Array], Array]:
            def one(state: State, order: Array) -> tuple[State, Array]:
                chosen = lax.dynamic_slice_in_dim(order, position * size, size)
                batch = [self.devices.divided(examples[chosen]) for examples in (inputs, labels)]
                return self.update(self.local(lg.value_and_grad), state, *batch)

            state, loss = self._each(one)(self._structure.unflatten(leaves), order)
            return jax.tree.leaves(state), loss

        return jax.jit(step, out_shardings=self.devices.everywhere)

    def update(
        self, value_and_grad: Callable[..., Any], state: State, inputs: Array, labels: Array
    ) -> tuple[State, Array]:
        """One update of one seed: the state after it, and the loss before it."""
        loss, grads = value_and_grad(state.params, inputs, labels)
        updates, optimiser = self.optimiser.update(grads, state.optimiser, state.params)
        return State(optax.apply_updates(state.params, updates), optimiser), loss

    @cached_property
    def _hits(self) -> Callable[..., Array]:
        def hits(params: Params, inputs: Array, labels: Array) -> Array:
            apply = self._each(lambda params: self.model.apply(forward(params), inputs))
            outputs = apply(params)
            right = jnp.argmax(outputs, axis=-1) == labels
            return jnp.sum(right, axis=tuple(range(len(self.seeds) > 1, right.ndim)))

        return jax.jit(hits)

    def _each(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """A function of one seed as a function of all."""
        return jax.vmap(f) if len(self.seeds) > 1 else f

    def _stacked(self, trees: list[Any]) -> Any:
        """What the seeds have, on an axis in front; as it is if there is one seed."""
        if len(trees) == 1:
            return trees[0]
        # Leaf by leaf: a class that is defined inside a function is another one at every call.
        leaves = zip(*map(jax.tree.leaves, trees), strict=True)
        return jax.tree.unflatten(jax.tree.structure(trees[0]), map(np.stack, leaves))


@jax.jit
def all_finite(tree: Any) -> Array:
    """Whether all numbers of a pytree are."""
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]))
