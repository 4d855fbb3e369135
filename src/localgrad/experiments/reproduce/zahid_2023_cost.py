"""What a gradient costs: work, time, and steps that have to wait for each other."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import localgrad as lg
from localgrad.experiments.losses import LOSSES
from localgrad.experiments.models import build
from localgrad.experiments.reproduce.study import Result
from localgrad.experiments.reproduce.training_cells import trainer_of
from localgrad.experiments.training import Config

NET, SHAPE, BATCH = (300, 300, 100), (1, 28, 28), 64
"""The perceptron of activation relaxation, 784-300-300-100-10."""

COSTS: dict[str, tuple[Callable[..., lg.Rule], int | None]] = {
    "backpropagation": (lg.Backprop, None),
    "Z-IL": (lg.ZIL, None),
    "Z-IL by the clock": (partial(lg.ZIL, clock=True), None),
    "Fa-Z-IL": (lg.FaZIL, None),
    "AR, rate 1, 3 sweeps": (partial(lg.ActivationRelaxation, rate=1.0), 3),
    "AR, rate .1, 100 sweeps": (partial(lg.ActivationRelaxation, rate=0.1), 100),
    "fixed prediction, rate 1, 3 steps": (partial(lg.FixedPrediction, rate=1.0), 3),
    "fixed prediction, rate .2, 100 steps": (partial(lg.FixedPrediction, rate=0.2), 100),
    "IL, rate .1, 64 steps": (partial(lg.InferenceLearning, rate=0.1), 64),
}
"""By name: a rule, and how many steps it takes, where that is for the user to say."""

EXPECTED = {"AR, rate 1, 3 sweeps": 1.29, "AR, rate .1, 100 sweeps": 15.4}
"""Multiply-adds over backpropagation's, counted by hand from the sizes of the layers."""

COUNTED = (2, 3)
"""So many steps are counted, and a straight line drawn through them."""

STAGES = {"IL": 2, "fixed prediction": 1, "AR": 1}
"""Matrix products after each other in one step: IL predicts anew before it passes errors back."""


def rule_of(name: str) -> lg.Rule:
    """A rule of `COSTS` with all its steps."""
    rule, steps = COSTS[name]
    return rule() if steps is None else rule(steps=steps)


def cost(config: Config, name: str) -> Result:
    """A gradient's multiply-adds and a training step's time, both over backpropagation's."""
    trainer = trainer_of(replace(config, rule=rule_of(name), seeds=1))
    times = trainer.time_steps(trainer.model.params, seconds=3.0)
    return {
        "work": _work(name) / _work("backpropagation"),
        "time": times.ratio,
        "milliseconds": 1e3 * times.rule,
        "rounds": times.rounds,
    }


def stages(name: str, layers: int, steps: int) -> int:
    """Matrix products after each other where all vertices work at once: the time in parallel.

    A forward pass through all layers, the steps, and the parameters' gradients. Backpropagation
    has twice as many as there are layers.
    """
    return layers + steps * STAGES[name] + 1


def _work(name: str) -> float:
    """Operations of one gradient in the compiled program."""
    rule, steps = COSTS[name]
    if steps is not None:
        few, more = (_operations(rule(steps=k, loop=lg.Loop(unroll=k))) for k in COUNTED)
        return few + (more - few) / (COUNTED[1] - COUNTED[0]) * (steps - COUNTED[0])
    # The compiler counts the body of a loop once: open it.
    is_loop = name in ("Z-IL by the clock", "Fa-Z-IL")
    return _operations(rule(loop=lg.Loop(unroll=16)) if is_loop else rule())


def _operations(rule: lg.Rule) -> float:
    model = build("mlp-ar", NET, 0, shape=SHAPE)
    inputs, labels = jnp.zeros((BATCH, *SHAPE)), jnp.zeros(BATCH, jnp.int32)

    def loss(params: Any, inputs: Any, labels: Any) -> Any:
        return LOSSES["squared"](model.apply(params, inputs), labels)

    gradient = jax.jit(lg.grad(loss, rule=rule))
    analysis: Any = gradient.lower(model.params, inputs, labels).compile().cost_analysis()
    return float(analysis["flops"])
