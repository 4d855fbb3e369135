"""One equation in its place in a graph: what an engine may ask of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Any, NamedTuple

from jax import lax

from localgrad._jaxpr import Equation, Pulls

Values = dict[int, Any]
"""Slot -> array: the values of vertices and leaves, and the residuals that pulls read."""

Wave = Callable[[Sequence["Step"], Values, dict[int, Any]], dict[int, Any]]
"""`wave(steps, values, errors)`: errors at slots -> errors at the slots that no step writes.

How an engine moves errors through the vertices inside of a vertex (scan, cond, checkpoint).
"""


class Step(ABC):
    """An equation that reads slots and writes slots; a vertex if it computes.

    `parents` are the slots that get a message when errors at the `wanted` slots arrive, and
    `residuals` the slots whose values the pull reads. A step without parents is still: data, or a
    function of parameters that has no derivative. The error of the root, the loss, is given and not
    its answer to any feedback.
    """

    def __init__(self, equation: Equation, is_vertex: bool = False, is_root: bool = False) -> None:
        self.equation = equation
        self.is_vertex = is_vertex
        self.is_root = is_root
        self.parents: tuple[int, ...] = ()
        self.wanted: tuple[int, ...] = ()
        self.residuals: tuple[int, ...] = ()
        self.own: tuple[int, ...] = ()

    @property
    def reads(self) -> tuple[int, ...]:
        """The slots that the forward pass reads."""
        return self.equation.slots

    @property
    def writes(self) -> tuple[int, ...]:
        """The slots that the forward pass writes: outputs, and residuals of its own."""
        return (*self.equation.outputs, *self.own)

    @property
    def is_still(self) -> bool:
        """Whether no error ever passes here."""
        return not self.parents

    @abstractmethod
    def forward(self, values: Values) -> None:
        """Write outputs and own residuals into `values`, from the operands in it."""

    @abstractmethod
    def pull(self, residuals: Sequence[Any], errors: Sequence[Any], wave: Wave) -> Sequence[Any]:
        """Values of `residuals`, errors at `wanted` -> one message per slot of `parents`."""


class Single(Step):
    """A step of one equation that stays closed."""

    def __init__(
        self, equation: Equation, pulls: Pulls, is_vertex: bool = False, is_root: bool = False
    ) -> None:
        super().__init__(equation, is_vertex, is_root)
        self._pulls = pulls

    def evaluate(self, values: Values) -> list[Any]:
        """The outputs alone."""
        with self.equation.context():
            return self._pulls.run(self.equation, values)


class Still(Single):
    """A step that no error passes: evaluated, never pulled."""

    def forward(self, values: Values) -> None:
        values.update(zip(self.equation.outputs, self.evaluate(values), strict=True))

    def pull(self, residuals: Sequence[Any], errors: Sequence[Any], wave: Wave) -> Sequence[Any]:
        raise AssertionError("no error reaches a step without parents")


class Part(NamedTuple):
    """A graph inside a container, and the slots or literals outside that its inputs stand for.

    A scan's part is run `length` times: its first outputs are the `carries` of the next iteration.
    """

    label: str
    graph: Any
    operands: Sequence[Any]
    carries: slice = slice(0)
    length: int = 1


class Container(Step):
    """A step with vertices inside (scan, cond, checkpoint); it is none itself."""

    parts: tuple[Part, ...]

    def __init__(self, equation: Equation, wanted: set[int]) -> None:
        super().__init__(equation)
        self.wanted = tuple(o for o in equation.outputs if o in wanted)


def gather(slots: Iterable[int], errors: Iterable[Any]) -> dict[int, Any]:
    """Errors by slot; those of a slot that stands twice are added."""
    sums: dict[int, Any] = {}
    for slot, error in zip(slots, errors, strict=True):
        sums[slot] = lax.add(sums[slot], error) if slot in sums else error
    return sums


def flags(slots: Iterable[Any], given: Set[int]) -> tuple[bool, ...]:
    """Which of the slots (or literals) are among the given ones."""
    return tuple(isinstance(s, int) and s in given for s in slots)


def chosen(items: Iterable[Any], flags: Iterable[bool]) -> tuple[Any, ...]:
    """The items whose flag is set."""
    return tuple(item for item, flag in zip(items, flags, strict=True) if flag)
