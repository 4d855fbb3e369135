"""What the page shows: plain data, one film for each side."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Unit(NamedTuple):
    """One node of the unfolded graph.

    Attributes:
        name: What it is called, ``"tanh[3]"`` for a copy.
        kind: ``"vertex"``, ``"relay"`` or ``"loss"``.
        level: Longest path to the loss: its column.
        type: Dtype and shape of its value.
        source: ``file:line``.
        code: The text of that line; empty if it cannot be read.
        scope: Named scopes around it.
        group: What it folds into, outermost first.
        stack: The vertex that it is a copy of; empty if it is the only one.
        leaves: The parameters that it reads.
    """

    name: str
    kind: str
    level: int
    type: str
    source: str
    code: str
    scope: str
    group: tuple[str, ...]
    stack: str
    leaves: tuple[str, ...]


class Edge(NamedTuple):
    """From the unit that is read to the one that reads it, both as positions.

    `is_direct` is false where vertices that were not recorded stand between them.
    """

    parent: int
    child: int
    is_direct: bool


@dataclass(frozen=True)
class Film:
    """One rule on one function over time; ``t`` times, ``u`` units.

    Attributes:
        rule: The rule's name.
        times: Steps taken at each time, increasing, ``(t,)``.
        energy: The free energy, ``(t,)``.
        loss: What the loss adds to it, ``(t,)``: the energy of the unit of kind ``"loss"``.
        units: The nodes.
        edges: The edges.
        error: Norm of each unit's error, ``(t, u)``.
        change: Distance of its value from that of the forward pass, ``(t, u)``.
        plastic: Whether the synapses onto it learn, ``(t, u)``.
        delivered: Part of backpropagation's error that it has, ``(t, u)``; None if that makes no
            sense for the rule.
    """

    rule: str
    times: np.ndarray
    energy: np.ndarray
    loss: np.ndarray
    units: tuple[Unit, ...]
    edges: tuple[Edge, ...]
    error: np.ndarray
    change: np.ndarray
    plastic: np.ndarray
    delivered: np.ndarray | None = None
