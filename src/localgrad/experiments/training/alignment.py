"""How a rule's gradient stands to backpropagation's during training, leaf by leaf."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import localgrad as lg
from localgrad.experiments.training.feedback import forward, undecayed
from localgrad.experiments.training.trainer import Trainer

Alignment = dict[str, dict[str, list[float] | float]]
"""By measure, then by leaf: a number, or one per seed."""


class Measure:
    """Measures alignment on one held-out batch, both gradients in one compiled program.

    With g the rule's gradient and b backpropagation's: ``cosine`` is ``<g, b> / (|g| |b|)`` (nan
    where either is zero), ``ratio`` is ``|g| / |b|``, ``max_rel`` is ``max |g - b| / max |b|``.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._batch = trainer.held_out
        gradients = [trainer.local(lg.grad), lg.grad(trainer.loss, rule=lg.Backprop())]

        def measure(params: Any, *batch: Any) -> Any:
            g, b = (forward(gradient(undecayed(params), *batch)) for gradient in gradients)
            return jax.tree.map(_compared, g, b)

        over_seeds = len(trainer.seeds) > 1
        axes = (0, None, None)
        self._measure: Callable[..., Any] = jax.jit(
            jax.vmap(measure, axes) if over_seeds else measure
        )

    def __call__(self, params: Any) -> Any:
        """The alignment at these parameters, on the device: a pytree for `by_measure`."""
        return self._measure(params, *self._batch)

    @staticmethod
    def by_measure(found: Any) -> Alignment:
        """What was measured, once it has been fetched."""
        is_leaf = lambda x: isinstance(x, dict) and "cosine" in x  # noqa: E731
        leaves = jax.tree_util.tree_leaves_with_path(found, is_leaf=is_leaf)
        return {
            measure: {jax.tree_util.keystr(path): leaf[measure].tolist() for path, leaf in leaves}
            for measure in ("cosine", "ratio", "max_rel")
        }


def _compared(g: Any, b: Any) -> dict[str, Any]:
    norm_g, norm_b = (jnp.linalg.norm(jnp.ravel(x)) for x in (g, b))
    return {
        # Rounding must not make it larger than 1: its angle would not be a number.
        "cosine": jnp.clip(jnp.vdot(b, g).real / (norm_g * norm_b), -1, 1),
        "ratio": norm_g / norm_b,
        "max_rel": jnp.max(jnp.abs(g - b)) / jnp.max(jnp.abs(b)),
    }
