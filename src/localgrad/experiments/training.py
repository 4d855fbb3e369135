"""Training a classifier with a learning rule: steps, evaluation, timing, comparison."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

import localgrad as lg
from localgrad.experiments.data import batch_indices, load, steps_per_epoch
from localgrad.experiments.losses import LOSSES
from localgrad.experiments.models import Params, build

WEIGHT_DECAY = 0.3
EVALUATED = 1000
"""So many examples of the test set at a time."""

Step = Callable[
    [Params, optax.OptState, ArrayLike, ArrayLike], tuple[Params, optax.OptState, Array]
]
"""(params, optimiser state, inputs, labels) -> (params, optimiser state, loss before the step)."""


class DivergedError(ArithmeticError):
    """The loss stopped being finite."""


@dataclass(frozen=True)
class Config:
    """What to train and how. The same configuration gives the same parameters, bit for bit.

    ``learning_rate`` is AdamW's at the first step; it falls to zero along a half cosine.
    An empty ``hidden`` stands for the model's default sizes. ``data`` and ``folder`` are what
    `localgrad.experiments.data.load` takes, ``loss`` is one of
    `localgrad.experiments.losses.LOSSES`, ``vertices`` is what `localgrad.grad` takes.
    """

    model: str = "mlp"
    rule: lg.Rule = field(default_factory=lg.ZIL)
    hidden: tuple[int, ...] = ()
    epochs: int = 40
    batch_size: int = 32
    learning_rate: float = 2e-3
    seed: int = 0
    data: str = "digits"
    folder: str | None = None
    loss: str = "cross-entropy"
    vertices: str | None = None


@dataclass(frozen=True, eq=False)
class Metrics:
    """What one training step left behind.

    ``step`` counts the steps done. ``loss`` is the batch's, before its update, averaged over its
    examples. ``accuracy`` is that of the whole test set, from 0 to 1; None within an epoch.
    """

    step: int
    loss: float
    accuracy: float | None
    params: Params


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

    Raises:
        ValueError: if the configuration makes no sense.
    """

    def __init__(self, config: Config) -> None:
        if config.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {config.epochs}")
        if not config.learning_rate > 0:
            raise ValueError(f"the learning rate must be positive, got {config.learning_rate}")
        if config.seed < 0:
            raise ValueError(f"the seed must not be negative, got {config.seed}")
        if config.loss not in LOSSES:
            raise ValueError(
                f"there is no loss {config.loss!r}; choose one that there is: {', '.join(LOSSES)}"
            )
        self.config = config
        self.data = load(config.data, config.folder, config.seed)
        self.steps_per_epoch = steps_per_epoch(len(self.data.train_labels), config.batch_size)
        self.total_steps = config.epochs * self.steps_per_epoch
        self.model = build(
            config.model,
            config.hidden,
            config.seed,
            shape=self.data.shape,
            classes=self.data.classes,
        )
        rate = optax.cosine_decay_schedule(config.learning_rate, self.total_steps)
        self.optimiser = optax.adamw(rate, weight_decay=WEIGHT_DECAY)
        self.step = self._make_step(
            lg.value_and_grad(self.loss, rule=config.rule, vertices=config.vertices)
        )
        self._outputs = jax.jit(self.model.apply)

    def loss(self, params: Params, inputs: ArrayLike, labels: ArrayLike) -> Array:
        """The loss of a batch, averaged over its examples: a scalar."""
        return LOSSES[self.config.loss](self.model.apply(params, inputs), jnp.asarray(labels))

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and labels of batch number ``step``."""
        chosen = batch_indices(
            self.config.seed, step, len(self.data.train_labels), self.config.batch_size
        )
        return self.data.train_inputs[chosen], self.data.train_labels[chosen]

    def accuracy(self, params: Params) -> float:
        """The fraction of the test set's labels that are predicted correctly."""
        labels = self.data.test_labels
        correct = 0
        for start in range(0, len(labels), EVALUATED):
            part = slice(start, start + EVALUATED)
            outputs = self._outputs(params, self.data.test_inputs[part])
            correct += int(jnp.sum(jnp.argmax(outputs, axis=-1) == labels[part]))
        return correct / labels.size

    def train(self) -> Iterator[Metrics]:
        """Train from the initial parameters; yields after every step.

        Raises:
            DivergedError: at the first loss that is not finite.
        """
        params, state = self.model.params, self.optimiser.init(self.model.params)
        for step in range(self.total_steps):
            params, state, loss = self.step(params, state, *self.batch(step))
            if not math.isfinite(loss):
                raise DivergedError(f"the loss is {float(loss)} at step {step + 1}")
            epoch_is_over = (step + 1) % self.steps_per_epoch == 0
            accuracy = self.accuracy(params) if epoch_is_over else None
            yield Metrics(step + 1, float(loss), accuracy, params)

    def time_steps(self, params: Params, rounds: int = 200, seconds: float = 5.0) -> StepTimes:
        """Time the rule's training step and backpropagation's in turn, on one batch.

        Both are compiled and run once before. Stops after ``rounds`` rounds, or after the first
        one that ends later than ``seconds`` seconds.
        """
        arguments = (params, self.optimiser.init(params), *self.batch(0))
        steps = {
            "rule": self.step,
            "backprop": self._make_step(jax.value_and_grad(self.loss)),
        }
        times: dict[str, list[float]] = {name: [] for name in steps}
        for step in steps.values():
            jax.block_until_ready(step(*arguments))
        end = time.perf_counter() + seconds
        for _ in range(rounds):
            for name, step in steps.items():
                start = time.perf_counter()
                jax.block_until_ready(step(*arguments))
                times[name].append(time.perf_counter() - start)
            if time.perf_counter() > end:
                break
        return StepTimes(
            rule=statistics.median(times["rule"]),
            backprop=statistics.median(times["backprop"]),
            rounds=len(times["rule"]),
        )

    def compare(self, params: Params) -> lg.Comparison:
        """Compare the rule's gradient with backpropagation's on the first batch."""
        compare = lg.compare(self.loss, rule=self.config.rule, vertices=self.config.vertices)
        return compare(params, *self.batch(0))

    def _make_step(self, value_and_grad: Callable[..., Any]) -> Step:
        @jax.jit
        def step(
            params: Params, state: optax.OptState, inputs: Array, labels: Array
        ) -> tuple[Params, optax.OptState, Array]:
            loss, grads = value_and_grad(params, inputs, labels)
            updates, state = self.optimiser.update(grads, state, params)
            return optax.apply_updates(params, updates), state, loss

        return step
