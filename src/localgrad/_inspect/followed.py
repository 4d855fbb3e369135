"""What the labels in a program tell: what reaches what, and what errors meet on their way."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name

from localgrad._jaxpr import Program
from localgrad._jaxpr.dependence import NOTHING, Dependence, Flow

PREFIX = "localgrad.audit/"
SEED = -1
"""The number of the error of the loss."""

Path = tuple[int, ...]


class Label(NamedTuple):
    """A source: something that a program may read. `part` tells the numbers of a state apart."""

    kind: str
    owner: str
    part: str = ""


class Arrival(NamedTuple):
    """The feedback that a vertex got, and what its errors had met on their way.

    `met` holds the vertex that sent the error (None where that is not known) and the sources of
    one factor.
    """

    owner: str
    met: list[tuple[str | None, set[Label]]]


@dataclass
class Found:
    """What the programs of a simulation read.

    Attributes:
        root: The name of the loss.
        vertices: The names of all vertices, in the order of computation.
        parameters: The names of the leaves.
        predictions: What the prediction of every vertex and of the root reads.
        begin, step, gradients: What each number of the state at the beginning and after a step
            reads, and each gradient.
        idle: The numbers of the state that a step leaves as they are.
        direct: As `step`, without what is read through the feedback.
        errors: What the errors of a vertex read, without what they read through the feedback.
        arrivals: What errors meet on their way to the vertices.
        arrivals_at_parameters: The same for the parameters.
        loops: How many different loops, and other programs on the state, all steps consist of.
        opaque: Vertices with a derivative through several equations, and their lines.
        mixing: The methods of the rule in which the units of a vertex see each other.
        has_loops: Whether the function has loops, whose iterations stand on one axis in a vertex.
        is_unrolled: Whether every iteration of a loop is a vertex of its own.
    """

    root: str = ""
    vertices: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    predictions: dict[str, set[Label]] = field(default_factory=dict)
    begin: dict[Label, set[Label]] = field(default_factory=dict)
    step: dict[Label, set[Label]] = field(default_factory=dict)
    gradients: dict[str, set[Label]] = field(default_factory=dict)
    direct: dict[Label, set[Label]] = field(default_factory=dict)
    errors: list[tuple[str, set[Label]]] = field(default_factory=list)
    idle: set[Label] = field(default_factory=set)
    arrivals: list[Arrival] = field(default_factory=list)
    arrivals_at_parameters: list[Arrival] = field(default_factory=list)
    loops: int = 0
    opaque: tuple[str, ...] = ()
    mixing: set[str] = field(default_factory=set)
    has_loops: bool = False
    is_unrolled: bool = True


class Labels:
    """All sources of one audit; each is a bit."""

    def __init__(self) -> None:
        self._bits: dict[Label, int] = {}

    def bit(self, label: Label) -> int:
        """The number of a label; a new one for a new label."""
        return self._bits.setdefault(label, len(self._bits))

    def named(self, tree: Any, label: Label) -> Any:
        """A pytree whose arrays carry a label in the program that is being traced."""
        return called(tree, "source", self.bit(label))

    def all_of(self, state: Any, kind: str, places: dict[Path, str]) -> Any:
        """A state whose entries carry a label of this kind with the name of their vertex."""
        owners = self.owners(state, places)
        return jax.tree.map(
            lambda x, owner: self.named(x, owner._replace(kind=kind)), state, owners
        )

    def owners(self, state: Any, places: dict[Path, str]) -> Any:
        """The vertices that the entries of a state belong to."""
        return jax.tree_util.tree_map_with_path(
            lambda path, _: Label("state", places[integers(path)]), state
        )

    def within(self, bits: int) -> set[Label]:
        """The labels of a set."""
        return {label for label, bit in self._bits.items() if bits >> bit & 1}


def called(tree: Any, kind: str, what: int | str) -> Any:
    """A pytree whose arrays carry a name for an audit in the program that is being traced.

    Kinds are ``source`` (a label, by its bit), and for a call of a rule, by its number: ``owner``
    (the state of the vertex that it is about), ``error`` (what is sent), ``feedback`` (what has
    arrived), ``value`` (of a vertex in a sweep); ``mixing`` names a method of the rule.
    """
    return jax.tree.map(lambda x: checkpoint_name(x, f"{PREFIX}{kind}/{what}"), tree)


def integers(path: Any) -> Path:
    """The keys of a place in nested states, among those of what stands around and inside."""
    keys = [key.key for key in path if isinstance(key, jax.tree_util.DictKey)]
    return tuple(itertools.takewhile(lambda key: isinstance(key, int), keys))


class Followed:
    """The flows of the labels through one program, followed in three ways.

    First errors are told apart from what they meet; then everything is followed, and once more
    without what has arrived as feedback. `owners` are those of the program's outputs, by section.
    """

    def __init__(self, program: Program, labels: Labels, owners: dict[str, list[Label]]) -> None:
        self._program, self._labels, self._owners = program, labels, owners
        self._whose: dict[int, set[str]] = {}
        self._feedback: dict[int, Flow] = {}
        self._sent: dict[int, Flow] = {}
        self._mixing: set[str] = set()

    def tell(self, found: Found) -> None:
        """Note everything that can be read off the flows."""
        carried = self._run(self._carrying)
        self._whose[SEED] = {found.root}
        found.mixing = self._mixing
        found.arrivals = [
            self._arrival(owner, flow)
            for number, flow in self._feedback.items()
            for owner in self._whose[number]
        ]
        learned = [pair for pair in carried["step"] if pair[0].kind == "synapse"]
        found.arrivals_at_parameters = [
            self._arrival(owner.owner, flow)
            for owner, flow in (*carried["gradients"], *learned)
            if flow.carries
        ]

        read = self._run(self._reading)
        for owner, flow in (*read["predictions"], *read["root"]):
            found.predictions.setdefault(owner.owner, set()).update(self._known(flow))
        for owner, flow in read["gradients"]:
            found.gradients.setdefault(owner.owner, set()).update(self._known(flow))
        found.begin = {owner: self._known(flow) for owner, flow in read["begin"]}
        found.step = {owner: self._known(flow) for owner, flow in read["step"]}
        found.idle = {owner for owner, flow in read["step"] if flow.same is not None}

        direct = self._run(self._bypassing)["step"]
        found.direct = {owner: self._known(flow) for owner, flow in direct}
        found.errors = [
            (owner, self._known(flow))
            for number, flow in self._sent.items()
            for owner in self._whose[number]
        ]

    def _run(self, meet: Callable[[str, str, Flow], Flow]) -> dict[str, list[tuple[Label, Flow]]]:
        def met(name: str, flow: Flow) -> Flow:
            if not name.startswith(PREFIX):
                return flow
            kind, _, what = name.removeprefix(PREFIX).partition("/")
            return meet(kind, what, flow)

        inputs = [NOTHING] * len(self._program.inputs)
        supply = iter(Dependence(met).run(self._program, inputs))
        return {
            section: [(owner, next(supply)) for owner in part]
            for section, part in self._owners.items()
        }

    def _carrying(self, kind: str, what: str, flow: Flow) -> Flow:
        """Errors are carried on; what they have met is noted where feedback arrives."""
        if kind == "error":
            return Flow(carries={int(what): frozenset()})
        if kind == "owner":
            whose = {label.owner for label in self._labels.within(flow.reads)}
            self._whose.setdefault(int(what), set()).update(whose)
        elif kind == "feedback":
            self._feedback[int(what)] = flow.joined(self._feedback.get(int(what), NOTHING))
        elif kind == "mixing":
            self._mixing.add(what)
        known = self._reading(kind, what, flow)
        return known._replace(carries=flow.carries) if kind == "source" else known

    def _reading(self, kind: str, what: str, flow: Flow) -> Flow:
        """Labels are sources, and so are the values of the forward pass that a sweep computes."""
        if kind == "source":
            return Flow(1 << int(what), same=int(what))
        return Flow(1 << self._labels.bit(Label("value", what))) if kind == "value" else flow

    def _bypassing(self, kind: str, what: str, flow: Flow) -> Flow:
        """What has arrived as feedback goes no further."""
        if kind == "error":
            self._sent[int(what)] = flow.joined(self._sent.get(int(what), NOTHING))
        return NOTHING if kind == "feedback" else self._reading(kind, what, flow)

    def _known(self, flow: Flow) -> set[Label]:
        return self._named(flow.reads)

    def _named(self, bits: int) -> set[Label]:
        """The labels of a set, values in a sweep as stored values of their vertices."""
        labels = self._labels.within(bits)
        values = {label for label in labels if label.kind == "value"}
        owners = (owner for label in values for owner in self._whose[int(label.owner)])
        return labels - values | {Label("stored", owner) for owner in owners}

    def _arrival(self, owner: str, flow: Flow) -> Arrival:
        met = [
            (sender, self._named(factor))
            for error, factors in flow.carries.items()
            for factor in factors
            for sender in self._whose.get(error) or (None,)
        ]
        # Where no error is known on the way, all that was read may have been a factor.
        return Arrival(owner, met if flow.carries else [(None, self._named(flow.reads))])
