"""Where the vertices of a function stand in the states of its dynamics."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from localgrad._engine import Dynamics, Forward, Moment
from localgrad._network import Network, State


class Spot(NamedTuple):
    """A vertex of `graph` in the states of its dynamics.

    Attributes:
        name: Its name.
        copies: The shape of its copies.
        entries: Which entries of a state are its own.
        rows: Which of the copies each entry is, where scans were unrolled.
        is_relay: Whether it is a chain of relays, all of which stand on one axis.
    """

    name: str
    copies: tuple[int, ...]
    entries: tuple[int, ...]
    rows: tuple[int, ...]
    is_relay: bool

    def read(self, entries: Sequence[Any], fill: Any = 0, numpy: Any = jnp) -> Any:
        """Its own, copies on the leading axes; those that are not simulated are filled."""
        own = [entries[k] for k in self.entries]
        if self.is_relay:
            return numpy.concatenate(own)
        if not self.rows:
            return own[0]
        blank, found = numpy.full_like(own[0], fill), dict(zip(self.rows, own, strict=True))
        stack = numpy.stack([found.get(row, blank) for row in range(math.prod(self.copies))])
        return stack.reshape(self.copies + stack.shape[1:])


class Spots:
    """All vertices of a function in the states of a rule's dynamics, in the order of computation.

    The dynamics' network may be levelled: then scans are unrolled, and there are relays.
    """

    def __init__(self, dynamics: Dynamics, network: Network) -> None:
        self._dynamics = dynamics
        self._tree: Any = jax.tree.structure(dynamics.network.vertices)
        lengths = {v.name: v.lengths for v in jax.tree.leaves(network.vertices)}
        own: dict[str, list[tuple[int, Any]]] = {}
        for k, vertex in enumerate(jax.tree.leaves(dynamics.network.vertices)):
            own.setdefault(vertex.name, []).append((k, vertex))
        self.all = tuple(_spot(name, found, lengths) for name, found in own.items())

    def entries(self, state: State) -> list[Any]:
        """The entries of all vertices, one after the other."""
        return self._tree.flatten_up_to(state)

    def levels(self, spot: Spot) -> tuple[int, ...]:
        """The level of each copy, -1 where nothing reaches the loss."""
        found = spot.read(self.entries(self._dynamics.network.levels), -1, np)
        return tuple(map(int, np.ravel(found)))

    def not_finite(self, forward: Forward, now: Moment, errors: State) -> Any:
        """Of each vertex, whether its error is not finite, or its value that was so at first."""
        values = self._dynamics.each(self._dynamics.rule.value, now.neurons, forward.stored)
        held, sent, first = map(self.entries, (values, errors, forward.stored))

        def is_broken(spot: Spot) -> Any:
            value, error, stored = (spot.read(entries) for entries in (held, sent, first))
            lost = ~jnp.isfinite(value) & jnp.isfinite(stored)
            return jnp.any(~jnp.isfinite(error)) | jnp.any(lost)

        return jnp.array([is_broken(spot) for spot in self.all], bool)


def _spot(name: str, found: list[tuple[int, Any]], lengths: dict[str, tuple[int, ...]]) -> Spot:
    entries = tuple(k for k, _ in found)
    vertex = found[0][1]
    if vertex.is_relay:
        count = sum(v.lengths[0] for _, v in found)
        return Spot(name, (count,), entries, (), True)
    copies = lengths.get(name, vertex.lengths)
    rows = (int(np.ravel_multi_index(v.index, copies)) for _, v in found if v.index)
    return Spot(name, copies, entries, tuple(rows), False)
