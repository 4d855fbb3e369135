"""Recurrent networks: an image row by row to one answer, or a text to an answer at each character.

``hidden`` are the sizes of the layers' states. Value nodes: the states, after each step; gates are
inside of them.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

import localgrad as lg
from localgrad.experiments.models.needs import need

MakeCell = Callable[..., eqx.Module]


class ElmanCell(eqx.Module):
    """``state = tanh(W input + U state + b)``."""

    input: eqx.nn.Linear
    recurrent: eqx.nn.Linear
    hidden_size: int = eqx.field(static=True)

    def __init__(self, input_size: int, hidden_size: int, *, key: Array) -> None:
        input_key, recurrent_key = jax.random.split(key)
        self.input = eqx.nn.Linear(input_size, hidden_size, key=input_key)
        self.recurrent = eqx.nn.Linear(hidden_size, hidden_size, use_bias=False, key=recurrent_key)
        self.hidden_size = hidden_size

    def __call__(self, now: Array, state: Array) -> Array:
        return jnp.tanh(self.input(now) + self.recurrent(state))


class Recurrent(eqx.Module):
    """Layers of recurrent cells and a readout."""

    cells: list[Any]
    readout: eqx.nn.Linear
    characters: int = eqx.field(static=True)
    """How many different characters the inputs have; 0 for images."""

    def __init__(
        self,
        hidden: Sequence[int],
        shape: Sequence[int],
        classes: int,
        *,
        key: Array,
        cell: MakeCell,
    ) -> None:
        need(
            len(shape) in (1, 3),
            "a recurrent network reads images, (channels, rows, columns), or text, (length,), and "
            f"the data have inputs of shape {tuple(shape)}; choose other data",
        )
        self.characters = classes if len(shape) == 1 else 0
        features = self.characters or shape[0] * shape[2]
        *keys, readout_key = jax.random.split(key, 1 + len(hidden))
        self.cells = [
            cell(a, b, key=k) for (a, b), k in zip(pairwise([features, *hidden]), keys, strict=True)
        ]
        self.readout = eqx.nn.Linear(hidden[-1], classes, key=readout_key)

    def __call__(self, inputs: Array) -> Array:
        if self.characters:
            sequence = jax.nn.one_hot(inputs, self.characters)
        else:
            sequence = inputs.swapaxes(0, 1).reshape(inputs.shape[1], -1)
        for k, cell in enumerate(self.cells):
            sequence = _outputs(cell, sequence, f"cells[{k}]")
        return jax.vmap(self.readout)(sequence) if self.characters else self.readout(sequence[-1])


def _outputs(cell: Any, inputs: Array, name: str) -> Array:
    """The outputs of ``cell`` as it reads ``inputs`` from a zero state; both by time first."""
    zeros = jnp.zeros(cell.hidden_size)

    def advance(state: Array, now: Array) -> tuple[Array, Array]:
        state = lg.vertex(cell(now, state), name)
        return state, state

    def advance_both(state: tuple[Array, Array], now: Array) -> tuple[tuple[Array, Array], Array]:
        output, memory = cell(now, state)
        output = lg.vertex(output, name)
        return (output, lg.vertex(memory, f"{name}.memory")), output

    if isinstance(cell, eqx.nn.LSTMCell):
        return jax.lax.scan(advance_both, (zeros, zeros), inputs)[1]
    return jax.lax.scan(advance, zeros, inputs)[1]
