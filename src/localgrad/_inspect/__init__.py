"""Layer 5: what can be seen of a function's graph and of a rule's gradient."""

from localgrad._inspect.compare import Comparison, LeafComparison, compare
from localgrad._inspect.graph import Edge, GraphView, Vertex, graph
from localgrad._inspect.mark import vertex

__all__ = [
    "Comparison",
    "Edge",
    "GraphView",
    "LeafComparison",
    "Vertex",
    "compare",
    "graph",
    "vertex",
]
