"""Gradients and trainings with few inference steps: the networks, the rules, the cosines."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import localgrad as lg
from localgrad.experiments.reproduce.study import Result, Scale, Setup
from localgrad.experiments.reproduce.training_cells import trainer_of
from localgrad.experiments.training import Config

RULES: dict[str, Callable[..., lg.Rule]] = {
    "IL": partial(lg.InferenceLearning, nudge=0.5),
    "fixed prediction": lg.FixedPrediction,
    "AR": partial(lg.ActivationRelaxation, start="activity"),
}
"""Rules of steps and rate. The loss is a sum of squares: at nudge 1/2 IL has the classical energy,
and AR has the gradients against its activities that it was published with."""

RATES = (0.2, 1.0)
TRAINED_AT = {"IL": 0.2, "fixed prediction": 1.0, "AR": 1.0}
"""The rates at which errors travel fastest; IL does not settle at rate 1."""

DEPTHS = {Scale.QUICK: (2, 4, 8), Scale.DEFAULT: (2, 4, 8), Scale.FULL: (2, 4, 8, 16)}
"""Hidden layers: so many steps an error takes to the weights of the first one, at least."""


def config(setup: Setup, depth: int, rule: lg.Rule) -> Config:
    """A training of so many hidden layers; Adam, for there is time for few epochs."""
    data, width, epochs, seeds = {
        Scale.QUICK: ("digits", 64, 20, 2),
        Scale.DEFAULT: ("mnist", 128, 2, 3),
        Scale.FULL: ("mnist", 512, 20, 5),
    }[setup.scale]
    return Config(
        data=data,
        folder=setup.folder,
        model="mlp",
        hidden=(width,) * depth,
        rule=rule,
        loss="squared-sum",
        epochs=epochs,
        batch_size=64,
        optimiser="adamw",
        learning_rate=1e-3,
        schedule="constant",
        weight_decay=0.0,
        seed=setup.seed,
        seeds=setup.seeds or seeds,
    )


def counts(depth: int) -> tuple[int, ...]:
    """Steps, from one to far more than there are layers; up to 8, all of them."""
    around = {depth // 2, depth - 1, depth, depth + 1, 2 * depth, 8 * depth}
    return tuple(sorted({*range(1, min(2 * depth, 9)), *around}))


def trained_depths(setup: Setup) -> tuple[int, ...]:
    """The depths that are trained. In two hidden layers there is little to lose."""
    return DEPTHS[setup.scale][1:]


def trained_steps(depth: int) -> tuple[int, ...]:
    """Steps that networks are trained with."""
    return 1, depth // 2, depth, 2 * depth


def sweep(swept: Config, name: str, counts: Sequence[int]) -> Result:
    """By measure of `MEASURES`, rate and number of steps, the cosine to backpropagation."""
    with jax.enable_x64(True):
        trainer = trainer_of(swept)
        params, batch = trainer.model.params, trainer.batch(0)
        exact = jax.grad(trainer.loss)(params, *batch)
        found: dict[str, dict[str, list[float]]] = {
            measure: {f"{rate:g}": [] for rate in RATES} for measure in MEASURES
        }
        for count in counts:

            @jax.jit
            def gradient(rate: Any, *args: Any, count: int = count) -> Any:
                rule = RULES[name](steps=count, rate=rate)
                return lg.grad(trainer.loss, rule=rule)(*args)

            for rate in RATES:
                got = gradient(rate, params, *batch)
                for measure, cosine in MEASURES.items():
                    found[measure][f"{rate:g}"].append(cosine(got, exact))
    return {"counts": list(counts), "cosine": found}


def _of_layers(g: Any, b: Any) -> float:
    pairs = zip(jax.tree.leaves(g), jax.tree.leaves(b), strict=True)
    return float(np.mean([_cosine(*pair) for pair in pairs if pair[0].ndim > 1]))


def _of_all(g: Any, b: Any) -> float:
    return _cosine(ravel_pytree(g)[0], ravel_pytree(b)[0])


def _cosine(g: Any, b: Any) -> float:
    norms = float(jnp.linalg.norm(g) * jnp.linalg.norm(b))
    return float(jnp.vdot(g, b)) / norms if norms else 0.0


LAYERS, ALL = "mean of layers", "all parameters"
MEASURES: dict[str, Callable[[Any, Any], float]] = {LAYERS: _of_layers, ALL: _of_all}
"""Two cosines: the mean over the weight matrices, 0 for one that nothing has reached; and that of
the whole gradient as one vector, in which the last layers are the longest."""
