"""Cells that train on feedback weights of their own, and see what becomes of these."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import localgrad as lg
from localgrad.experiments.reproduce.study import Cell, Result
from localgrad.experiments.reproduce.training_cells import trainer_of
from localgrad.experiments.training import Config, Trainer
from localgrad.experiments.training.feedback import forward, undecayed

POINTS = 20
"""So many times over a training, besides its start, it is measured."""


def feedback_cell(key: str, config: Config, decay: float) -> Cell:
    """A cell that trains all seeds of a configuration at once.

    With "decayed" feedback both weights have this `decay`, per unit of learning rate.

    Its result has ``steps``, at which it was measured, ``accuracy`` (epochs x seeds, from 0 to 1),
    ``diverged`` (whether a loss or a weight was not finite; the training ends there), and by name
    of a weight, measurements x seeds:

    ``gradients``: the cosine of the rule's gradient and backpropagation's on a held-out batch.
    ``weights``: the cosine of a weight and its feedback weight; not of the first layer's, for
    nothing travels back through it. Empty where there are none; so are the others:
    ``gap``: ``|W - psi| / |W_0 - psi_0|``, relative to their distance at the start.
    ``drift``: ``|(W - psi) - (W_0 - psi_0)| / |W_0 - psi_0|``.
    """
    settings = config.as_dict() | {"points": POINTS, "decay": decay}
    return Cell(key, settings, partial(_train, config, decay))


def _train(config: Config, decay: float) -> Result:
    trainer = trainer_of(config)
    measure = _measure(trainer)
    begin = trainer.start()
    if config.feedback == "decayed":
        begin = begin._replace(params=replace(begin.params, decay=decay))
    every = max(1, trainer.total_steps // POINTS)
    names = ("gradients", "weights", "gap", "drift")
    found: Result = {"steps": [], "accuracy": [], "diverged": False, **{name: {} for name in names}}

    def see(step: int, params: Any) -> None:
        found["steps"].append(step)
        seeds = range(len(trainer.seeds))
        each = [
            measure(trainer.of_seed(params, k), trainer.of_seed(begin.params, k)) for k in seeds
        ]
        for what in names:
            for weight in each[0][what]:
                numbers = [float(one[what][weight]) for one in each]
                found[what].setdefault(weight, []).append(numbers)

    def next_stop(step: int) -> int:
        return min((step // n + 1) * n for n in (every, trainer.steps_per_epoch))

    see(0, begin.params)
    for window in trainer.windows(begin, 0, next_stop):
        if not window.is_finite:
            found["diverged"] = True
            break
        if window.step % every == 0:
            see(window.step, window.state.params)
        if window.step % trainer.steps_per_epoch == 0:
            found["accuracy"].append(np.atleast_1d(trainer.accuracy(window.state.params)).tolist())
    return found


def _measure(trainer: Trainer) -> Callable[[Any, Any], Any]:
    """Of one seed's parameters, now and at the start."""
    gradients = [trainer.local(lg.grad), lg.grad(trainer.loss, rule=lg.Backprop())]
    batch = trainer.held_out

    @jax.jit
    def measure(params: Any, begin: Any) -> dict[str, dict[str, Any]]:
        # Decay is a part of what synapses learn, and is no gradient.
        g, b = (forward(gradient(undecayed(params), *batch)) for gradient in gradients)
        if not isinstance(params, lg.Synapses):
            return {"gradients": _cosines(g, b), "weights": {}, "gap": {}, "drift": {}}
        now, then = (dict(_differences(p)) for p in (params, begin))
        return {
            "gradients": _cosines(g, b),
            "weights": dict(list(_cosines(params.forward, params.backward).items())[1:]),
            "gap": {name: _length(now[name]) / _length(then[name]) for name in now},
            "drift": {name: _length(now[name] - then[name]) / _length(then[name]) for name in now},
        }

    return measure


def _matrices(tree: Any) -> Iterator[tuple[str, Any]]:
    """Weights by their paths; biases have no feedback weights."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if leaf.ndim > 1:
            yield jax.tree_util.keystr(path).removeprefix("."), leaf


def _cosines(first: Any, second: Any) -> dict[str, Any]:
    pairs = zip(_matrices(first), _matrices(second), strict=True)
    return {name: _cosine(a, b) for (name, a), (_, b) in pairs}


def _cosine(a: Any, b: Any) -> Any:
    return jnp.vdot(a, b) / (_length(a) * _length(b))


def _differences(synapses: lg.Synapses) -> Iterator[tuple[str, Any]]:
    pairs = zip(_matrices(synapses.forward), _matrices(synapses.backward), strict=True)
    return ((name, w - psi) for (name, w), (_, psi) in pairs)


def _length(x: Any) -> Any:
    return jnp.linalg.norm(jnp.ravel(x))
