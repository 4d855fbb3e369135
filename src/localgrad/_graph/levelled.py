"""The levelled network: relays delay every edge that would be shorter than the longest path.

The relays of a vertex form one chain, a shift register `r` with `r_0 = x` one step ago. A child
that is `k` levels nearer to the loss reads the vertex itself if `k = 1`, else relay `k - 2`. What
is folded between vertices is computed for every level from which it is seen.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from localgrad._graph.build import Graph
from localgrad._graph.network import Network
from localgrad._graph.state import ARRAYS, Kind, Meet, State, is_answering
from localgrad._graph.vertex import Step, Values


def chain_of(slot: int) -> int:
    """The key of a vertex's relays in a state."""
    return ~slot


class Levelled(Network):
    """A network without scans, with relays as vertices of their own."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        vertices = [step for step in graph.steps if step.is_vertex]
        self._level = {
            slot: self.places[step][0].level for step in vertices for slot in step.wanted
        }
        self._relays = {
            slot: self.places[step][0].relays
            for step in filter(is_answering, vertices)
            for slot in step.wanted
            if self.places[step][0].relays
        }
        self._seen = self._sightings()

    def levels(self) -> State:
        """The levels of vertices and relays; of a chain, those of its relays in order."""
        state = super().levels()
        for slot, count in self._relays.items():
            state[chain_of(slot)] = self._level[slot] - 1 - np.arange(count, dtype=np.int32)
        return state

    def forward(self, inputs: Sequence[Any]) -> tuple[list[Any], State]:
        """The outputs, and the values of all vertices and relays."""
        outputs, state = super().forward(inputs)
        for slot, count in self._relays.items():
            state[chain_of(slot)] = jnp.broadcast_to(state[slot], (count, *state[slot].shape))
        return outputs, state

    def run(self, values: Values, given: State | None, meet: Meet, kind: Kind) -> State:
        """Evaluate all steps, each from what it sees at its own level."""
        if given is None:
            return super().run(values, given, meet, kind)
        predictions: State = {}
        views: dict[tuple[int, int], Any] = {}

        def read(slot: int, level: int) -> Any:
            if (slot, level) in views:
                return views[slot, level]
            gap = self._level[slot] - level if slot in self._relays else 1
            return values[slot] if gap == 1 else given[chain_of(slot)][gap - 2]

        def seen(step: Step, level: int) -> Any:
            return values | {slot: read(slot, level) for slot in step.parents}

        for step in self.graph.steps:
            outputs = step.equation.outputs
            if step.is_vertex:
                level = self._level[step.wanted[0]]
                values.update(zip(outputs, kind.evaluate(step, seen(step, level)), strict=True))
                if not step.is_root:
                    predictions.update((slot, values[slot]) for slot in step.wanted)
                    values.update((slot, meet(values[slot], given[slot])) for slot in step.wanted)
                continue
            values.update(zip(outputs, kind.evaluate(step, values), strict=True))
            for level in () if step.is_still else self._seen[step]:
                found = zip(outputs, kind.evaluate(step, seen(step, level)), strict=True)
                views.update(((slot, level), value) for slot, value in found)
        for slot in self._relays:
            entering = jnp.asarray(values[slot])[None]
            predictions[chain_of(slot)] = jnp.concatenate([entering, given[chain_of(slot)][:-1]])
        return predictions

    def tapped(self, inputs: Sequence[Any], given: State, tap: Meet) -> Any:
        """The loss through taps at the vertices; where nothing is cut, relays change nothing."""
        values = ARRAYS.begin(self.graph, inputs)
        super().run(values, given, tap, ARRAYS)
        return values[self.graph.outputs[0]]

    def _sightings(self) -> dict[Step, set[int]]:
        """The levels of the vertices that read what a folded step computes."""
        seen: dict[int, set[int]] = defaultdict(set)
        sightings = {}
        for step in reversed(self.graph.moving):
            own = {self._level[step.wanted[0]]} if step.is_vertex else set[int]()
            if not step.is_vertex:
                sightings[step] = own = own.union(*(seen[slot] for slot in step.wanted))
            for slot in step.parents:
                seen[slot] |= own
        return sightings
