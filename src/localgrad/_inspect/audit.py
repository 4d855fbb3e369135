"""`audit`: what a rule's updates read, from the program of one step."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp

from localgrad import _rules
from localgrad._call import Signature, require
from localgrad._inspect.followed import Read, Reads, clocks, kinds, reads_of
from localgrad._inspect.graph import view
from localgrad._inspect.labelled import Running, subject
from localgrad._inspect.mixing import mixing
from localgrad._inspect.table import Column, Table, short
from localgrad._inspect.tabular import Tabular
from localgrad._protocol import Inbox, Phase, Rule, learning_rule
from localgrad._rules import ZIL, Backprop


@dataclass(frozen=True)
class RuleAudit(Tabular):
    """What one rule reads on one function.

    Attributes:
        rule: The rule.
        audited: What was audited in its place, if it has no step of its own; else empty.
        vertices: The update of every vertex, by name.
        parameters: The gradient of every parameter, by name.
        phases: The programs that a vertex is driven through from outside.
        clocks: What tells a vertex or a synapse the time or its level.
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
                _relations(reads.of("state")),
                _relations(reads.of("stored")),
                _relations(reads.of("parameter", "data", "twin")),
                ", ".join(sorted({r.kind for r in reads.of("clock", "level")})),
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

    Every verdict but that on phases is computed from the program (the jaxpr) of one step and of one
    reading of the synapses, in which all that could be read carries a label: the state of every
    vertex, the stored values of the forward pass, parameters, data, levels, and the time. A
    dependence is one of the program: a product with a zero is one. Dependence is told for whole
    vertices and whole parameters; whether the units of a vertex see each other is told by the
    rule's methods alone (`RuleAudit.mixing`), which then count as not local if there are loops.

    * **local**: the update of a vertex depends on nothing but its own state, its parents', its
      children's, and on what a child itself reads; that of a parameter on its own, on the vertices
      that read it, and on what these read. Clocks count apart.
    * **weights**: on their way, errors are multiplied with weights that predictions use. With
      `Synapses` they meet the backward weights instead.
    * **f' sent**: what errors meet on their way from a vertex to its parent depends on the
      parent's value: the child is nonlinear. **f' learned**: what errors meet on their way into
      the gradient of a parameter depends on this parameter.
    * **clock**: a vertex or a synapse reads the time, its level, or a number of its own that
      changes by itself.
    * **phases**: how many different programs a vertex or a synapse is driven through from outside.
      A *forward pass* is one, if its values are in the states at the beginning or are read later.
      Each `Phase` of the rule is one, and the *read-out* after it. If synapses tell by themselves
      when they learn, at every time, all phases are one, for only the loss is told of them; but an
      *order from outside* is one, if in some phases what the synapses learn does not count.
    * **stored**: a step or the read-out depends on values of the forward pass that the state
      does not hold.

    `ZIL()` on events is audited by the clock, `Backprop` as the reverse sweep that it is, one visit
    of every vertex from the stored values of the forward pass. Loops are unrolled (if that makes no
    more than 500 vertices), so that each iteration is a vertex, named ``"h[0]"``, ``"h[1]"``, ...

    What it does not see: the numbers that a rule has closed over, what passes through mutable
    references inside of the function, and whether another parent of a child is read elsewhere than
    in that child's message.

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
        TypeError: as `value_and_grad`; and for a rule that does not run step by step, unless it is
            `ZIL` or `Backprop`: it has no step that could be audited.

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
    rules = _every_rule() if rule is None else [rule] if isinstance(rule, Rule) else list(rule)
    signatures = [
        Signature.of(f, argnums, has_aux, False, False, each_rule, vertices) for each_rule in rules
    ]

    def audit_f(*args: Any, **kwargs: Any) -> Audit:
        pairs = zip(rules, signatures, strict=True)
        return Audit(tuple(_audited(rule, signature, args, kwargs) for rule, signature in pairs))

    return audit_f


def _every_rule() -> list[Rule]:
    found = [getattr(_rules, name) for name in _rules.__all__]
    kinds = [k for k in found if isinstance(k, type) and issubclass(k, Rule) and k is not Rule]
    return sorted((kind() for kind in kinds), key=lambda rule: rule.name)


@learning_rule
class Sweep(Rule):
    """Backpropagation, as one sweep from the loss to the leaves at the values of the forward pass.

    Each vertex passes its feedback on, and synapses learn as the sweep passes them.
    """

    sweeps: bool = True

    def phases(self, depth: int) -> tuple[Phase, ...]:
        return (Phase(1, every=True),)

    def init(self, mu: Any) -> Any:
        return jnp.zeros_like(mu)

    def value(self, s: Any, mu: Any) -> Any:
        return mu

    def error(self, s: Any, mu: Any) -> Any:
        return s

    def step(self, s: Any, inbox: Inbox) -> Any:
        return inbox.feedback


def _audited(
    rule: Rule, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> RuleAudit:
    call, (stepped, note) = signature.bind(args, kwargs), _stepped(rule)
    bare = replace(call.problem, twins=())
    traced = bare.traced()
    seen = view(traced.network, len(traced.before), call.names).vertices
    arrays = {_name(path): x for path, x in jax.tree.leaves_with_path((args, kwargs))}
    problem = bare if isinstance(rule, Backprop) else call.problem  # it has no use for twins
    about = subject(stepped, problem, call.names, seen[-1].name, arrays)
    phases = stepped.phases(about.depth)
    passing, running = about.passing(), about.running(all(phase.every for phase in phases))
    vertices, parameters = reads_of(passing, running)
    return RuleAudit(
        rule=rule,
        audited=note,
        vertices=vertices,
        parameters=parameters,
        phases=_phases(phases, running),
        clocks=clocks(running),
        uses_stored="stored" in kinds(running.after, running.gradients),
        mixing=mixing(stepped, traced.network),
        opaque=tuple(f"{v.name} ({v.source})" for v in seen if v.inside == "opaque"),
        has_loops=any(v.group for v in seen),
        is_unrolled=about.is_unrolled,
    )


def _stepped(rule: Rule) -> tuple[Rule, str]:
    """The rule whose step is audited, and what to say about it."""
    if isinstance(rule, Backprop):
        return Sweep(), "audited as one sweep of messages from the loss to the leaves"
    if isinstance(rule, ZIL) and not rule.clock:
        return replace(rule, clock=True), "audited by the clock, ZIL(clock=True)"
    met = f"met {type(rule).__name__}(), which does not run step by step and has no step to audit."
    do = "audit rules whose engine is 'steps', ZIL, or Backprop."
    require(rule.engine == "steps", met, do)
    return rule, ""


def _phases(phases: Sequence[Phase], running: Running) -> tuple[str, ...]:
    """The programs that a vertex or a synapse is driven through from outside."""
    is_swept = "stored" in kinds(running.begin, running.after, running.gradients)
    every = all(phase.every for phase in phases)
    counts = {not (isinstance(p.read, int | float) and p.read == 0) for p in phases}
    return (
        *(("forward pass",) if is_swept else ()),
        "steps",
        *(f"steps {k}" for k in range(2, 1 if every else len(phases) + 1)),
        *(("order from outside",) if every and len(counts) > 1 else ()),
        *(() if every else ("read-out",)),
    )


def _name(path: Any) -> str:
    """How a user would write an array among the arguments."""
    first, *rest = path
    return f"{'kwargs' if first.idx else 'args'}{jax.tree_util.keystr(tuple(rest))}"


def _title(rule: Rule) -> str:
    """A rule's name, and the fields that differ from their defaults."""
    other = [
        f"{f.name}={getattr(rule, f.name)}"
        for f in fields(rule)  # type: ignore[arg-type]
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
