"""Who reads whom: what reaches a value of a network without another vertex between."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from localgrad._jaxpr import computing, is_branch, is_literal, is_loop, loop_layout
from localgrad._network import Body, Inside, Network, Point, flags


class Source(NamedTuple):
    """A vertex (the first one of its equation) or the name of a leaf, and whether that of the
    iteration before is meant.
    """

    of: Any
    is_before: bool = False


class Flow(NamedTuple):
    """The vertices and leaves that reach a value, and the computing equations on the way.

    These are folded into whoever reads the value.
    """

    sources: frozenset[Source]
    folded: frozenset[Any]

    def joined(self, *others: "Flow") -> "Flow":
        """What reaches any of several values."""
        sources = self.sources.union(*(other.sources for other in others))
        return Flow(sources, self.folded.union(*(other.folded for other in others)))


NOTHING = Flow(frozenset(), frozenset())


def followed(network: Network, leaves: Sequence[str], before: int) -> tuple[dict[Any, Flow], Flow]:
    """The flow into the first vertex of every equation, and into the root.

    Args:
        network: Scans in it are stacked: what comes from the iteration before says so.
        leaves: The names of its leaves.
        before: How many inputs come before them.
    """
    inputs = [NOTHING] * len(network.body.jaxpr.invars)
    for k, name in enumerate(leaves):
        inputs[before + k] = Flow(frozenset([Source(name)]), frozenset())
    found: dict[Any, Flow] = {}
    root, *_ = _follow(network.body, network.vertices, inputs, found)
    return found, root


def _follow(
    body: Body, vertices: Any, inputs: Sequence[Flow], found: dict[Any, Flow]
) -> list[Flow]:
    """The flows at a program's outputs from those at its inputs; `found` receives the vertices'."""
    at = dict(zip(body.jaxpr.invars, inputs, strict=True))
    for k, eqn in enumerate(body.jaxpr.eqns):
        node = body.nodes.get(k)
        given = [NOTHING if is_literal(v) else at.get(v, NOTHING) for v in eqn.invars]
        if isinstance(node, Inside):
            at.update(zip(eqn.outvars, _through(node, eqn, vertices[k], given, found), strict=True))
            continue
        moves = flags(eqn.invars, body.moves)
        flow = NOTHING.joined(*(f for f, m in zip(given, moves, strict=True) if m))
        if flow != NOTHING or isinstance(node, Point):
            flow = flow.joined(Flow(frozenset(), frozenset(computing(eqn))))
        if isinstance(node, Point):
            found[vertices[k][0]] = flow
            flow = Flow(frozenset([Source(vertices[k][0])]), frozenset())
        at.update((var, flow) for var in eqn.outvars if var in body.moves)
    return [NOTHING if is_literal(v) else at.get(v, NOTHING) for v in body.jaxpr.outvars]


def _through(
    node: Inside, eqn: Any, vertices: Any, given: list[Flow], found: dict[Any, Flow]
) -> list[Flow]:
    """The flows at the outputs of an equation with programs inside."""
    if is_branch(eqn):
        pairs = zip(node.bodies, vertices, strict=True)
        each = [_follow(body, v, given[1:], found) for body, v in pairs]
        return [NOTHING.joined(*flows) for flows in zip(*each, strict=True)]
    (body,) = node.bodies
    outputs = _follow(body, vertices, given, found)
    if not is_loop(eqn):
        return outputs
    layout = loop_layout(eqn)
    carries, ends = layout.inputs[1], outputs[layout.outputs[0]]
    before = [frozenset(Source(source.of, True) for source in end.sources) for end in ends]
    given[carries] = [
        flow.joined(Flow(sources, frozenset()))
        for flow, sources in zip(given[carries], before, strict=True)
    ]
    return _follow(body, vertices, given, found)


class Reader(NamedTuple):
    """A copy of a vertex among all those of a network, and the positions of whom it reads."""

    name: str
    copy: tuple[int, ...]
    is_relay: bool
    parents: tuple[int, ...]


@dataclass(frozen=True)
class Wiring:
    """Who reads whom in a network, each copy of a vertex and each relay by itself.

    It is worked out when somebody asks, or pickles it: the network itself is never pickled.
    """

    network: Network | None

    @cached_property
    def readers(self) -> tuple[Reader, ...]:
        """All vertices, those first that are computed first; the last one is the loss.

        The copies of a chain of relays are numbered from the vertex to the loss.
        """
        assert self.network is not None
        flat = self.network.laid_out
        flows, root = followed(flat, (), 0)
        position = dict[Any, list[int]]()
        readers, relays = list[Reader](), dict[str, int]()

        def read(flow: Flow) -> tuple[int, ...]:
            return tuple(sorted(k for source in flow.sources for k in position[source.of]))

        for several in flat.vertices.values():
            parents = read(flows[several[0]])
            for vertex in several:
                copy = vertex.index
                if vertex.is_relay:
                    relays[vertex.name] = relays.get(vertex.name, -1) + 1
                    copy = (relays[vertex.name],)
                position.setdefault(several[0], []).append(len(readers))
                readers.append(Reader(vertex.name, copy, vertex.is_relay, parents))
        return (*readers, Reader("", (), False, read(root)))

    def __getstate__(self) -> dict[str, Any]:
        return {"network": None, "readers": self.readers}
