"""Layer 5: what can be seen of a function's graph and of a rule's gradient."""

from localgrad._inspect.audit import Audit, RuleAudit, audit
from localgrad._inspect.compare import Comparison, LeafComparison, compare
from localgrad._inspect.followed import Read, Reads
from localgrad._inspect.graph import Edge, GraphView, Vertex, graph
from localgrad._inspect.mark import vertex
from localgrad._inspect.record import record
from localgrad._inspect.recording import Recording, VertexRecording

__all__ = [
    "Audit",
    "Comparison",
    "Edge",
    "GraphView",
    "LeafComparison",
    "Read",
    "Reads",
    "Recording",
    "RuleAudit",
    "Vertex",
    "VertexRecording",
    "audit",
    "compare",
    "graph",
    "record",
    "vertex",
]
