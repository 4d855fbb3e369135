"""Gradients by local learning rules on the computational graph of any JAX function."""

from localgrad._engine import Loop
from localgrad._inspect import (
    Audit,
    Comparison,
    Edge,
    GraphView,
    LeafComparison,
    Read,
    Reads,
    Recording,
    RuleAudit,
    Vertex,
    VertexRecording,
    audit,
    compare,
    graph,
    record,
    vertex,
)
from localgrad._rules import (
    ZIL,
    ActivationRelaxation,
    Backprop,
    FaZIL,
    FixedPrediction,
    InferenceLearning,
    Rule,
    TokenPhi,
    ValuePhi,
    learning_rule,
)
from localgrad._synapses import Synapses
from localgrad._transform import grad, value_and_grad

__all__ = [
    "ZIL",
    "ActivationRelaxation",
    "Audit",
    "Backprop",
    "Comparison",
    "Edge",
    "FaZIL",
    "FixedPrediction",
    "GraphView",
    "InferenceLearning",
    "LeafComparison",
    "Loop",
    "Read",
    "Reads",
    "Recording",
    "Rule",
    "RuleAudit",
    "Synapses",
    "TokenPhi",
    "ValuePhi",
    "Vertex",
    "VertexRecording",
    "audit",
    "compare",
    "grad",
    "graph",
    "learning_rule",
    "record",
    "value_and_grad",
    "vertex",
]
__version__ = "0.1.0"
