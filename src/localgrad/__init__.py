"""Gradients by local learning rules on the computational graph of any JAX function."""

from localgrad._inspect import (
    Comparison,
    Edge,
    GraphView,
    LeafComparison,
    Vertex,
    compare,
    graph,
    vertex,
)
from localgrad._rules import ZIL, Backprop, Rule
from localgrad._transform import grad, value_and_grad

__all__ = [
    "ZIL",
    "Backprop",
    "Comparison",
    "Edge",
    "GraphView",
    "LeafComparison",
    "Rule",
    "Vertex",
    "compare",
    "grad",
    "graph",
    "value_and_grad",
    "vertex",
]
__version__ = "0.1.0"
