"""Layer 2: the network of a function, its program cut at its vertices."""

from localgrad._network.active import flags
from localgrad._network.blame import blaming, reached
from localgrad._network.body import Body, Inside, Once, Point
from localgrad._network.kind import NUMBERS, Numbers
from localgrad._network.network import Network, State, each, network
from localgrad._network.pairs import PAIRS, Pair
from localgrad._network.run import added, cut
from localgrad._network.tapped import has_marks, tapped
from localgrad._network.vertex import Vertex

__all__ = [
    "NUMBERS",
    "PAIRS",
    "Body",
    "Inside",
    "Network",
    "Numbers",
    "Once",
    "Pair",
    "Point",
    "State",
    "Vertex",
    "added",
    "blaming",
    "cut",
    "each",
    "flags",
    "has_marks",
    "network",
    "reached",
    "tapped",
]
