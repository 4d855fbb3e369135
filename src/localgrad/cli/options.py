"""The commands' options, and the arguments read into them."""

import argparse
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Annotated, Any, get_args

import jax
import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

import localgrad as lg
from localgrad.cli.errors import UsageError, suggest
from localgrad.experiments.models import MODELS
from localgrad.experiments.training import Config


def rules() -> dict[str, type[lg.Rule]]:
    """Every rule that localgrad exports, by its name."""
    exported = [value for value in vars(lg).values() if inspect.isclass(value)]
    found = [c for c in exported if issubclass(c, lg.Rule) and "name" in vars(c)]
    return {rule.name: rule for rule in sorted(found, key=lambda rule: rule.name)}


ModelName = Annotated[str, tyro.conf.arg(metavar="|".join(MODELS))]
RuleName = Annotated[
    str,
    tyro.conf.arg(metavar="|".join(rules()), help_behavior_hint=f"(default: {lg.ZIL.name})"),
]
RuleFields = Annotated[lg.Rule, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="rule")]
Sizes = Annotated[tuple[int, ...], tyro.conf.arg(help_behavior_hint="(default: the model's own)")]
Target = Annotated[
    str | None,
    tyro.conf.Positional,
    tyro.conf.arg(metavar="MODULE:FUNCTION", help_behavior_hint="(default: a built-in model)"),
]


@dataclass(frozen=True)
class Train:
    """Train a classifier of 8 x 8 digits with a local learning rule. A rule with settings of its
    own shows them with: localgrad train --rule NAME --help.

    Example: localgrad train --model cnn --rule zil --epochs 20
    """

    model: ModelName = Config.model
    """What to train."""
    rule: RuleName = lg.ZIL.name
    """How to compute the gradients."""
    rule_fields: RuleFields = field(default_factory=lg.ZIL)
    """The rule's own settings."""
    hidden: Sizes = ()
    """Layer or block sizes of the model, such as: --hidden 128 64."""
    epochs: int = Config.epochs
    """Visits to every training example."""
    batch_size: int = Config.batch_size
    """Examples per step."""
    learning_rate: float = Config.learning_rate
    """AdamW's learning rate at the start; it falls to zero along a half cosine."""
    seed: int = Config.seed
    """Fixes the split of the data, the initial parameters and the batches."""


@dataclass(frozen=True)
class Compare:
    """Compare a rule's gradient with backpropagation's, parameter by parameter, for a built-in
    model or for your own function.

    Your function takes no arguments and returns (loss_fn, args); the gradient is that of
    loss_fn(*args) with respect to args[0]. It is also looked for in the current directory.

    Example: localgrad compare my_package.my_module:my_function --rule zil
    """

    target: Target = None
    """Your own function."""
    model: Annotated[
        str | None,
        tyro.conf.arg(metavar="|".join(MODELS), help_behavior_hint=f"(default: {Config.model})"),
    ] = None
    """The built-in model, as initialised; it cannot go with a function of your own."""
    rule: RuleName = lg.ZIL.name
    """How to compute the gradients."""
    rule_fields: RuleFields = field(default_factory=lg.ZIL)
    """The rule's own settings."""
    hidden: Sizes = ()
    """Layer or block sizes of the built-in model, such as: --hidden 128 64."""
    batch_size: int = Config.batch_size
    """Examples that the built-in model's loss is averaged over."""
    seed: int = Config.seed
    """Fixes the built-in model's data and parameters."""


def parse(argv: Sequence[str]) -> Train | Compare:
    """Read the arguments. Ends the program for ``--help``, ``--version`` and wrong options.

    The rule is read first, for its fields are options too.

    Raises:
        UsageError: for an unknown rule.
    """
    early = argparse.ArgumentParser(prog="localgrad", add_help=False, allow_abbrev=False)
    early.add_argument("--version", action="store_true")
    early.add_argument("--rule", nargs="?", default=lg.ZIL.name)
    known, _ = early.parse_known_args(argv)
    if known.version:
        print("localgrad", version("localgrad"))
        raise SystemExit(0)
    name = known.rule or lg.ZIL.name
    if name not in rules():
        raise UsageError(f"there is no rule {name!r}", f"--rule {name}", suggest(name, rules()))
    rule = rules()[name]
    defaults: dict[str, Train | Compare] = {
        "train": Train(rule=name, rule_fields=rule()),
        "compare": Compare(rule=name, rule_fields=rule()),
    }
    options: Train | Compare = tyro.cli(
        _either(defaults),
        prog="localgrad",
        description="Gradients by local learning rules. localgrad --version tells the version.",
        args=list(argv),
        registry=_registry(),
    )
    return options


def _either(defaults: dict[str, Train | Compare]) -> Any:
    return tyro.extras.subcommand_type_from_defaults(
        defaults,
        {name: inspect.cleandoc(type(d).__doc__ or "") for name, d in defaults.items()},
        prefix_names=False,
    )


def _registry() -> ConstructorRegistry:
    """A rule's field that may hold an array (``float | jax.Array``) is a float here."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def array(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[float] | None:
        if info.type is not jax.Array and jax.Array not in get_args(info.type):
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="FLOAT",
            instance_from_str=lambda texts: float(texts[0]),
            is_instance=lambda value: isinstance(value, float | int | jax.Array),
            str_from_instance=lambda value: [str(float(value))],
        )

    return registry
