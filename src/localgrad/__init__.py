"""Gradients by local learning rules on the computational graph of any JAX function."""

from localgrad._dynamics import RuleDynamics, State, dynamics
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
from localgrad._protocol import Inbox, Loop, Phase, Rule, learning_rule, real
from localgrad._rules import (
    ZIL,
    ActivationRelaxation,
    Backprop,
    FaZIL,
    FixedPrediction,
    InferenceLearning,
    TokenPhi,
    ValuePhi,
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
    "Inbox",
    "InferenceLearning",
    "LeafComparison",
    "Loop",
    "Phase",
    "Read",
    "Reads",
    "Recording",
    "Rule",
    "RuleAudit",
    "RuleDynamics",
    "State",
    "Synapses",
    "TokenPhi",
    "ValuePhi",
    "Vertex",
    "VertexRecording",
    "audit",
    "compare",
    "dynamics",
    "grad",
    "graph",
    "learning_rule",
    "real",
    "record",
    "value_and_grad",
    "vertex",
]
__version__ = "0.1.0"
