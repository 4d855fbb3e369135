"""Which vertex was the first with a value or an error that is not finite, and at which step."""

from typing import Any

import jax
import numpy as np

import localgrad as lg
from localgrad.experiments.training.trainer import Trainer, Window, all_finite


class DivergedError(ArithmeticError):
    """The loss or the parameters stopped being finite.

    Attributes:
        step: The step that did it, counted from 1.
        cause: Where it came from: a parameter, or a vertex with its source line.
    """

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(f"not finite at step {step}: {cause}")
        self.step, self.cause = step, cause


def check(trainer: Trainer, window: Window) -> None:
    """See to it that all losses of a window and the parameters at its end are finite.

    Steps are pure functions, so that a window can be run again to find the one that went wrong.

    Raises:
        DivergedError: if something is not.
    """
    if window.is_finite:
        return
    state = window.before
    for step in range(window.step - len(window.losses), window.step):
        after, loss = trainer.advance(state, step)
        finite = np.isfinite(np.atleast_1d(loss))
        for k, seed in enumerate(trainer.seeds):
            if not (finite[k] and all_finite(trainer.of_seed(after.params, k))):
                cause = first_cause(trainer, trainer.of_seed(state.params, k), step, k)
                name = f"seed {seed}, " if len(trainer.seeds) > 1 else ""
                raise DivergedError(step + 1, f"{name}{cause}")
        state = after


def first_cause(trainer: Trainer, params: Any, step: int, seed: int) -> str:
    """What is not finite first: a value of the forward pass, an error, a gradient, an update.

    The parameters are those before the step, and are finite.
    """
    batch = trainer.batch(step, seed)
    exact = lg.FixedPrediction(steps=1)
    forward = lg.record(trainer.loss, rule=exact)(params, *batch)
    for vertex in forward.vertices:
        if not np.isfinite(vertex.value[0]).all():
            return f"the value of vertex {_place(forward, vertex.name)} in the forward pass"
    if not isinstance(trainer.config.rule, lg.Backprop | lg.ZIL):
        inference = trainer.local(lg.record, only=[])(params, *batch)
        if inference.not_finite:
            name, time = min(inference.not_finite.items(), key=lambda found: found[1])
            return f"vertex {_place(inference, name)} at inference step {time}"
    gradients = trainer.local(lg.grad)(params, *batch)
    for name, leaf in named(gradients).items():
        if not np.isfinite(leaf).all():
            return f"the gradient of {name}, though all values and errors are finite"
    return "the update of the parameters, though their gradients are finite"


def named(params: Any) -> dict[str, np.ndarray]:
    """The leaves of a pytree by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _place(recording: lg.Recording, name: str) -> str:
    """A vertex with its source line, where that is known."""
    sources = {vertex.name: vertex.source for vertex in recording.graph.vertices}
    source = sources.get(name, "")
    return f"{name} ({source})" if source.rpartition(":")[2].isdigit() else name
