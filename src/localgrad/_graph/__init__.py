"""Layer 2: the computational graph of a function; forward pass and local pulls of its vertices."""

from localgrad._graph.branched import Branched
from localgrad._graph.build import Builder, Graph
from localgrad._graph.levels import Place, levels
from localgrad._graph.recomputed import Recomputed
from localgrad._graph.stacked import Stacked
from localgrad._graph.vertex import Step, Values, Wave

__all__ = [
    "Branched",
    "Builder",
    "Graph",
    "Place",
    "Recomputed",
    "Stacked",
    "Step",
    "Values",
    "Wave",
    "levels",
]
