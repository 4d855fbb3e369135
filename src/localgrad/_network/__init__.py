"""Layer 2: the network of a function, its program cut at its vertices."""

from localgrad._network.kind import NUMBERS, Numbers
from localgrad._network.network import Network, State, each, network
from localgrad._network.run import added, cut
from localgrad._network.tapped import has_marks, tapped
from localgrad._network.vertex import Vertex

__all__ = [
    "NUMBERS",
    "Network",
    "Numbers",
    "State",
    "Vertex",
    "added",
    "cut",
    "each",
    "has_marks",
    "network",
    "tapped",
]
