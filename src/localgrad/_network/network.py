"""A function as a network: its program, cut at its vertices."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from localgrad._jaxpr import (
    is_branch,
    is_call,
    is_loop,
    is_mark,
    located_at,
    located_in,
    loop_layout,
    made,
    opened,
)
from localgrad._network.body import Body, Cutter, Inside, Point
from localgrad._network.kind import NUMBERS, READING, SENDING, Kind
from localgrad._network.levels import chains, levels, places
from localgrad._network.passes import levelled, unchosen, unrolled
from localgrad._network.run import Meet, cut, run
from localgrad._network.vertex import Tag, Vertex

State = dict[int, Any]
"""A pytree with one entry for each vertex."""


def each(f: Any, vertices: Any, *states: Any) -> Any:
    """Apply a function to the entries of all vertices, each with its own alone.

    Args:
        f: A function of one entry of each state.
        vertices: The vertices of the network.
        states: Pytrees with an entry per vertex, which may be a pytree itself.
    """
    return jax.tree.map(lambda _, *entries: f(*entries), vertices, *states)


class Network:
    """A program cut at its vertices.

    Attributes:
        body: The program, and what the hook must know of it.
        leaves: Which of its inputs are leaves.
        vertices: A pytree with one `Vertex` for each vertex; states have the same structure.
    """

    def __init__(self, jaxpr: Any, leaves: tuple[bool, ...], vertices: str) -> None:
        """Cut a program.

        Args:
            jaxpr: The program, open or closed; its first inputs are its constants, then come the
                leaves; its first output is the root.
            leaves: Which of the inputs are leaves, as a tuple of flags.
            vertices: ``"elementary"``, ``"marked"``, or ``"tagged"`` by a pass.
        """
        self.leaves = leaves
        count = len(opened(jaxpr)[0].outvars)
        is_root = (True, *[False] * (count - 1))
        self.body = Cutter(vertices).body(jaxpr, leaves, is_root, is_root, root=0)
        self.vertices = _vertices(self.body, _Around(), Counter())

    @cached_property
    def places(self) -> Any:
        """By equation, level and relays of every copy of every vertex, the last copy first."""
        return places(self.body)

    @cached_property
    def levels(self) -> State:
        """The levels of all vertices: integers with an axis for each scan; -1 if out of reach."""
        return levels(self.body, self.places)

    @property
    def depth(self) -> int:
        """The deepest level of all."""
        return max((int(np.max(x, initial=0)) for x in jax.tree.leaves(self.levels)), default=0)

    @property
    def needs_relays(self) -> bool:
        """Whether any edge spans more than one level."""
        return any(chains(self.places))

    @cached_property
    def unrolled(self) -> "Network":
        """The network without scans: every copy of a vertex is a vertex of its own."""
        return self._passed(unrolled(self.body, self.vertices))

    @cached_property
    def laid_out(self) -> "Network":
        """The network without scans and choices: the vertices of all branches side by side."""
        return self.unrolled._passed(unchosen(self.unrolled.body.jaxpr, self.unrolled.body.consts))

    @cached_property
    def levelled(self) -> "Network":
        """The network with relays in every edge that would be too short; itself without any."""
        if not self.needs_relays:
            return self
        flat = self.unrolled
        return flat._passed(levelled(flat.body, flat.vertices, flat.places))

    def forward(self, inputs: Sequence[Any]) -> tuple[list[Any], State, State]:
        """The outputs, the values of all vertices, and what happens once."""
        outputs, answers = run(self.body, inputs, None, _passing)
        return outputs, *_split(self.body, answers)

    def predict(
        self,
        inputs: Sequence[Any],
        values: State,
        kept: State,
        meet: Meet = cut,
        kind: Kind = NUMBERS,
    ) -> tuple[Any, State]:
        """The loss and every vertex's prediction, from the values that its parents hold."""
        (loss, *_), predictions = run(self.body, inputs, _merged(values, kept), meet, kind)
        return loss, predictions

    def raised(self, flags: State, kept: State, changed: Sequence[Any] = ()) -> State:
        """Of every vertex, how many flags are raised by the vertices and inputs that it reads.

        Flags are numbers, one for each copy of a vertex, and in `changed` one for each input.
        """
        inputs = list(changed) or [np.float32(0)] * len(self.body.jaxpr.invars)
        return self.predict(inputs, flags, kept, cut, READING)[1]

    def answered(self, root: Any, flags: State, kept: State) -> State:
        """Of every vertex, how many flags those raise that send messages to it, and the root."""
        inputs = [np.float32(0)] * len(self.body.jaxpr.invars)

        def heard(sent: State) -> Any:
            """Every flag times those of the senders."""
            loss, found = self.predict(inputs, sent, kept, cut, SENDING)
            products = jax.tree.map(lambda x, flag: jnp.sum(x * flag), (loss, found), (root, flags))
            return sum(jax.tree.leaves(products))

        total, pull = jax.vjp(heard, flags)
        return pull(jnp.ones_like(total))[0]

    def _passed(self, f: Any) -> "Network":
        """The network of what a pass makes of this one."""
        closed = made(f, [var.aval for var in self.body.jaxpr.invars])
        return Network(closed, self.leaves, "tagged")


@lru_cache(maxsize=64)
def network(jaxpr: Any, leaves: tuple[bool, ...], vertices: str) -> Network:
    """The network of a program, made once."""
    return Network(jaxpr, leaves, vertices)


def _passing(prediction: Any, held: None) -> Any:
    return prediction


@dataclass(frozen=True)
class _Around:
    """What stands around a program: its place, the scans there, and the call that it belongs to."""

    place: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    call: Any = None

    def inside(self, eqn: Any, k: int) -> "_Around":
        """What stands around the k-th program inside of an equation."""
        if is_loop(eqn):
            length = loop_layout(eqn).length
            return replace(
                self, place=(*self.place, f"scan x {length}"), lengths=(*self.lengths, length)
            )
        if is_branch(eqn):
            return replace(self, place=(*self.place, f"branch {k}"))
        if is_call(eqn):
            return replace(self, call=self.call or eqn)
        return replace(self, place=(*self.place, "checkpoint"))


def _vertices(body: Body, around: _Around, count: Counter[str]) -> Any:
    found: dict[int, Any] = {}
    for k, eqn in enumerate(body.jaxpr.eqns):
        node = body.nodes.get(k)
        if isinstance(node, Inside):
            each = tuple(
                _vertices(b, around.inside(eqn, j), count) for j, b in enumerate(node.bodies)
            )
            found[k] = each if is_branch(eqn) else each[0]
        elif isinstance(node, Point):
            found[k] = _point(eqn, node.outputs, around, count)
    return found


def _point(
    eqn: Any, outputs: Sequence[int], around: _Around, count: Counter[str]
) -> tuple[Vertex, ...]:
    """The vertices of one equation, one for each output: ``name``, ``name:1``, ..."""
    mark = eqn.params["name"] if is_mark(eqn) else None
    if isinstance(mark, Tag):
        return (mark.vertex,)
    label = mark or str(eqn.primitive)
    count[label] += 1
    name = f"{label}.{count[label]}" if count[label] > 1 else label
    origin, scope = located_at(eqn, around.call), located_in(around.call or eqn)
    return tuple(
        Vertex(
            f"{name}:{k}" if k else name,
            str(eqn.primitive),
            origin,
            scope,
            around.place,
            around.lengths,
            eqn.outvars[j].aval.shape,
            eqn.outvars[j].aval.dtype,
        )
        for k, j in enumerate(outputs)
    )


def _split(body: Body, answers: State) -> tuple[State, State]:
    """The answers of vertices, and those of what happens once."""
    values: State = {}
    kept: State = {}
    for k, answer in answers.items():
        node = body.nodes[k]
        if isinstance(node, Inside):
            several = answer if isinstance(answer, tuple) else (answer,)
            pairs = [_split(b, a) for b, a in zip(node.bodies, several, strict=True)]
            moving, still = zip(*pairs, strict=True)
            values[k], kept[k] = (
                (moving, still) if isinstance(answer, tuple) else (moving[0], still[0])
            )
        elif isinstance(node, Point):
            values[k] = answer
        else:
            kept[k] = answer
    return values, kept


def _merged(values: Any, kept: Any) -> Any:
    """Both in one."""
    if isinstance(values, dict):
        both = values.keys() & kept.keys()
        return values | kept | {k: _merged(values[k], kept[k]) for k in both}
    return tuple(_merged(v, k) for v, k in zip(values, kept, strict=True))
