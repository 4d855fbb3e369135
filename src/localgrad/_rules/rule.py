"""What every rule is."""

from abc import ABC
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar, dataclass_transform, get_args

import jax

from localgrad._engine import Engine, Loop
from localgrad._jaxpr import called_at, explain

Real = float | jax.Array
"""A hyper-parameter that may be traced, swept with `vmap` and differentiated."""

Derivatives = Literal["everywhere", "parameters", "messages", "nowhere"]
"""Where the derivatives of activation units are used; elsewhere they count as 1."""

R = TypeVar("R", bound=type)


@dataclass(frozen=True)
class Rule(ABC):
    """A learning rule: how a vertex answers to its feedback, and which engine drives it.

    A rule is a final class under `learning_rule`. Its fields are its hyper-parameters; its methods
    are the mathematics of one vertex, called by the engine with that vertex's own state and the
    feedback of its children. It never gets the graph.

    Attributes:
        name: The rule's name on the command line and in tables, e.g. ``"zil"``.
        engine: What drives the rule over a graph.
    """

    name: ClassVar[str]
    engine: ClassVar[Engine]

    def __repr__(self) -> str:
        """The class with the fields that differ from their defaults."""
        own = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        told = [f"{name}={value!r}" for name, (value, usual) in own.items() if value is not usual]
        return f"{type(self).__name__}({', '.join(told)})"


@dataclass_transform(frozen_default=True)
def learning_rule(cls: R) -> R:
    """Make a class a rule: a frozen dataclass, and a pytree whose leaves are its `Real` fields.

    Args:
        cls: A subclass of `Rule` with annotated fields; those of type ``float | jax.Array`` become
            leaves, all others are static and hashable.

    Returns:
        The class.

    Example:
        >>> import jax, localgrad as lg
        >>> jax.tree.leaves(lg.FixedPrediction(steps=10, rate=0.5))
        [0.5, 1.0]
    """
    rule: Any = dataclass(frozen=True, repr=False)(cls)
    leaves = [field.name for field in fields(rule) if field.type == Real]
    static = [field.name for field in fields(rule) if field.name not in leaves]
    return jax.tree_util.register_dataclass(rule, leaves, static)


def check(rule: Any, field: str, holds: bool, do: str) -> None:
    """Raise a ValueError about a field of a rule unless the condition holds."""
    if not holds:
        met = f"{type(rule).__name__} met {field}={getattr(rule, field)!r}."
        raise ValueError(explain(met, called_at(), do))


def check_count(rule: Any, *names: str, least: int = 1) -> None:
    """Numbers of steps are Python integers: they decide what is compiled."""
    for name in names:
        value = getattr(rule, name)
        is_count = hasattr(value, "__index__") and not isinstance(value, bool) and value >= least
        check(rule, name, is_count, f"pass a Python integer of at least {least}.")


def check_positive(rule: Any, *names: str) -> None:
    """Rates and nudges are positive, as far as their values are known."""
    for name in names:
        value = getattr(rule, name)
        is_known = isinstance(value, int | float)
        check(rule, name, not is_known or value > 0, "pass a number greater than 0.")


def check_relaxing(rule: Any) -> None:
    """The fields that rules with steps of a relaxation share."""
    check_count(rule, "steps")
    check_positive(rule, "rate", "nudge")
    check_choice(rule, derivatives=Derivatives)


def check_choice(rule: Any, **choices: Any) -> None:
    """A field is one of the values of a `Literal`."""
    for name, choice in choices.items():
        known = get_args(choice)
        do = f"use {', '.join(map(repr, known[:-1]))} or {known[-1]!r}."
        check(rule, name, getattr(rule, name) in known, do)


__all__ = [
    "Derivatives",
    "Loop",
    "Real",
    "Rule",
    "check_choice",
    "check_count",
    "check_positive",
    "check_relaxing",
    "learning_rule",
]
