"""Training beside backpropagation: the same batches, and the same weights to begin with."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import localgrad as lg
from localgrad.experiments.reproduce.study import Result
from localgrad.experiments.reproduce.training_cells import trainer_of
from localgrad.experiments.training import Config, Trainer
from localgrad.experiments.training.trainer import Window


def beside(config: Config, dtype: str, roundings: int = 0) -> Result:
    """Train all seeds of a configuration, and all of them by backpropagation.

    Args:
        config: With symmetric feedback.
        dtype: In which both are trained.
        roundings: So many relative roundings off begin the weights of the configuration's own.

    Returns:
        After every epoch and of every seed, as (epochs, seeds): ``accuracy`` and ``backprop``, of
        the test set, from 0 to 1; ``distance``, ``|w - b| / |b|`` of all weights w from those of
        backpropagation b; ``moved``, the same of b from the weights that it began with.
    """
    with jax.enable_x64(dtype == "float64"):
        trainer, twin = (trainer_of(c) for c in (config, replace(config, rule=lg.Backprop())))
        begin = twin.start().params
        found: Result = {"accuracy": [], "backprop": [], "distance": [], "moved": []}
        for ours, theirs in zip(epochs(trainer, roundings), epochs(twin), strict=True):
            w, b = ours.state.params, theirs.state.params
            found["accuracy"].append(np.atleast_1d(trainer.accuracy(w)).tolist())
            found["backprop"].append(np.atleast_1d(twin.accuracy(b)).tolist())
            for name, a in (("distance", w), ("moved", begin)):
                pairs = [(twin.of_seed(a, k), twin.of_seed(b, k)) for k in range(config.seeds)]
                found[name].append([float(apart(*pair)) for pair in pairs])
    return found


def epochs(trainer: Trainer, roundings: int = 0) -> Iterator[Window]:
    """Train; the state after each epoch."""
    state = trainer.start()
    params = jax.tree.map(lambda x: x * (1 + roundings * np.finfo(x.dtype).eps), state.params)
    every = trainer.steps_per_epoch
    return trainer.windows(state._replace(params=params), 0, lambda step: step + every)


def apart(got: Any, want: Any) -> jax.Array:
    """`|got - want| / |want|`, Euclidean, of all leaves together."""
    return _length(jax.tree.map(jnp.subtract, got, want)) / _length(want)


def _length(tree: Any) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))
