"""All vertices at once: every prediction from the values that its parents hold now.

The graph is *cut* at its vertices: what a vertex computes is noted as its prediction, and the value
that it holds takes its place, so that no prediction depends on another. The ordinary derivative of
the cut graph is therefore the set of all local feedbacks, and nothing else.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from localgrad._graph.build import Graph
from localgrad._graph.iterations import Iterations
from localgrad._graph.levels import Places, levels
from localgrad._graph.stacked import Stacked
from localgrad._graph.state import (
    ARRAYS,
    FLAGS,
    SILENT,
    Kind,
    Meet,
    State,
    cut,
    is_answering,
    key_of,
)
from localgrad._graph.vertex import Values


class Network:
    """The vertices of a graph without conds and checkpoints; scans are stacks of iterations."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.scans = {
            step: Iterations(step, Network(step.body))
            for step in graph.steps
            if isinstance(step, Stacked)
        }

    @functools.cached_property
    def places(self) -> Places:
        """Where the copies of every vertex stand."""
        return levels(self.graph)

    @property
    def needs_relays(self) -> bool:
        """Whether any edge spans more than one level."""
        return any(place.relays for copies in self.places.values() for place in copies)

    @property
    def is_empty(self) -> bool:
        """Whether there is no vertex, here or inside of a scan."""
        return not any(map(is_answering, self.graph.steps)) and all(
            scan.network.is_empty for scan in self.scans.values()
        )

    def levels(self) -> State:
        """The levels of all vertices, as integers with an axis for each scan around them.

        Copies that cannot reach the loss have level -1.
        """
        return self._levels(self.places, (), ())

    def forward(self, inputs: Sequence[Any]) -> tuple[list[Any], State]:
        """The outputs of the program, and the values of all vertices: each is its prediction."""
        values = ARRAYS.begin(self.graph, inputs)
        state = self.run(values, None, _predicted, ARRAYS)
        return [values[o] for o in self.graph.outputs], state

    def predict(self, inputs: Sequence[Any], given: State, kind: Kind) -> tuple[State, Any]:
        """Every vertex's prediction from the given values of its parents; the root's apart."""
        values = kind.begin(self.graph, inputs)
        predictions = self.run(values, given, cut, kind)
        return predictions, values[self.graph.outputs[0]]

    def joined(self, flags: State) -> tuple[State, Any]:
        """For every vertex and for the root, the sum of its parents' flags."""
        values = FLAGS.begin(self.graph, [SILENT] * len(self.graph.inputs))
        sums = self.run(values, flags, cut, FLAGS)
        return sums, values[self.graph.outputs[0]]

    def tapped(self, inputs: Sequence[Any], given: State, tap: Meet) -> Any:
        """The loss, computed through a tap at every vertex; nothing is cut."""
        values = ARRAYS.begin(self.graph, inputs)
        self.run(values, given, tap, ARRAYS)
        return values[self.graph.outputs[0]]

    def run(self, values: Values, given: State | None, meet: Meet, kind: Kind) -> State:
        """Evaluate all steps into `values`; returns the predictions."""
        predictions: State = {}
        outputs: Sequence[Any]
        for step in self.graph.steps:
            held = (given or {}).get(key_of(step))
            if given is not None and not step.equation.outputs:
                continue  # an effect, and it has happened in the forward pass
            if step in self.scans:
                with step.equation.context():
                    outputs, predictions[key_of(step)] = self.scans[step](
                        kind.read(step, values), held, meet, kind
                    )
            else:
                outputs = kind.evaluate(step, values)
            values.update(zip(step.equation.outputs, outputs, strict=True))
            if is_answering(step):
                for slot in step.wanted:
                    predictions[slot] = values[slot]
                    values[slot] = meet(values[slot], given[slot] if given else None)
        return predictions

    def _levels(self, places: Places, lengths: tuple[int, ...], flips: tuple[int, ...]) -> State:
        found: State = {}
        for step in self.graph.steps:
            if step in self.scans:
                layout = step.layout
                inner = (*flips, len(lengths)) if layout.reverse else flips
                network = self.scans[step].network
                found[key_of(step)] = network._levels(places, (*lengths, layout.length), inner)
            elif is_answering(step):
                copies = np.array([p.level for p in places.get(step, ())], np.int32)
                copies = np.flip(copies.reshape(lengths), flips)
                found.update(dict.fromkeys(step.wanted, copies))
        return found


def _predicted(prediction: Any, given: None) -> Any:
    return prediction
