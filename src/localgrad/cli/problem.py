"""The loss and the arguments that a command looks at, and whose fault it is if they fail."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from localgrad.cli.errors import CommandError, FailedError, UsageError, explained, place_of
from localgrad.cli.options import Model, Problem
from localgrad.cli.progress import doing, tell
from localgrad.cli.target import call, failed, load
from localgrad.experiments.data import DATASETS, FAMILIES, DataError
from localgrad.experiments.models import MODELS, is_own
from localgrad.experiments.names import suggest
from localgrad.experiments.training import NAMED, Config, Trainer

OPTIONS = {"schedule": "learning-rate-schedule"}
"""The settings whose options have other names: rules have fields of theirs, which are options."""


@dataclass(frozen=True)
class Posed:
    """A loss function and its arguments; the first holds the parameters."""

    name: str
    loss: Callable[..., Any]
    args: tuple[Any, ...]


@contextmanager
def blamed(what: str, name: str) -> Iterator[None]:
    """Turn an exception into a message with the line of the user's code that caused it.

    Args:
        what: What is being done.
        name: Of the model or the function that it is done with.

    Raises:
        FailedError: in the place of any exception but a command's own.
    """
    try:
        yield
    except CommandError:
        raise
    except Exception as error:
        raise FailedError(*_parts(what, name, error)) from error


def _parts(what: str, name: str, error: Exception) -> tuple[str, str, str]:
    """What was met, where, and what to do: in localgrad's words where it has found some."""
    if parts := explained(str(error)):
        return parts
    line = next(iter(str(error).splitlines()), "")
    met = f"{what} failed with {type(error).__name__}: {line}"
    for note in getattr(error, "__notes__", ()):
        if parts := explained(note):
            return met, *parts[1:]
    where = place_of(error) or f"the loss function of {name}"
    return met, where, "make sure that jax.grad(loss_fn)(*args) works, then try again"


def pose(options: Problem) -> Posed:
    """Build the model, or call the user's function.

    Raises:
        UsageError: if the options make no sense, or there is no such function.
        FailedError: if the data or the function cannot be had.
    """
    if options.target is None:
        trainer = make_trainer(options)
        name = options.model or Config.model
        return Posed(name, trainer.loss, (trainer.model.params, *trainer.batch(0)))
    if options.model is not None:
        raise UsageError(
            "a loss function of your own and a model cannot go together",
            f"{options.target} --model {options.model}",
            "give one of the two",
        )
    with doing(f"calling {options.target}"):
        return Posed(options.target, *call(options.target, load(options.target)))


def make_trainer(options: Model, **others: Any) -> Trainer:
    """Build the model and load its data.

    Raises:
        UsageError: if the options make no sense.
        FailedError: if the data cannot be had, or a model of the user's own fails.
    """
    settings = {f.name: getattr(options, f.name) for f in fields(Model)} | others
    model = settings["model"] = options.model or Config.model
    if is_own(model):
        load(model, "--model")
    else:
        _check("model", model, MODELS)
    for setting in NAMED.keys() & settings.keys():
        _check(setting, settings[setting], NAMED[setting])
    family, _, rest = options.data.partition(":")
    if not (rest and family in FAMILIES):
        _check("data", options.data, [*DATASETS, *(f"{family}:..." for family in FAMILIES)])
    try:
        with doing(f"building {model}"):
            trainer = Trainer(Config(**settings))
    except DataError as error:
        raise FailedError(error.met, error.where, error.advice) from error
    except Exception as error:
        if is_own(model) and (place_of(error) or not isinstance(error, ValueError)):
            raise failed(model, error) from error
        if not isinstance(error, ValueError):
            raise
        what, _, advice = str(error).partition("; ")
        where = f"--model {model}" if model in what else "the options given"
        raise UsageError(what, where, advice or "see --help for all options") from error
    if trainer.data.partial:
        tell(f"{trainer.data.name} is not complete: {trainer.data.partial}")
    return trainer


def _check(setting: str, name: str, names: Iterable[str]) -> None:
    if name not in names:
        kind = "data set" if setting == "data" else setting
        option = OPTIONS.get(setting, setting)
        raise UsageError(f"there is no {kind} {name!r}", f"--{option} {name}", suggest(name, names))
