"""`graph`: the vertices of a function, as a plain object that prints as a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from localgrad._call import Signature
from localgrad._inspect.groups import numbered, scope_of
from localgrad._inspect.table import Column, Table
from localgrad._inspect.tabular import Tabular
from localgrad._jaxpr import (
    computing,
    holds_code,
    is_branch,
    is_literal,
    is_loop,
    is_mark,
    located_at,
    located_in,
    loop_layout,
)
from localgrad._network import Body, Inside, Network, Point, flags
from localgrad._rules import Backprop


@dataclass(frozen=True)
class Vertex:
    """One vertex of the graph; one inside a scan stands for its copies at all iterations.

    Attributes:
        name: A mark's name, or the operation and a number; the last vertex is ``"loss"``.
        operation: The JAX primitive.
        type: Dtype and shape of its value, e.g. ``"float32[64,10]"``.
        levels: Longest path to the loss, one per copy (iteration), first iteration first.
        parents: Vertices and leaves that it reads through a derivative; ``@-1`` marks one of the
            iteration before.
        relays: Identity vertices in its chain (one chain serves all children), one per copy.
        inside: ``"local"``: one computing equation. ``"k equations"``: everything between marks.
            ``"opaque"``: a derivative through several equations at once (``custom_vjp``, solvers).
        source: ``file:line`` in the user's code.
        scope: Named scopes (``jax.named_scope``, Equinox and Flax modules) around it.
        group: The scans, conds and checkpoints that it stands in, outermost first.
    """

    name: str
    operation: str
    type: str
    levels: tuple[int, ...]
    parents: tuple[str, ...]
    relays: tuple[int, ...]
    inside: str
    source: str
    scope: str
    group: tuple[str, ...]

    @property
    def level(self) -> int:
        """The level; inside of a scan that of the first iteration, the farthest from the loss."""
        return self.levels[0]


class Edge(NamedTuple):
    """An edge between two vertices, and the relays it would need of its own on a clock."""

    parent: str
    child: str
    relays: int


@dataclass(frozen=True)
class GraphView(Tabular):
    """The computational graph of a function on given arguments.

    Attributes:
        vertices: The vertices that errors reach, in the order of computation.
        leaves: The parameter leaves that learn.
    """

    vertices: tuple[Vertex, ...]
    leaves: tuple[str, ...]
    _by_name: dict[str, Vertex] = field(repr=False, compare=False)

    @property
    def depth(self) -> int:
        """The level of the vertex that is farthest from the loss."""
        return max((level for v in self.vertices for level in v.levels), default=0)

    @property
    def relays(self) -> int:
        """Identity vertices of the levelled graph, one chain per vertex and copy."""
        return sum(sum(v.relays) for v in self.vertices)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Edges between vertices outside of scans (each stands once), with their relays."""
        once = {v.name: v for v in self.vertices if len(v.levels) == 1}
        return tuple(
            Edge(parent, child.name, once[parent].level - child.level - 1)
            for child in once.values()
            for parent in child.parents
            if parent in once
        )

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """What each vertex folds into, outermost first: scans and branches, then named scopes.

        A group is a run of neighbours in the order of computation. One that is left and entered
        again has a number, ``"block 2"``.
        """
        paths = numbered((*v.group, *scope_of(v.scope)) for v in self.vertices)
        return {v.name: path for v, path in zip(self.vertices, paths, strict=True)}

    def __getitem__(self, name: str) -> Vertex:
        """The vertex of this name."""
        return self._by_name[name]

    def __len__(self) -> int:
        return len(self.vertices)

    def _table(self) -> Table:
        columns = (
            Column("level", right=True),
            Column("vertex"),
            Column("value"),
            Column("inside"),
            Column("relays", right=True),
            Column("parents", width=36),
            Column("source", width=36, keeps_end=True),
        )
        rows = [
            (
                str(v.level) if len(v.levels) == 1 else f"{v.levels[0]}..{v.levels[-1]}",
                "  " * len(v.group) + v.name,
                v.type,
                v.inside,
                str(sum(v.relays) or ""),
                ", ".join(v.parents),
                v.source,
            )
            for v in self.vertices
        ]
        title = (
            f"{len(self)} vertices, depth {self.depth}, {self.relays} relays if levelled, "
            f"{len(self.leaves)} leaves that learn"
        )
        return Table((title,), columns, rows)


def graph(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    vertices: str | None = None,
) -> Callable[..., GraphView]:
    """A function that returns the computational graph of `f` on its arguments.

    Wiring (reshape, transpose, broadcast, cast, slice, ...) is folded into its consumers, what
    depends on data alone is left out, and so is what does not reach the loss. A ``scan`` is a
    stacked vertex: its body's vertices stand once, with a level for each iteration.

    Args:
        f: As for `value_and_grad`.
        argnums: As for `value_and_grad`.
        has_aux: As for `value_and_grad`.
        vertices: As for `value_and_grad`.

    Returns:
        A function of the arguments of `f` (arrays or ``jax.ShapeDtypeStruct``) that returns a
        `GraphView`. Nothing is computed.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> view = lg.graph(lambda w, x: jnp.sum(jnp.tanh(x @ w)))(jnp.ones((3, 2)), jnp.ones(3))
        >>> [(v.name, v.level) for v in view.vertices]
        [('dot_general', 2), ('tanh', 1), ('loss', 0)]
    """
    signature = Signature.of(f, argnums, has_aux, False, False, Backprop(), vertices)

    def graph_f(*args: Any, **kwargs: Any) -> GraphView:
        leaves, tree = jax.tree.flatten((args, kwargs))
        shapes = [k for k, leaf in enumerate(leaves) if isinstance(leaf, jax.ShapeDtypeStruct)]
        views = []

        def run(arrays: list[Any]) -> None:
            mixed = dict(enumerate(leaves)) | dict(zip(shapes, arrays, strict=True))
            args, kwargs = jax.tree.unflatten(tree, mixed.values())
            call = signature.bind(args, kwargs)
            traced = call.problem.traced()
            views.append(view(traced.network, len(traced.before), call.names))

        jax.eval_shape(run, [leaves[k] for k in shapes])
        return views[0]

    return graph_f


def view(network: Network, before: int, names: Sequence[str]) -> GraphView:
    """A network as a plain object.

    Args:
        network: As a function's program gives it: no scan is unrolled.
        before: How many inputs come before the leaves.
        names: Those of the leaves.
    """
    body = network.body
    flows = [NOTHING] * len(body.jaxpr.invars)
    flows[before : before + len(names)] = [Flow(frozenset([n]), frozenset()) for n in names]
    found: dict[str, Flow] = {}
    root, *_ = _follow(body, network.vertices, flows, found)
    vertices = [
        _vertex(vertex, copies, found[vertex.name])
        for vertex, copies in _placed(body, network.vertices, network.places)
    ]
    vertices.append(_root(body, root))
    learns = body.learns[before : before + len(names)]
    leaves = tuple(n for n, moves in zip(names, learns, strict=True) if moves)
    return GraphView(tuple(vertices), leaves, {v.name: v for v in vertices})


class Flow(NamedTuple):
    """What reaches a value without another vertex between.

    The vertices and leaves, and the computing equations on the way, which are folded into whoever
    reads the value.
    """

    names: frozenset[str]
    folded: frozenset[Any]

    def joined(self, *others: "Flow") -> "Flow":
        """What reaches any of several values."""
        names = self.names.union(*(other.names for other in others))
        return Flow(names, self.folded.union(*(other.folded for other in others)))


NOTHING = Flow(frozenset(), frozenset())


def _placed(body: Body, vertices: Any, places: Any) -> list[tuple[Any, list[tuple[int, int]]]]:
    """Every vertex with level and relays of its copies, the first iteration first."""
    found: list[tuple[Any, list[tuple[int, int]]]] = []
    for k, node in sorted(body.nodes.items()):
        if isinstance(node, Point) and places.get(k):  # a scan of no iterations has no copies
            found.append((vertices[k][0], places[k][::-1]))
        elif isinstance(node, Inside):
            several = vertices[k] if isinstance(vertices[k], tuple) else (vertices[k],)
            for inner, v, p in zip(node.bodies, several, places.get(k, ()), strict=False):
                found += _placed(inner, v, p)
    return found


def _follow(
    body: Body, vertices: Any, inputs: Sequence[Flow], found: dict[str, Flow]
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
        if flow.names or flow.folded or isinstance(node, Point):
            flow = flow.joined(Flow(frozenset(), frozenset(computing(eqn))))
        if isinstance(node, Point):
            found[vertices[k][0].name] = flow
            flow = Flow(frozenset([vertices[k][0].name]), frozenset())
        at.update((var, flow) for var in eqn.outvars if var in body.moves)
    return [NOTHING if is_literal(v) else at.get(v, NOTHING) for v in body.jaxpr.outvars]


def _through(
    node: Inside, eqn: Any, vertices: Any, given: list[Flow], found: dict[str, Flow]
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
    before = [frozenset(f"{n}@-1" for n in end.names if "@" not in n) for end in ends]
    given[carries] = [
        flow.joined(Flow(names, frozenset()))
        for flow, names in zip(given[carries], before, strict=True)
    ]
    return _follow(body, vertices, given, found)


def _vertex(vertex: Any, copies: Sequence[tuple[int, int]], flow: Flow) -> Vertex:
    return Vertex(
        name=vertex.name,
        operation=vertex.operation,
        type=_type(vertex),
        levels=tuple(level for level, _ in copies),
        parents=tuple(sorted(flow.names)),
        relays=tuple(relays for _, relays in copies),
        inside=_inside(flow),
        source=vertex.origin,
        scope=vertex.scope,
        group=vertex.place,
    )


def _root(body: Body, flow: Flow) -> Vertex:
    """The loss, whose error is given."""
    loss = body.jaxpr.outvars[0]
    eqn = next((eqn for eqn in body.jaxpr.eqns if loss in eqn.outvars), None)
    return Vertex(
        name=str(eqn.params["name"]) if eqn and is_mark(eqn) else "loss",
        operation=str(eqn.primitive) if eqn else "copy",
        type=_type(loss.aval),
        levels=(0,),
        parents=tuple(sorted(flow.names)),
        relays=(0,),
        inside=_inside(flow),
        source=located_at(eqn) if eqn else "",
        scope=located_in(eqn) if eqn else "",
        group=(),
    )


def _type(value: Any) -> str:
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def _inside(flow: Flow) -> str:
    """What stands between a vertex and its parents."""
    if any(holds_code(eqn) for eqn in flow.folded):
        return "opaque"
    return "local" if len(flow.folded) < 2 else f"{len(flow.folded)} equations"
