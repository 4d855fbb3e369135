"""`audit`: what a rule's updates read, from the program of one step."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from localgrad import _rules
from localgrad._call import Signature, require
from localgrad._engine import Problem, Simulation, Sweeping
from localgrad._graph import State, each
from localgrad._inspect.followed import Found, Label
from localgrad._inspect.labelled import labelled
from localgrad._inspect.table import Column, Table, short
from localgrad._inspect.tabular import Tabular
from localgrad._rules import ZIL, ActivationRelaxation, Backprop, Rule


class Read(NamedTuple):
    """One thing that an update depends on.

    Attributes:
        kind: ``"state"`` (what a vertex or a synapse holds), ``"stored"`` (its value of the forward
            pass), ``"parameter"``, ``"data"``, ``"clock"`` (a number that changes by itself),
            ``"level"``, ``"outside"`` (an order given at each step), ``"global"`` (a number that
            belongs to no vertex, and is no clock).
        of: Whose, or which.
        relation: ``"own"``, ``"parent"``, ``"child"``, ``"co-parent"`` (another parent of a child),
            ``"feedback"`` (a weight that no prediction reads), or ``"other"``.
    """

    kind: str
    of: str
    relation: str


@dataclass(frozen=True)
class Reads:
    """What the update of one vertex or of one parameter depends on in one step.

    Attributes:
        name: The vertex, named as in `graph`; its relays, if any, are a vertex of their own
            (``"h.relays"``, one register). Or the parameter.
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


@dataclass(frozen=True)
class RuleAudit(Tabular):
    """What one rule reads on one function.

    Attributes:
        rule: The rule.
        audited: What was audited in its place, if it has no step of its own; else empty.
        vertices: The update of every vertex, by name.
        parameters: The gradient of every parameter, by name.
        phases: The programs that a vertex is driven through from outside.
        clocks: What tells a vertex or a synapse the time, its level or what to do now.
        uses_stored: Whether a step or the read-out reads values of the forward pass that are not
            the current state.
        mixing: The methods of the rule in which the units of a vertex see each other. The
            iterations of a loop stand on one axis of a vertex, so they would see each other too.
        opaque: Vertices whose derivative is taken through several equations at once, with lines.
        has_loops: Whether the function has loops.
        is_unrolled: Whether every iteration of a loop was a vertex of its own. If not (very long
            loops), a loop's vertex stands for all iterations, which count as its own.
    """

    rule: Rule
    audited: str
    vertices: Mapping[str, Reads]
    parameters: Mapping[str, Reads]
    phases: tuple[str, ...]
    clocks: tuple[str, ...]
    uses_stored: bool
    mixing: tuple[str, ...]
    opaque: tuple[str, ...]
    has_loops: bool
    is_unrolled: bool

    @property
    def is_local(self) -> bool:
        """Whether every update is local, and no iteration of a loop sees another."""
        mixes = bool(self.mixing) and self.has_loops
        return all(reads.is_local for reads in self._all) and not mixes

    @property
    def needs_symmetric_weights(self) -> bool:
        """Whether errors travel on forward weights anywhere."""
        return any(reads.weights for reads in self._all)

    @property
    def messages_bend(self) -> bool:
        """Whether messages between vertices need derivatives of nonlinear functions."""
        return any(reads.bends for reads in self.vertices.values())

    @property
    def plasticity_bends(self) -> bool:
        """Whether parameter updates need derivatives of nonlinear functions."""
        return any(reads.bends for reads in self.parameters.values())

    @property
    def _all(self) -> tuple[Reads, ...]:
        return (*self.vertices.values(), *self.parameters.values())

    def _table(self) -> Table:
        head = ("local", "states", "stored", "parameters", "clock", "weights", "f'")
        columns = (Column("update of", width=20), *map(Column, head))
        rows = [
            (
                reads.name,
                _yes(reads.is_local),
                _relations(reads.of("state", "synapse", "global")),
                _relations(reads.of("stored")),
                _relations(reads.of("parameter", "data", "twin")),
                ", ".join(sorted({r.kind for r in reads.of("clock", "level", "outside")})),
                _yes(bool(reads.weights)),
                _yes(reads.bends),
            )
            for reads in self._all
        ]
        title = ": ".join(filter(None, (_title(self.rule), self.audited)))
        legend = "o own, p parents', c children's, k other parents' of a child, x others'"
        return Table((short(title, 80),), columns, rows, (legend,))


LEGEND = (
    "weights: errors travel on forward weights; f': nonlinear derivatives in messages",
    "(sent) and in updates (learned); stored: values of the forward pass are kept",
)


@dataclass(frozen=True)
class Audit(Tabular):
    """What rules read on one function; prints as a scorecard, one line per rule.

    Attributes:
        rules: One `RuleAudit` per rule. ``audit["il"]`` is the first one of that name.
    """

    rules: tuple[RuleAudit, ...]

    def __getitem__(self, name: str) -> RuleAudit:
        """The audit of the rule of this name."""
        return {audited.rule.name: audited for audited in reversed(self.rules)}[name]

    def _table(self) -> Table:
        head = ("local", "weights", "f' sent", "f' learned", "clock", "phases", "stored")
        columns = (Column("rule", width=20), *map(Column, head))
        rows = [
            (
                _title(audited.rule),
                _yes(audited.is_local),
                _yes(audited.needs_symmetric_weights),
                _yes(audited.messages_bend),
                _yes(audited.plasticity_bends),
                _yes(bool(audited.clocks)),
                str(len(audited.phases)),
                _yes(audited.uses_stored),
            )
            for audited in self.rules
        ]
        notes = [
            f"{audited.rule.name}: {audited.audited}" for audited in self.rules if audited.audited
        ]
        if any(not audited.is_unrolled for audited in self.rules):
            notes.append("the iterations of its loops count as one vertex each")
        notes += [
            f"opaque: {name}" for name in dict.fromkeys(sum((a.opaque for a in self.rules), ()))
        ]
        return Table((), columns, rows, (*LEGEND, *notes))


def audit(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    rule: Rule | Sequence[Rule] | None = None,
    vertices: str | None = None,
) -> Callable[..., Audit]:
    """A function that tells what the updates of rules read, for `f` on its arguments.

    Every verdict is computed from the program (the jaxpr) of one step, in which all that could be
    read carries a label: the state of every vertex, the stored values of the forward pass,
    parameters, data, levels, and what belongs to no vertex. Nothing that a rule says about itself
    counts. A dependence is one of the program: a product with a zero is one. Dependence is told for
    whole vertices and whole parameters; whether the units of a vertex see each other is told by
    the rule's methods alone (`RuleAudit.mixing`), which then count as not local if there are loops.

    * **local**: the update of a vertex depends on nothing but its own state, its parents', its
      children's, and on what a child itself reads; that of a parameter on its own, on the vertices
      that read it, and on what these read. Clocks count apart.
    * **weights**: on their way, errors are multiplied with weights that predictions use. With
      `Synapses` they meet the backward weights instead.
    * **f' sent**: what errors meet on their way from a vertex to its parent depends on the
      parent's value: the child is nonlinear. **f' learned**: what errors meet on their way into
      the gradient of a parameter depends on this parameter.
    * **clock**: a vertex or a synapse reads a number that changes by itself (shared, or of its
      own), its level, or an order that is given from outside at each step.
    * **phases**: how many different programs a vertex is driven through from outside. A *forward
      pass* is one, if values of the forward pass are in the states at the beginning or are read
      later, or if the states at the beginning depend on parameters that are not the vertex's own.
      Every different loop of steps is one, compared equation by equation. The *read-out* is one,
      if gradients are not simply what the synapses have collected in the steps. An order from
      outside that more than the loss obeys is another.
    * **stored**: a step or the read-out depends on values of the forward pass that the state
      does not hold.

    `ZIL()` on events is audited by the clock, `Backprop` as the reverse sweep that it is, one visit
    of every vertex from the stored values of the forward pass. Loops are unrolled (if that makes no
    more than 3,000 equations), so that each iteration is a vertex, named ``"h"``, ``"h.2"``, ...

    Args:
        f: As for `value_and_grad`.
        argnums: As for `value_and_grad`.
        has_aux: As for `value_and_grad`.
        rule: A rule or several. All rules of localgrad with their defaults by default.
        vertices: As for `value_and_grad`.

    Returns:
        A function of the arguments of `f` that returns an `Audit`. Nothing is computed but
        programs.

    Raises:
        TypeError: as `value_and_grad`; and for a rule that runs on events and is not `ZIL`, or
            whose simulation replaces `derivative`: it has no step that could be audited.

    Source: the criteria are those by which Song, Lukasiewicz, Xu and Bogacz 2020 (locality,
    external control, phases), Whittington and Bogacz 2017, and Millidge, Tschantz, Seth and Buckley
    2020 (weight transport, nonlinear derivatives, stored values) compare learning rules.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> def loss(ws, x):
        ...     for k, w in enumerate(ws):
        ...         x = lg.vertex(jnp.tanh(x @ w), f"h{k}")
        ...     return jnp.sum(x**2)
        >>> rules = [lg.Backprop(), lg.InferenceLearning(), lg.ZIL(), lg.FaZIL()]
        >>> audit = lg.audit(loss, rule=rules)([jnp.ones((3, 3))] * 3, jnp.ones(3))
        >>> audit["fa-zil"].is_local, audit["fa-zil"].clocks, audit["zil"].clocks
        (True, (), ('level', 'time'))
        >>> [read.of for read in audit["il"].vertices["h0"].reads if read.kind == "state"]
        ['h0', 'h1']
    """
    rules = _all_rules() if rule is None else [rule] if isinstance(rule, Rule) else list(rule)
    signatures = [
        Signature.of(f, argnums, has_aux, False, False, each_rule, vertices) for each_rule in rules
    ]

    def audit_f(*args: Any, **kwargs: Any) -> Audit:
        pairs = zip(rules, signatures, strict=True)
        return Audit(tuple(_audited(rule, signature, args, kwargs) for rule, signature in pairs))

    return audit_f


def _all_rules() -> list[Rule]:
    found = [getattr(_rules, name) for name in _rules.__all__]
    kinds = [k for k in found if isinstance(k, type) and issubclass(k, Rule) and k is not Rule]
    return sorted((kind() for kind in kinds), key=lambda rule: rule.name)


def _audited(
    rule: Rule, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> RuleAudit:
    stand_in, simulation, note = _simulation_of(rule)
    found = labelled(stand_in, simulation, signature, args, kwargs)
    return RuleAudit(
        rule=rule,
        audited=note,
        vertices=_vertices(found),
        parameters=_parameters(found),
        phases=_phases(found),
        clocks=_clocks(found),
        uses_stored=_uses_stored(found),
        mixing=tuple(sorted(found.mixing)),
        opaque=found.opaque,
        has_loops=found.has_loops,
        is_unrolled=found.is_unrolled,
    )


def _simulation_of(rule: Rule) -> tuple[Rule, type[Simulation], str]:
    """The rule and the simulation that are audited, and what to say about it."""
    if isinstance(rule, Backprop):
        sweep = ActivationRelaxation(steps=1, rate=1.0, schedule="top-down")
        return sweep, Reverse, "audited as one sweep of messages from the loss to the leaves"
    note = ""
    if isinstance(rule, ZIL) and not rule.clock:
        rule, note = replace(rule, clock=True), "audited by the clock, ZIL(clock=True)"
    simulation: Any = getattr(rule.engine, "simulation", None)
    met = f"met {type(rule).__name__}(), which runs on no simulation and has no step to audit."
    do = "audit rules whose engine is Synchronous, ZIL, or Backprop."
    require(simulation is not None, met, do)
    met = f"met {simulation.__name__}, a simulation with a `derivative` of its own."
    do = "replace begin, step, run or gradients instead: these are audited."
    require(simulation.derivative is Simulation.derivative, met, do)
    return rule, simulation, note


class Swept(NamedTuple):
    """The errors of a reverse sweep, and what it has left at the synapses."""

    neurons: State
    learned: Sequence[Any]


class Reverse(Sweeping):
    """Backpropagation: one sweep from the loss to the leaves, at the values of the forward pass."""

    def __init__(self, rule: Any, problem: Problem) -> None:
        super().__init__(rule, replace(problem, twins=()))  # it has no use for feedback weights

    def begin(self) -> Swept:
        return Swept(each(jnp.zeros_like, self.stored), [jnp.zeros_like(x) for x in self.leaves])

    def neurons(self, state: Swept) -> State:
        return state.neurons

    def step(self, state: Swept, outside: None = None) -> Swept:
        rest = self.messages[len(self.leaves) :]

        @jax.custom_vjp
        def tap(prediction: Any, held: tuple[Any, Any]) -> Any:
            return held[1]

        def back(error: Any, feedback: Any) -> tuple[Any, tuple[Any, None]]:
            new = self.rule.update(error, None, error, feedback)
            return new, (new, None)

        tap.defvjp(lambda prediction, held: (held[1], held[0]), back)

        def loss(leaves: Sequence[Any], errors: State) -> Any:
            held = each(lambda error, stored: (error, stored), errors, self.stored)
            return self.network.tapped([*leaves, *rest], held, tap)

        _, pull = jax.vjp(loss, self.leaves, state.neurons)
        learned, errors = pull(self.seed)
        return Swept(errors, learned)

    def gradients(self, state: Swept) -> list[Any]:
        return self.shares(state.learned)


class Kin:
    """Who is whose parent and child, and who reads which parameter, from the predictions."""

    def __init__(self, found: Found) -> None:
        reads = found.predictions
        self.parents = {v: _owners(labels, "state") for v, labels in reads.items()}
        self.inputs = {v: _owners(labels, "parameter", "data") for v, labels in reads.items()}
        self.children = {v: {c for c in reads if v in self.parents[c]} for v in reads}
        self.readers = {p: {v for v in reads if p in self.inputs[v]} for p in found.parameters}
        self.forward = frozenset().union(*self.inputs.values())

    def close(self, name: str) -> set[str]:
        """A vertex, its parents and its children."""
        return {name} | self.parents[name] | self.children[name]

    def of_vertex(self, name: str) -> list[tuple[str, set[str], set[str]]]:
        """Relations to a vertex: the vertices, and the parameters and data, in each of them."""
        children = self.children[name]
        beside = set[str]().union(*(self.parents[c] for c in children))
        return [
            ("own", {name}, self.inputs[name]),
            ("parent", self.parents[name], set()),
            ("child", children, set().union(*(self.inputs[c] for c in children))),
            ("co-parent", beside, set()),
        ]

    def of_parameter(self, name: str) -> list[tuple[str, set[str], set[str]]]:
        """Relations to a parameter; its children are the vertices whose predictions read it."""
        readers = self.readers[name]
        beside = set[str]().union(*(self.parents[v] for v in readers))
        return [
            ("own", set(), {name}),
            ("child", readers, set().union(*(self.inputs[v] for v in readers))),
            ("co-parent", beside, set()),
        ]


def _owners(labels: Iterable[Label], *kinds: str) -> set[str]:
    return {label.owner for label in labels if label.kind in kinds}


def _vertices(found: Found) -> dict[str, Reads]:
    kin, ticking = Kin(found), _ticking(found)
    numbers, direct = (_by_owner(reads, "state") for reads in (found.step, found.direct))
    results = {}
    for name in found.vertices:
        met = [pair for a in found.arrivals if a.owner == name for pair in a.met]
        bends = any(
            sender != found.root and name in _owners(factor, "state", "stored")
            for sender, factor in met
        )
        near = kin.of_vertex(name)
        # What is read past the feedback: of other parents of a child nothing may be.
        past = direct.get(name, set()).union(*(r for owner, r in found.errors if owner == name))
        astray = _owners(past, "state", "stored") - kin.close(name)
        astray |= _astray(met, kin.children[name], kin)
        reads = _related(numbers.get(name, set()), near, ticking, astray)
        results[name] = Reads(name, reads, _weights(met, kin, None), bends)
    return results


def _parameters(found: Found) -> dict[str, Reads]:
    kin, ticking = Kin(found), _ticking(found)
    numbers = _by_owner(found.step, "synapse")
    results = {}
    for name in found.parameters:
        met = [pair for a in found.arrivals_at_parameters if a.owner == name for pair in a.met]
        bends = any(
            sender != found.root and name in _owners(factor, "parameter") for sender, factor in met
        )
        labels = found.gradients[name] | numbers.get(name, set())
        astray = _astray(met, kin.readers[name], kin)
        reads = _related(labels, kin.of_parameter(name), ticking, astray)
        results[name] = Reads(name, reads, _weights(met, kin, name), bends)
    return results


def _astray(met: Iterable[tuple[str | None, set[Label]]], senders: set[str], kin: Kin) -> set[str]:
    """The vertices that an error met on its way though neither it nor its sender is close to them.

    An error of a child may meet the values that the child's prediction is made of.
    """
    found = set[str]()
    for sender, factor in met:
        values = _owners(factor, "state", "stored")
        if sender in senders:
            found |= values - {sender} - kin.parents[sender]
        elif sender is not None:
            found |= values | {sender}
    return found


def _by_owner(numbers: dict[Label, set[Label]], kind: str) -> dict[str, set[Label]]:
    """What is read by all numbers of the state that belong to one owner."""
    reads: dict[str, set[Label]] = {}
    for label, read in numbers.items():
        if label.kind == kind:
            reads.setdefault(label.owner, set()).update(read)
    return reads


def _related(
    labels: set[Label],
    near: list[tuple[str, set[str], set[str]]],
    ticking: set[Label],
    astray: set[str],
) -> tuple[Read, ...]:
    """The reads behind labels, with their relations: the nearest that applies."""
    found = set()
    for label in labels:
        kind, owner, _ = label
        is_input = kind in ("parameter", "data", "twin", "synapse")
        relations = [
            name for name, vertices, inputs in near if owner in (inputs if is_input else vertices)
        ]
        if kind in ("state", "stored") and owner in astray:
            relations = []
        if kind == "outside" or (kind == "global" and label in ticking):
            relations = ["shared"]
        shown = "clock" if kind == "global" and label in ticking else kind
        found.add(Read(shown, owner, relations[0] if relations else "other"))
    return tuple(sorted(found))


def _weights(
    met: Iterable[tuple[str | None, set[Label]]], kin: Kin, but: str | None
) -> tuple[str, ...]:
    """The forward weights among factors: made of parameters and data, without any vertex."""
    still = {"parameter", "twin", "data"}
    pure = [factor for sender, factor in met if sender is None or {x.kind for x in factor} <= still]
    found = set[str]().union(*(_owners(factor, "parameter") for factor in pure))
    return tuple(sorted((found & kin.forward) - {but}))


def _ticking(found: Found) -> set[Label]:
    """The numbers of the state that change by themselves: after a step they depend on no other."""
    return {
        label
        for label, reads in found.step.items()
        if label.kind in ("global", "state") and reads == {label} and label not in found.idle
    }


def _clocks(found: Found) -> tuple[str, ...]:
    """What tells a vertex or a synapse the time, its level or what to do."""
    ticking = _ticking(found)
    read = set[Label]().union(
        *(reads for label, reads in found.step.items() if _obeys(label, found)),
        *found.gradients.values(),
    )
    told = {x.kind for x in read if x.kind in ("level", "outside")}
    return tuple(sorted(told | {x.owner for x in read & ticking}))


def _obeys(label: Label, found: Found) -> bool:
    """Whether a number of the state belongs to a vertex below the loss, or to a synapse."""
    return label.kind in ("state", "synapse") and label.owner != found.root


def _uses_stored(found: Found) -> bool:
    reads = set[Label]().union(*found.step.values(), *found.gradients.values())
    return any(label.kind == "stored" for label in reads)


def _phases(found: Found) -> tuple[str, ...]:
    """The programs that a vertex is driven through from outside."""
    kin = Kin(found)
    swept = any(
        _owners(reads, "stored") or _owners(reads, "parameter", "data") - kin.inputs[label.owner]
        for label, reads in found.begin.items()
        if label.kind == "state"
    )
    left = [
        label
        for name, reads in found.gradients.items()
        for label in reads
        if label.kind != "synapse" or label.owner != name
    ]
    ordered = "outside" in _clocks(found)
    loops = ("steps", *(f"steps {k}" for k in range(2, found.loops + 1)))
    return (
        *(("forward pass",) if swept or _uses_stored(found) else ()),
        *loops,
        *(("order from outside",) if ordered else ()),
        *(("read-out",) if left else ()),
    )


def _title(rule: Rule) -> str:
    """A rule's name, and the fields that differ from their defaults."""
    other = [
        f"{f.name}={getattr(rule, f.name)}"
        for f in fields(rule)
        if f.default is not MISSING and getattr(rule, f.name) is not f.default
    ]
    return f"{rule.name}({', '.join(other)})" if other else rule.name


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _relations(reads: Iterable[Read]) -> str:
    """The relations that occur, by their initials."""
    letters = {"own": "o", "parent": "p", "child": "c", "co-parent": "k", "other": "x"}
    found = {read.relation for read in reads}
    return " ".join(letter for name, letter in letters.items() if name in found)
