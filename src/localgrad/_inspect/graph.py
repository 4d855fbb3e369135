"""`graph`: the vertices of a function, as a plain object that prints as a table."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax

from localgrad._call import Signature
from localgrad._graph import Container, Graph, Part, Place, Step, levels
from localgrad._graph.stacked import Stacked
from localgrad._inspect.groups import numbered, scope_of
from localgrad._inspect.table import Column, Table
from localgrad._inspect.tabular import Tabular
from localgrad._jaxpr import holds_code, is_mark, is_wiring, located_at, located_in
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
            views.append(view(call.problem.graph(), call.names))

        jax.eval_shape(run, [leaves[k] for k in shapes])
        return views[0]

    return graph_f


def view(graph: Graph, names: Sequence[str]) -> GraphView:
    """A graph as a plain object, with names for its leaves."""
    places = levels(graph)
    known = standing(graph)
    flows: dict[Step, Flow] = {}
    # Behind the leaves stand feedback weights, which no error reaches.
    others = [NOTHING] * (len(graph.inputs) - len(names))
    leaves = [*(Flow(frozenset([name]), frozenset()) for name in names), *others]
    _follow(graph, leaves, {step: stands.name for step, stands in known.items()}, flows)
    vertices = tuple(
        _vertex(step, stands.name, stands.group, places[step], flows[step])
        for step, stands in known.items()
    )
    learning = tuple(n for n, learns in zip(names, graph.learns, strict=False) if learns)
    return GraphView(vertices, learning, {v.name: v for v in vertices})


class Flow(NamedTuple):
    """What reaches a slot without another vertex between.

    The vertices and leaves, and the computing steps on the way, which are folded into whoever
    reads the slot.
    """

    names: frozenset[str]
    folded: frozenset[Step]

    def joined(self, *others: "Flow") -> "Flow":
        """What reaches any of several slots."""
        names = self.names.union(*(other.names for other in others))
        return Flow(names, self.folded.union(*(other.folded for other in others)))


NOTHING = Flow(frozenset(), frozenset())


class Standing(NamedTuple):
    """A vertex's name, the labels of what it stands in, and of each scan length and `reverse`."""

    name: str
    group: tuple[str, ...]
    loops: tuple[tuple[int, bool], ...]


def standing(graph: Graph) -> dict[Step, Standing]:
    """The vertices that reach the loss, in the order of computation."""
    return _standing(graph, levels(graph), (), (), Counter())


def _standing(
    graph: Graph,
    places: dict[Step, list[Place]],
    group: tuple[str, ...],
    loops: tuple[tuple[int, bool], ...],
    count: Counter[str],
) -> dict[Step, Standing]:
    found: dict[Step, Standing] = {}
    for step in graph.moving:
        around = loops
        if isinstance(step, Stacked):
            around = (*loops, (step.layout.length, step.layout.reverse))
        for part in step.parts if isinstance(step, Container) else ():
            found |= _standing(part.graph, places, (*group, part.label), around, count)
        if step in places:
            label = label_of(step)
            count[label] += 1
            name = f"{label}.{count[label]}" if count[label] > 1 else label
            found[step] = Standing(name, group, loops)
    return found


def label_of(step: Step) -> str:
    """What a vertex is called before it is numbered: by its mark, or by its operation."""
    eqn = step.equation.eqn
    if is_mark(eqn):
        return str(eqn.params["name"])
    return "loss" if step.is_root else str(eqn.primitive)


def _follow(
    graph: Graph, inputs: Sequence[Flow], names: dict[Step, str], flows: dict[Step, Flow]
) -> list[Flow]:
    """The flows at a graph's outputs from those at its inputs; `flows` receives the vertices'."""
    at = dict(zip(graph.inputs, inputs, strict=True))
    for step in graph.moving:
        if isinstance(step, Container):
            each = [_through(part, at, names, flows) for part in step.parts]
            joined = [NOTHING.joined(*flows) for flows in zip(*each, strict=True)]
            at.update(zip(step.equation.outputs, joined, strict=True))
            continue
        flow = NOTHING.joined(*(at.get(slot, NOTHING) for slot in step.parents))
        if not is_wiring(step.equation.eqn):
            flow = Flow(flow.names, flow.folded | {step})
        if step in names:
            flows[step] = flow
            flow = Flow(frozenset([names[step]]), frozenset())
        at.update((slot, flow) for slot in step.wanted)
    return [at.get(slot, NOTHING) for slot in graph.outputs]


def _through(
    part: Part, at: dict[int, Flow], names: dict[Step, str], flows: dict[Step, Flow]
) -> list[Flow]:
    """The flows at the outputs of a part of a container."""
    inputs = [at.get(o, NOTHING) if isinstance(o, int) else NOTHING for o in part.operands]
    outputs = _follow(part.graph, inputs, names, flows)
    if not inputs[part.carries]:
        return outputs
    ends = [{name for name in flow.names if "@" not in name} for flow in outputs]
    inputs[part.carries] = [
        flow.joined(Flow(frozenset(f"{name}@-1" for name in end), frozenset()))
        for flow, end in zip(inputs[part.carries], ends, strict=False)
    ]
    return _follow(part.graph, inputs, names, flows)


def _vertex(
    step: Step, name: str, group: tuple[str, ...], places: Sequence[Place], flow: Flow
) -> Vertex:
    eqn = step.equation.eqn
    aval: Any = eqn.outvars[step.equation.outputs.index(step.wanted[0])].aval
    inside = "local" if len(flow.folded) < 2 else f"{len(flow.folded)} equations"
    if any(holds_code(folded.equation.eqn) for folded in flow.folded):
        inside = "opaque"
    return Vertex(
        name=name,
        operation=str(eqn.primitive),
        type=f"{aval.dtype}[{','.join(map(str, aval.shape))}]",
        levels=tuple(place.level for place in places),
        parents=tuple(sorted(flow.names)),
        relays=tuple(place.relays for place in places),
        inside=inside,
        source=located_at(step.equation.site),
        scope=located_in(step.equation.site),
        group=group,
    )
