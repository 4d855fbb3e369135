"""The protocol of rules: what a vertex is asked, and what it is told.

Every rule stands on this page alone, those of the package too.
"""

import inspect
import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, dataclass_transform, get_args

import jax
import jax.numpy as jnp

from localgrad._jaxpr import called_at, explain

Derivatives = Literal["everywhere", "parameters", "messages", "nowhere"]
"""Where the derivatives of activation units are used; elsewhere they count as 1."""

ASKED = ("level", "time", "pulse", "moved", "relay", "top")
"""What a rule may ask for beyond what a vertex sees of its neighbours."""

R = TypeVar("R", bound=type)


class Phase(NamedTuple):
    """A stretch of steps with one nudge.

    Attributes:
        steps: How many steps it takes, at least 0.
        nudge: ``beta``, the error of the loss meanwhile; 0 while there is no target.
        read: What the feedback of a parameter is multiplied with when it is read: ``1 / beta`` for
            a gradient of the loss. 0: nothing is read.
        every: Whether parameters are read at every time of the phase, from vertices that are
            `Rule.plastic` then, and summed; otherwise once, at its end.
    """

    steps: int
    nudge: Any = 1.0
    read: Any = 1.0
    every: bool = False


class Inbox(NamedTuple):
    """All that one vertex sees at one step; arrays have the shape and dtype of its value.

    Attributes:
        mu: The prediction that its parents make now.
        error: The error that it sends to them, as `Rule.error` says.
        feedback: ``sum_c J_cv^T e_c``, what its children send.
        stored: Its value in the forward pass.
        level: Its longest path to the loss, an integer. These only if the rule asks for them.
        time: The steps since the forward pass, an integer.
        pulse: Whether any of its children emitted a `Rule.pulse` in the last step.
        moved: Whether any of its parents' values moved in the last step.
        relay: Whether it stands in an edge that would be too short, and only hands on.
        top: The derivative of the loss at the vertices that it reads, from the forward pass.
    """

    mu: Any
    error: Any
    feedback: Any
    stored: Any
    level: Any = None
    time: Any = None
    pulse: Any = None
    moved: Any = None
    relay: Any = None
    top: Any = None


@dataclass(frozen=True)
class Loop:
    """How the loop over inference steps is compiled; without influence on what it computes.

    Attributes:
        unroll: How many steps stand side by side in the compiled loop. Compile time grows with it.
        convolutions: ``"direct"`` leaves convolutions inside the loop to XLA, ``"rewritten"``
            brings them into forms that XLA's CPU compiler keeps fast inside a loop (a layout of
            its routine's own, or patches and one matrix product). ``"auto"``: rewritten if JAX's
            default backend is the CPU. `benchmarks/inference.py` measures them.

    Example:
        >>> import localgrad as lg
        >>> rule = lg.InferenceLearning(steps=20, loop=lg.Loop(unroll=4, convolutions="direct"))
    """

    unroll: int = 1
    convolutions: Literal["auto", "direct", "rewritten"] = "auto"

    @property
    def rewrites(self) -> bool:
        """Whether convolutions are rewritten on this machine."""
        if self.convolutions == "auto":
            return jax.default_backend() == "cpu"
        return self.convolutions == "rewritten"


class Rule:
    """A learning rule: how one vertex answers to its feedback.

    A rule is a class under `learning_rule` that derives from this one. Its fields are its
    hyper-parameters; its methods are about one vertex, and are called for every vertex with that
    vertex's own state. What a method is handed is what it may read: it never gets the network.

    `step` has no default. The others say: the state is the value, which children read; the error is
    ``e = mu - x``; there is one phase of as many steps as the field `steps` says.

    Attributes:
        name: The rule's name on the command line and in tables, e.g. ``"zil"``.
        asks: The fields of `Inbox` that it needs beyond its neighbours' messages, by name.
        levelled: Whether relays make all paths between two vertices equally long.
        flows: Whether the state is an error to be added to the live prediction, rather than a value
            that cuts the network.
        clamped: Whether the loss sends what it sent in the forward pass, for ever.
        tolerance: Stop a phase when ``max |fb - e| / max |fb|`` is no larger; 0 takes all steps.
        derivatives: Where the derivatives of activation units are used.
        loop: How the loop is compiled.
        engine: ``"steps"``, all vertices at every step; ``"events"``, one wave, in which a vertex
            answers by a method ``arrival(self, feedback)``; ``"oracle"``, JAX's own reverse mode.
        sweeps: Whether one step is a sweep from the loss down, each vertex seeing those above
            already moved.
    """

    name: ClassVar[str]
    asks: ClassVar[tuple[str, ...]] = ()
    levelled: bool = False
    flows: bool = False
    clamped: bool = False
    tolerance: float = 0.0
    derivatives: Derivatives = "everywhere"
    loop: Loop = Loop()
    engine: str = "steps"
    sweeps: bool = False

    def phases(self, depth: int) -> tuple[Phase, ...]:
        """What happens from outside.

        Args:
            depth: The deepest level of the network.
        """
        nudge = getattr(self, "nudge", 1.0)
        return (Phase(getattr(self, "steps", depth), nudge, 1 / nudge),)

    def init(self, mu: Any) -> Any:
        """The state after the forward pass, which gave the value `mu`: any pytree of arrays."""
        return mu

    def value(self, s: Any, mu: Any) -> Any:
        """What the children read; `mu` is the value of the forward pass."""
        return s

    def error(self, s: Any, mu: Any) -> Any:
        """What is sent to the parents, for the prediction `mu` that they make now."""
        return mu - s

    def step(self, s: Any, inbox: Inbox) -> Any:
        """The state one step later, a pytree like `s`."""
        raise NotImplementedError

    def learned(self, s: Any, mu: Any) -> Any:
        """The value that the synapses to the children read; `mu` is that of the forward pass."""
        return self.value(s, mu)

    def bent(self, s: Any, mu: Any) -> Any:
        """The value at which functions are differentiated when these synapses learn."""
        return self.learned(s, mu)

    def plastic(self, s: Any, inbox: Inbox) -> Any:
        """Whether the synapses onto the vertex learn now; for the loss, `s` is None."""
        return True

    @property
    def tells(self) -> bool:
        """Whether vertices tell by themselves when their synapses learn."""
        return type(self).plastic is not Rule.plastic

    def pulse(self, s: Any) -> Any:
        """What the vertex emits to its parents, for rules that ask for the pulse."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """The class with the fields that differ from their defaults."""
        own = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}  # type: ignore[arg-type]
        told = [f"{name}={value!r}" for name, (value, usual) in own.items() if value is not usual]
        return f"{type(self).__name__}({', '.join(told)})"


def real(default: float) -> Any:
    """A field for a hyper-parameter that may be traced, swept with `vmap` and differentiated.

    Args:
        default: Its value unless another one is given.

    Example:
        >>> import jax, localgrad as lg
        >>> jax.tree.leaves(lg.FixedPrediction(steps=10, rate=0.5))
        [0.5, 1.0]
    """
    return field(default=default, metadata={"leaf": True})


@dataclass_transform(frozen_default=True)
def learning_rule(cls: R) -> R:
    """Make a class a rule: a frozen dataclass, and a pytree whose leaves are its `real` fields.

    Args:
        cls: A subclass of `Rule` with annotated fields; those made by `real` become leaves, all
            others are static and hashable.

    Returns:
        The class.

    Raises:
        TypeError: if it is no rule, lacks `step`, asks for what there is not, or has a method with
            other arguments than the protocol's; the message names the method.

    Example:
        >>> import localgrad as lg
        >>> @lg.learning_rule
        ... class Half(lg.Rule):
        ...     steps: int = 20
        ...     def step(self, s, inbox):
        ...         return s + 0.5 * (inbox.error - inbox.feedback)
        >>> Half(steps=3)
        Half(steps=3)
    """
    _checked(cls)
    if "name" not in vars(cls):
        cls.name = cls.__name__.lower()  # type: ignore[attr-defined]
    rule: Any = dataclass(frozen=True, repr=False)(cls)
    leaves = [f.name for f in fields(rule) if f.metadata.get("leaf")]
    static = [f.name for f in fields(rule) if f.name not in leaves]
    return jax.tree_util.register_dataclass(rule, leaves, static)


def _checked(cls: Any) -> None:
    """Raise an error that names the method, if a rule is not as the protocol asks."""

    def need(holds: bool, met: str, do: str) -> None:
        if not holds:
            raise TypeError(explain(f"{cls.__name__} {met}", called_at(), do))

    need(issubclass(cls, Rule), "is no rule.", "derive it from localgrad.Rule.")
    has_dynamics = cls.step is not Rule.step or cls.engine != Rule.engine
    need(
        has_dynamics, "has no method step.", "write step(self, s, inbox), the state one step later."
    )
    for name in ("phases", "init", "value", "error", "step", "learned", "bent", "plastic", "pulse"):
        want = list(inspect.signature(getattr(Rule, name)).parameters)
        method = getattr(cls, name)
        need(callable(method), f"has a {name} that is no method.", f"write {name}{tuple(want)}.")
        got = list(inspect.signature(method).parameters)
        do = f"write {name}({', '.join(want)})."
        need(len(got) == len(want), f"has a method {name}({', '.join(got)}).", do)
    unknown = [ask for ask in cls.asks if ask not in ASKED]
    need(not unknown, f"asks for {', '.join(unknown)}.", f"choose from {', '.join(ASKED)}.")
    emits = "pulse" not in cls.asks or cls.pulse is not Rule.pulse
    need(emits, "asks for the pulse, and has no method pulse.", "write pulse(self, s).")


def change(new: Any, old: Any) -> Any:
    """``new - old``, and 0 where they are equal, infinities too: those of a mask never move."""
    return jnp.where(new == old, jnp.zeros_like(new), new - old)


def check(rule: Any, name: str, holds: bool, do: str) -> None:
    """Raise a ValueError about a field of a rule unless the condition holds."""
    if not holds:
        met = f"{type(rule).__name__} met {name}={getattr(rule, name)!r}."
        raise ValueError(explain(met, called_at(), do))


def check_count(rule: Any, *names: str, least: int = 1) -> None:
    """Numbers of steps are Python integers: they decide what is compiled."""
    for name in names:
        value = getattr(rule, name)
        is_count = hasattr(value, "__index__") and not isinstance(value, bool) and value >= least
        check(rule, name, is_count, f"pass a Python integer of at least {least}.")


def check_rate(rule: Any, most: float = math.inf) -> None:
    """A rate lies between 0 and a limit, as far as its value is known."""
    is_known = isinstance(rule.rate, int | float)
    limit = "" if most == math.inf else f" and less than {most:g}: outside nothing converges"
    do = f"pass a number greater than 0{limit}."
    check(rule, "rate", not is_known or 0 < rule.rate < most, do)


def check_nudge(rule: Any) -> None:
    """A nudge may have either sign, as far as its value is known; without one nothing is sent."""
    is_known = isinstance(rule.nudge, int | float)
    check(rule, "nudge", not is_known or rule.nudge != 0, "pass a number other than 0.")


def check_relaxing(rule: Any, most: float = 2.0) -> None:
    """The fields that rules with steps of a relaxation share; rates are less than `most`."""
    check_count(rule, "steps")
    check_rate(rule, most)
    check_nudge(rule)
    check_choice(rule, derivatives=Derivatives)


def check_choice(rule: Any, **choices: Any) -> None:
    """A field is one of the values of a `Literal`."""
    for name, choice in choices.items():
        known = get_args(choice)
        do = f"use {', '.join(map(repr, known[:-1]))} or {known[-1]!r}."
        check(rule, name, getattr(rule, name) in known, do)
