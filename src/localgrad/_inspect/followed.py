"""What the labels in a rule's programs tell: who reads what of whom."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from localgrad._inspect.labelled import Label, Owned, Passing, Running

Near = list[tuple[str, set[str], set[str]]]
"""Relations, the nearest first: the vertices, and the parameters and data, in each of them."""


class Read(NamedTuple):
    """One thing that an update depends on.

    Attributes:
        kind: ``"state"`` (what a vertex holds), ``"stored"`` (its value of the forward pass),
            ``"parameter"``, ``"data"``, ``"twin"`` (a feedback weight), ``"clock"``, ``"level"``.
        of: Whose, or which.
        relation: ``"own"``, ``"parent"``, ``"child"``, ``"co-parent"`` (another parent of a child),
            ``"shared"`` (the clock), or ``"other"``.
    """

    kind: str
    of: str
    relation: str


@dataclass(frozen=True)
class Reads:
    """What the update of one vertex or of one parameter depends on in one step.

    Attributes:
        name: The vertex, named as in `graph`; an iteration of a loop with its number
            (``"h[2]"``), relays as a vertex of their own (``"h.relays"``). Or the parameter.
        reads: Everything, with the relation of its owner to this vertex.
        weights: The forward weights that errors are multiplied with on their way here: weight
            transport. A forward weight is a parameter that some prediction reads; one that meets a
            vertex's value first is part of an activity, not a weight.
        bends: Whether what errors are multiplied with on their way here depends on the value of
            this vertex (or on this parameter) itself: a child is nonlinear in it. Errors of the
            loss do not count: the loss, with all that is folded into it, has its derivative in any
            case.
    """

    name: str
    reads: tuple[Read, ...]
    weights: tuple[str, ...]
    bends: bool

    @property
    def is_local(self) -> bool:
        """Whether nothing is read but what is near: own, parents, children and what these read."""
        return not any(read.relation == "other" for read in self.reads)

    def of(self, *kinds: str) -> tuple[Read, ...]:
        """The reads of these kinds."""
        return tuple(read for read in self.reads if read.kind in kinds)


class Kin:
    """Who is whose parent and child, and who reads which parameter, from the predictions."""

    def __init__(self, passing: Passing) -> None:
        reads = gathered(passing.predictions)
        self.parents = {v: owners(labels, "state") for v, labels in reads.items()}
        self.inputs = {v: owners(labels, "parameter", "data") for v, labels in reads.items()}
        self.forward = set[str]().union(*(owners(x, "parameter") for x in reads.values()))

    def of_vertex(self, name: str) -> Near:
        """Relations to a vertex."""
        children = {child for child, parents in self.parents.items() if name in parents}
        return [
            ("own", {name}, self.inputs[name]),
            ("parent", self.parents[name], set()),
            ("child", children, self._joined(self.inputs, children)),
            ("co-parent", self._joined(self.parents, children), set()),
        ]

    def of_parameter(self, name: str) -> Near:
        """Relations to a parameter; its children are the vertices whose predictions read it."""
        readers = {reader for reader, inputs in self.inputs.items() if name in inputs}
        return [
            ("own", set(), {name}),
            ("child", readers, self._joined(self.inputs, readers)),
            ("co-parent", self._joined(self.parents, readers), set()),
        ]

    def _joined(self, sets: Mapping[str, set[str]], names: Iterable[str]) -> set[str]:
        return set[str]().union(*(sets[name] for name in names))


def reads_of(passing: Passing, running: Running) -> tuple[dict[str, Reads], dict[str, Reads]]:
    """What each vertex and each parameter reads."""
    kin, root = Kin(passing), passing.predictions[-1][0].of
    arrived = dict[Label, list[tuple[str, frozenset[Any]]]]()
    for label, flow in passing.arrivals:
        pairs = [(sender, factor) for sender, met in flow.carries.items() for factor in met]
        arrived.setdefault(label._replace(part=""), []).extend(pairs)

    def told(label: Label, labels: set[Label], near: Near) -> Reads:
        known = {x.of for x in labels}
        met = [  # a factor is one for who reads it
            (sender, factor)
            for sender, factor in arrived[label]
            if all(x.of in known for x in factor)
        ]
        still = {"parameter", "twin", "data"}
        pure = [factor for _, factor in met if {x.kind for x in factor} <= still]
        weights = owners(set().union(*pure), "parameter") & kin.forward - {label.of}
        bends = any(sender != root and label.of in owners(f, label.kind) for sender, f in met)
        return Reads(label.of, _related(labels, near), tuple(sorted(weights)), bends)

    vertices = {
        name: told(Label("state", name), labels, kin.of_vertex(name))
        for name, labels in gathered(running.after).items()
    }
    parameters = {
        name: told(Label("parameter", name), labels, kin.of_parameter(name))
        for name, labels in gathered(running.gradients).items()
    }
    return vertices, parameters


def clocks(running: Running) -> tuple[str, ...]:
    """What tells a vertex or a synapse the time or its level: a clock, or one of its own."""
    ticking = {
        label.of
        for (label, old), (_, new) in zip(running.now, running.after, strict=True)
        if new.reads == {label} and new is not old
    }
    names = {"clock": "time", "level": "level"}
    told = {names[kind] for kind in kinds(running.after, running.gradients) & names.keys()}
    return tuple(sorted(told | ticking))


def kinds(*flows: Owned) -> set[str]:
    """The kinds of all that is read."""
    return {label.kind for each in flows for labels in gathered(each).values() for label in labels}


def gathered(flows: Owned) -> dict[str, set[Label]]:
    """What is read by all numbers that belong to one owner."""
    reads: dict[str, set[Label]] = {}
    for label, flow in flows:
        reads.setdefault(label.of, set()).update(flow.reads)
    return reads


def owners(labels: Iterable[Label], *kinds: str) -> set[str]:
    """Whom labels of these kinds belong to."""
    return {label.of for label in labels if label.kind in kinds}


def _related(labels: Iterable[Label], near: Near) -> tuple[Read, ...]:
    """The reads behind labels, with their relations: the nearest that applies."""
    found = set()
    for kind, of, _ in labels:
        is_input = kind in ("parameter", "data", "twin")
        relations = [
            name for name, vertices, inputs in near if of in (inputs if is_input else vertices)
        ]
        relation = "shared" if kind == "clock" else next(iter(relations), "other")
        found.add(Read(kind, of, relation))
    return tuple(sorted(found))
