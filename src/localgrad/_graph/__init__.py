"""Layer 2: the computational graph of a function; forward pass and local pulls of its vertices."""

from localgrad._graph.build import Builder, Graph
from localgrad._graph.levels import Place, levels
from localgrad._graph.vertex import Container, Part, Step, Values, Wave

__all__ = ["Builder", "Container", "Graph", "Part", "Place", "Step", "Values", "Wave", "levels"]
