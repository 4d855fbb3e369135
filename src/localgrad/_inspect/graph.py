"""`graph`: the vertices of a function, as a plain object that prints as a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from localgrad._call import Signature
from localgrad._inspect.groups import numbered, scope_of
from localgrad._inspect.table import Column, Table
from localgrad._inspect.tabular import Tabular
from localgrad._inspect.wiring import Flow, followed
from localgrad._jaxpr import (
    holds_code,
    is_mark,
    located_at,
    located_in,
)
from localgrad._network import Body, Inside, Network, Point
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
    found, root = followed(network, names, before)
    vertices = [
        _vertex(vertex, copies, found[vertex])
        for vertex, copies in _placed(body, network.vertices, network.places)
    ]
    vertices.append(_root(body, root))
    learns = body.learns[before : before + len(names)]
    leaves = tuple(n for n, moves in zip(names, learns, strict=True) if moves)
    return GraphView(tuple(vertices), leaves, {v.name: v for v in vertices})


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


def _vertex(vertex: Any, copies: Sequence[tuple[int, int]], flow: Flow) -> Vertex:
    return Vertex(
        name=vertex.name,
        operation=vertex.operation,
        type=_type(vertex),
        levels=tuple(level for level, _ in copies),
        parents=_parents(flow),
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
        parents=_parents(flow),
        relays=(0,),
        inside=_inside(flow),
        source=located_at(eqn) if eqn else "",
        scope=located_in(eqn) if eqn else "",
        group=(),
    )


def _parents(flow: Flow) -> tuple[str, ...]:
    """The names of those that are read."""
    named = ((getattr(of, "name", of), is_before) for of, is_before in flow.sources)
    return tuple(sorted(f"{name}@-1" if is_before else name for name, is_before in named))


def _type(value: Any) -> str:
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def _inside(flow: Flow) -> str:
    """What stands between a vertex and its parents."""
    if any(holds_code(eqn) for eqn in flow.folded):
        return "opaque"
    return "local" if len(flow.folded) < 2 else f"{len(flow.folded)} equations"
