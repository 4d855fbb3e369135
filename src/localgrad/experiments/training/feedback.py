"""The weights that errors travel back on, by name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax

import localgrad as lg

DECAY = 0.01
"""Of both weights, per unit of learning rate; the optimiser's weight decay is added to it."""


def _decayed(key: jax.Array, params: Any) -> lg.Synapses:
    return lg.Synapses.random(key, params, learns=True, decay=DECAY)


FEEDBACK: dict[str, Callable[[jax.Array, Any], Any]] = {
    "symmetric": lambda key, params: params,
    "random": lg.Synapses.random,
    "learned": lambda key, params: lg.Synapses.random(key, params, learns=True),
    "decayed": _decayed,
}
"""Parameters with their feedback weights: the forward weights themselves; fixed random ones; random
ones that learn what the forward weights learn; the same with decay of both (Kolen and Pollack)."""


def undecayed(params: Any) -> Any:
    """The same weights, whose gradient is what the errors make of it, and nothing else."""
    return replace(params, decay=0.0) if isinstance(params, lg.Synapses) else params


def decaying(params: Any) -> Any:
    """Which weights the optimiser's weight decay is of: a tree of bools, one for a whole part.

    Fixed feedback weights stay what they are. Learned ones keep their distance to the forward
    weights, which they would not if either decayed.
    """
    if not isinstance(params, lg.Synapses) or params.decay:
        return True
    alone = jax.tree.map(lambda twin: twin is None, params.backward, is_leaf=lambda x: x is None)
    return replace(params, forward=alone if params.learns else True, backward=False)


def forward(params: Any) -> Any:
    """The weights that a model runs on."""
    return params.forward if isinstance(params, lg.Synapses) else params
