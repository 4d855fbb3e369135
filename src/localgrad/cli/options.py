"""The options that commands share, and the arguments read into them."""

import argparse
import inspect
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

import localgrad as lg
from localgrad.cli.ranges import Count, Natural, Sizes
from localgrad.cli.rules import chosen, registry, rules
from localgrad.experiments.data import DATASETS, FAMILIES
from localgrad.experiments.losses import LOSSES
from localgrad.experiments.models import MODELS
from localgrad.experiments.training import Config

T = TypeVar("T")

Flag = Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")]
Vertices = Literal["elementary", "marked"]


def one_of(names: Iterable[str], default: str, option: str | None = None) -> Any:
    """What the help says of an option that takes one of several names; its own, if it has one."""
    hint = f"(default: {default})"
    text = f"One of {', '.join(names)}."
    return arg(metavar="NAME", name=option, help=text, help_behavior_hint=hint)


def a_path() -> Any:
    """What the help says of an option that may name a path."""
    return arg(metavar="PATH", help_behavior_hint="(default: none)")


@dataclass(frozen=True)
class Model:
    """A model, as initialised, and its data."""

    model: Annotated[
        str | None, one_of([*MODELS, "MODULE:FUNCTION to make your own"], Config.model)
    ] = None
    hidden: Annotated[Sizes, arg(help_behavior_hint="(default: the model's own)")] = ()
    """Sizes of its layers or blocks, such as: --hidden 128 64."""
    data: Annotated[
        str, one_of([*DATASETS, *(f"{family}:..." for family in FAMILIES)], Config.data)
    ] = Config.data
    folder: Annotated[str | None, a_path()] = None
    """Where the files of the data set are; digits need none."""
    loss: Annotated[str, one_of(list(LOSSES), Config.loss)] = Config.loss
    batch_size: Count = Config.batch_size
    """Examples that the loss is taken of."""
    seed: Natural = Config.seed
    """Fixes the parameters, the batches, and the split of the data."""
    vertices: Annotated[
        Vertices | None,
        arg(
            metavar="elementary|marked",
            help_behavior_hint="(default: marked if there are marks)",
        ),
    ] = None
    """What a vertex is: an equation, or a value marked by localgrad.vertex."""


@dataclass(frozen=True)
class Problem(Model):
    """A built-in model, as initialised, or your own function."""

    target: Annotated[
        str | None,
        Positional,
        arg(
            metavar="MODULE:FUNCTION",
            help="Your own function. It takes no arguments and returns (loss_fn, args), where "
            "loss_fn(*args) is a scalar and args[0] holds the parameters. It is also looked for "
            "in the current directory.",
            help_behavior_hint="(default: a built-in model)",
        ),
    ] = None


@dataclass(frozen=True)
class Reporting:
    """How to report."""

    json: Flag = False
    """Print one JSON document on standard output, and nothing else there."""
    debug: Flag = False
    """Show the traceback of an error."""


ModelOptions = Annotated[Model, OmitArgPrefixes]
ProblemOptions = Annotated[Problem, OmitArgPrefixes]
ReportingOptions = Annotated[Reporting, OmitArgPrefixes]
RuleFields = Annotated[lg.Rule, OmitArgPrefixes, arg(name="rule")]
BesideFields = Annotated[lg.Rule, arg(name="beside")]

NoFields = lg.Backprop
"""Stands for the fields of a rule that was not named: it has none."""


def rule_name(default: str) -> Any:
    """What the help says of an option that names a rule."""
    names = "|".join((*rules(), "MODULE:CLASS"))
    return arg(metavar=names, help_behavior_hint=f"(default: {default})")


def parse(command: str, kind: type[T], argv: Sequence[str]) -> T:
    """Read the arguments of a command. Ends the program for ``--help`` and wrong options.

    The rules are read first, for their fields are options too.

    Raises:
        UsageError: for an unknown rule, or fields that it does not take.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    default: Any = kind()
    named = [f.name.removesuffix("_fields") for f in fields(default) if f.name.endswith("_fields")]
    for name in named:
        early.add_argument(f"--{name}", nargs="?")
    given = vars(early.parse_known_args(argv)[0])
    for name in named:
        if rule := given[name]:
            known = {name: rule, f"{name}_fields": chosen(rule, f"--{name}")}
            default = replace(default, **known)
    text, _, example = inspect.cleandoc(kind.__doc__ or "").partition("\n\nExample: ")
    return tyro.cli(
        kind,
        prog=f"localgrad {command}",
        # Lines that begin with a space stay lines.
        description=textwrap.indent(f"{textwrap.fill(text, 78)}\nExample:\n  {example}", "  "),
        args=list(argv),
        default=default,
        registry=registry(),
    )
