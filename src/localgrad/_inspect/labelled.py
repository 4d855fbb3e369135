"""The programs of a rule on a problem, in which everything that can be read carries a label."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax

from localgrad._engine import Dynamics, Forward, Moment, Problem, assembled
from localgrad._jaxpr import SILENT, Flow, dependence
from localgrad._network import Network, Vertex
from localgrad._protocol import Derivatives, Inbox, Rule, learning_rule

LONGEST = 500
"""Loops are unrolled for an audit up to this number of vertices."""


class Label(NamedTuple):
    """A source: something that a program may read. `part` tells the numbers of a state apart."""

    kind: str
    of: str
    part: str = ""


Owned = list[tuple[Label, Flow]]
"""What reaches each of several numbers, with the label of the number."""


class Passing(NamedTuple):
    """What passes between vertices.

    Attributes:
        predictions: What the prediction of every vertex, and the loss, depends on.
        arrivals: What the errors that arrive at each vertex and at each parameter have met.
    """

    predictions: Owned
    arrivals: Owned


class Running(NamedTuple):
    """What the numbers of a rule depend on.

    Attributes:
        begin, now, after: Those of the state: at the beginning, before a step, and after it.
        gradients: One for each parameter.
    """

    begin: Owned
    now: Owned
    after: Owned
    gradients: Owned


@learning_rule
class Probe(Rule):
    """Hands on what arrives: from a value and an error, a prediction and a feedback."""

    levelled: bool = False
    clamped: bool = False
    derivatives: Derivatives = "everywhere"

    def init(self, mu: Any) -> Any:
        return mu, mu

    def value(self, s: Any, mu: Any) -> Any:
        return s[0]

    def error(self, s: Any, mu: Any) -> Any:
        return s[1]

    def step(self, s: Any, inbox: Inbox) -> Any:
        return inbox.mu, inbox.feedback


@dataclass(frozen=True)
class Subject:
    """A rule on a network, and all that its programs can read.

    Attributes:
        rule, network: As they are; the rule may ask for a levelled network.
        root: What the loss holds.
        leaves: The parameters.
        given: Constants, leaves, and all other inputs.
        sources: A flow for each of them.
    """

    rule: Rule
    network: Network
    root: Label
    leaves: list[Label]
    given: Any
    sources: Any

    @property
    def is_unrolled(self) -> bool:
        """Whether every iteration of a loop is a vertex of its own."""
        return not any(vertex.lengths for vertex in jax.tree.leaves(self.network.vertices))

    @property
    def depth(self) -> int:
        """The deepest level."""
        return self.dynamics(self.given).network.depth

    def passing(self) -> Passing:
        """What passes between vertices, from values and errors that do not know of each other."""

        def held(label: Label) -> Flow:
            return _error(label) if label.part == "[1]" else _source([label])

        def program(dynamics: Dynamics, at: tuple[Any, Forward], now: Moment, nudge: Any) -> Any:
            neurons = dynamics.step(*at, now, nudge).neurons
            return neurons, dynamics.read(*at, now, nudge, False), dynamics.loss(*at, now)

        probe = Probe(self.rule.levelled, self.rule.clamped, self.rule.derivatives)
        neurons, learned, loss = replace(self, rule=probe)._followed(program, held, _error)
        passed = self._owned(neurons)
        predictions = [(label, flow) for label, flow in passed if label.part == "[0]"]
        arrivals = [(label, flow) for label, flow in passed if label.part == "[1]"]
        arrivals += zip(self.leaves, learned, strict=True)
        return Passing([*predictions, (self.root, loss)], arrivals)

    def running(self, every: bool) -> Running:
        """What the numbers of the rule depend on.

        Args:
            every: Whether synapses learn at every time, from vertices that are plastic then.
        """

        def held(label: Label) -> Flow:
            return _source([label])

        def program(dynamics: Dynamics, at: tuple[Any, Forward], now: Moment, nudge: Any) -> Any:
            after = dynamics.step(*at, now, nudge)
            learned = dynamics.read(*at, now, nudge, every)
            return dynamics.begin(at[1]).neurons, now, after, learned

        begin, now, after, learned = self._followed(program, held, held)
        before, behind = (
            self._owned(moment.neurons) + self._owned(moment.moved, ".moved")
            for moment in (now, after)
        )
        gradients = list(zip(self.leaves, learned, strict=True))
        return Running(self._owned(begin), before, behind, gradients)

    def _followed(
        self,
        program: Callable[..., Any],
        held: Callable[[Label], Flow],
        seed: Callable[[Label], Flow],
    ) -> Any:
        """What reaches the results of a program of the dynamics at one time.

        Args:
            program: A function of the dynamics, of the leaves and the forward pass, of the moment,
                and of the error of the loss.
            held: What a number of a vertex's state is a source of.
            seed: What the error of the loss is.
        """
        plain, leaves = self.dynamics(self.given), self.given[1]
        forward = jax.eval_shape(plain.forward, leaves)
        now = jax.eval_shape(plain.begin, forward)
        told = Moment(
            neurons=self._labelled(now.neurons, held),
            time=_source([Label("clock", "time")]),
            nudge=_source([self.root]),
            moved=self._labelled(now.moved, held, ".moved"),
            mu=self._labelled(now.mu, held, ".mu"),
        )
        levels = self._labelled(plain.levels, lambda label: _source([label._replace(kind="level")]))

        def run(given: Any, forward: Any, now: Any, nudge: Any, levels: Any) -> Any:
            dynamics = self.dynamics(given)
            dynamics.levels = levels
            return program(dynamics, (given[1], forward), now, nudge)

        return dependence(
            run,
            (self.given, forward, now, forward.loss, plain.levels),
            (self.sources, self._ahead(), told, seed(self.root), levels),
        )

    def _ahead(self) -> Forward:
        """What the forward pass leaves, as sources.

        What happens once is what it was computed from. The derivative of the loss is zero from the
        start at vertices that the loss does not read.
        """
        ahead = dependence(
            lambda given: self.dynamics(given).forward(given[1]), (self.given,), (self.sources,)
        )
        top = self.root._replace(kind="stored")
        return ahead._replace(
            stored=self._labelled(ahead.stored, lambda x: _source([x._replace(kind="stored")])),
            top=jax.tree.map(lambda x: SILENT if x.constant == 0 else _source([top]), ahead.top),
        )

    def dynamics(self, given: Any) -> Dynamics:
        """The dynamics of the rule on given inputs."""
        return assembled(self.rule, self.network, given[0], given[2])

    def _labelled(self, state: Any, flow: Callable[[Label], Flow], part: str = "") -> Any:
        """A flow in the place of every number of a state; None for None."""
        return jax.tree.unflatten(jax.tree.structure(state), map(flow, self._labels(state, part)))

    def _owned(self, state: Any, part: str = "") -> Owned:
        """The flows of a state, each with its label."""
        return list(zip(self._labels(state, part), jax.tree.leaves(state), strict=True))

    def _labels(self, state: Any, part: str) -> list[Label]:
        """The labels of all numbers of a state."""
        if state is None:
            return []

        def own(vertex: Vertex, entry: Any) -> Any:
            name = name_of(vertex)
            return jax.tree.map_with_path(
                lambda path, _: Label("state", name, part + jax.tree_util.keystr(path)), entry
            )

        labels = jax.tree.map(own, self.dynamics(self.given).network.vertices, state)
        return jax.tree.leaves(labels, is_leaf=lambda x: isinstance(x, Label))


def subject(
    rule: Rule, problem: Problem, names: Sequence[str], root: str, data: Mapping[str, Any]
) -> Subject:
    """A rule on a problem; loops are unrolled, branches side by side, unless that is too long.

    Args:
        rule: The rule.
        problem: The problem.
        names: Those of its leaves.
        root: That of the loss.
        data: The arrays among the arguments, by name.
    """
    traced = problem.traced(units=rule.derivatives != "everywhere")
    lengths = [vertex.lengths for vertex in jax.tree.leaves(traced.network.vertices)]
    is_short = not any(lengths) or sum(map(math.prod, lengths)) <= LONGEST
    leaves = [Label("parameter", name) for name in names]
    twins = zip(names, problem.twins, strict=False)
    sources = (
        [_source(Label("data", n) for n, x in data.items() if x is c) for c in traced.before],
        [_source([leaf]) for leaf in leaves],
        [_source([Label("twin", name)]) for name, twin in twins if twin is not None],
    )
    return Subject(
        rule,
        traced.network.laid_out if is_short else traced.network,
        Label("state", root),
        leaves,
        (traced.before, traced.leaves, traced.rest),
        sources,
    )


def name_of(vertex: Vertex) -> str:
    """A vertex as it is called in an audit; a copy of its own with its iterations."""
    return vertex.name + "".join(f"[{k}]" for k in vertex.index)


def _source(labels: Iterable[Label]) -> Flow:
    return Flow(frozenset(labels))


def _error(label: Label) -> Flow:
    return Flow(carries={label.of: frozenset()})
