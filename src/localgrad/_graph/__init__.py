"""Layer 2: the computational graph of a function; forward pass and local pulls of its vertices."""

from localgrad._graph.build import Builder, Graph, rooted
from localgrad._graph.levelled import Levelled
from localgrad._graph.levels import Place, levels
from localgrad._graph.network import Network
from localgrad._graph.state import ARRAYS, Arrays, State, each, entries
from localgrad._graph.vertex import Container, Part, Step, Values, Wave

__all__ = [
    "ARRAYS",
    "Arrays",
    "Builder",
    "Container",
    "Graph",
    "Levelled",
    "Network",
    "Part",
    "Place",
    "State",
    "Step",
    "Values",
    "Wave",
    "each",
    "entries",
    "levels",
    "rooted",
]
