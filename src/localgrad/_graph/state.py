"""The state of all vertices, and what may flow through a network of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from localgrad._graph.build import Graph
from localgrad._graph.vertex import Step, Values
from localgrad._jaxpr import in_loop, is_convolution

SILENT = np.float32(0)

State = dict[int, Any]
"""One entry per vertex, by its slot; for a scan, a state whose leaves have one more axis."""

Meet = Callable[[Any, Any], Any]
"""`meet(prediction, given)`: what the children of a vertex read."""


def cut(prediction: Any, given: Any) -> Any:
    """What is given: no prediction depends on another vertex's."""
    return given


def each(f: Callable[..., Any], first: State, *others: State) -> State:
    """Apply a function to the entries of all vertices, each with its own alone."""
    return {
        key: each(f, entry, *(other[key] for other in others))
        if isinstance(entry, dict)
        else f(entry, *(other[key] for other in others))
        for key, entry in first.items()
    }


def entries(state: State) -> Iterator[Any]:
    """The entries of all vertices, in order."""
    for entry in state.values():
        yield from entries(entry) if isinstance(entry, dict) else (entry,)


class Kind(Protocol):
    """What flows through a network: arrays, or one flag for each."""

    def begin(self, graph: Graph, inputs: Sequence[Any], part: slice = slice(None)) -> Values:
        """The values before any step."""
        ...

    def evaluate(self, step: Any, values: Values) -> Sequence[Any]:
        """The outputs of a step of one equation."""
        ...

    def read(self, step: Any, values: Values) -> list[Any]:
        """The operands of a scan."""
        ...

    def enter(self, xs: Any, length: int) -> Any:
        """What a scan slices, with the iterations on its first axis."""
        ...

    def leave(self, ys: Any) -> Any:
        """What a scan has stacked, as one value."""
        ...


class Arrays:
    """The numbers themselves; convolutions in a form for loops if `loops`."""

    def __init__(self, loops: bool = False) -> None:
        self._loops = loops

    def begin(self, graph: Graph, inputs: Sequence[Any], part: slice = slice(None)) -> Values:
        return graph.begin(inputs, part)

    def evaluate(self, step: Any, values: Values) -> Sequence[Any]:
        equation = step.equation
        form = in_loop(equation.eqn) if self._loops and is_convolution(equation.eqn) else None
        return [form(*equation.read(values))] if form else step.evaluate(values)

    def read(self, step: Any, values: Values) -> list[Any]:
        return step.equation.read(values)

    def enter(self, xs: Any, length: int) -> Any:
        return xs

    def leave(self, ys: Any) -> Any:
        return ys


class Flags:
    """One number per value: the sum of those of the vertices that it depends on.

    Run forwards it tells a vertex which of its parents raise a flag, its transpose which children.
    """

    def begin(self, graph: Graph, inputs: Sequence[Any], part: slice = slice(None)) -> Values:
        silent = dict.fromkeys(graph.program.constants, SILENT)
        return silent | dict(zip(graph.inputs[part], inputs, strict=True))

    def evaluate(self, step: Any, values: Values) -> Sequence[Any]:
        total = sum((values[slot] for slot in step.parents), SILENT)
        return [total] * len(step.equation.outputs)

    def read(self, step: Any, values: Values) -> list[Any]:
        operands = step.equation.operands
        return [values[o] if isinstance(o, int) else SILENT for o in operands]

    def enter(self, xs: Any, length: int) -> Any:
        return jnp.broadcast_to(xs, (length, *jnp.shape(xs)))

    def leave(self, ys: Any) -> Any:
        return jnp.sum(ys, 0)


ARRAYS = Arrays()
FLAGS = Flags()


def is_answering(step: Step) -> bool:
    """Whether the step is a vertex that answers to feedback: not the root, whose error is given."""
    return step.is_vertex and not step.is_root


def key_of(step: Step) -> int:
    """The slot under which a scan's state stands."""
    return step.equation.outputs[0] if step.equation.outputs else -1
