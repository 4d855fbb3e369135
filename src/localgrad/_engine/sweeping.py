"""Simulation in sweeps from the top down: each vertex sees its children already moved."""

from functools import partial
from typing import Any

import jax

from localgrad._engine.simulation import Simulation


class Sweeping(Simulation):
    """One step is one sweep: `jax.vjp` through a tap at every vertex that lets the rule answer."""

    def step(self, state: Any, outside: None = None) -> Any:
        def loss(state: Any) -> Any:
            return self.network.tapped(self.messages, state, partial(tap, self.rule))

        _, pull = jax.vjp(loss, state)
        return pull(self.seed)[0]


@jax.custom_vjp
def tap(rule: Any, prediction: Any, state: Any) -> Any:
    """The prediction. The rule answers to the error that comes back, and passes its answer on.

    The new state comes out where the gradient of the old one would.
    """
    return prediction


def _forward(rule: Any, prediction: Any, state: Any) -> tuple[Any, Any]:
    return prediction, (rule, state)


def _backward(kept: tuple[Any, Any], feedback: Any) -> tuple[Any, Any, Any]:
    rule, state = kept
    new = rule.update(state, None, state, feedback).astype(state.dtype)
    return jax.tree.map(jax.numpy.zeros_like, rule), new, new


tap.defvjp(_forward, _backward)
