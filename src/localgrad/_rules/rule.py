"""What every rule is."""

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

from localgrad._engine import Engine


@dataclass(frozen=True)
class Rule(ABC):
    """A learning rule: how a vertex answers to its feedback, and which engine drives it.

    A rule is a final frozen dataclass. Its fields are its hyper-parameters; its methods are the
    mathematics of one vertex, called by the engine with that vertex's own state and the feedback
    of its children. It never gets the graph.

    Attributes:
        name: The rule's name on the command line and in tables, e.g. ``"zil"``.
        engine: What drives the rule over a graph.
    """

    name: ClassVar[str]
    engine: ClassVar[Engine]
