"""The user's own function, named on the command line as ``package.module:function``."""

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

from localgrad.cli.errors import FailedError, UsageError, place_of
from localgrad.experiments.names import suggest


def load(target: str, where: str = "MODULE:FUNCTION") -> Callable[..., Any]:
    """Import the function that ``target`` names; the current directory is looked in first.

    Raises:
        UsageError: if there is no such module or function.
        FailedError: if the module cannot be imported.
    """
    module_name, colon, function_name = target.partition(":")
    if not (module_name and colon and function_name):
        raise UsageError(
            f"{target!r} does not name a function",
            f"{where} {target}",
            "write it as package.module:function, such as: my_module:my_function",
        )
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise failed(f"import of {module_name}", error) from error
        raise UsageError(
            f"there is no module {error.name!r}",
            f"{target}, looked for in {os.getcwd()} and among the installed packages",
            suggest(error.name, _siblings(error.name)),
        ) from error
    except Exception as error:
        raise failed(f"import of {module_name}", error) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        own = [name for name, value in vars(module).items() if _is_own(module_name, value)]
        raise UsageError(
            f"module {module_name!r} has no function {function_name!r}",
            f"{target}, in {module.__file__}",
            suggest(function_name, own),
        )
    return function


def call(target: str, function: Callable[[], Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Call the user's function for its loss function and arguments.

    Raises:
        FailedError: if it raises, or returns anything but ``(loss_fn, args)``.
    """
    try:
        result = function()
    except Exception as error:
        raise failed(target, error) from error
    match result:
        case (loss, (_, *_) as args) if callable(loss):
            return loss, tuple(args)
    raise FailedError(
        f"{target} did not return (loss_fn, args)",
        f"it returned a value of type {type(result).__name__}",
        "return a function and the tuple of its arguments, such as: return loss, (params, x, y)",
    )


def failed(what: str, error: Exception) -> FailedError:
    """What to raise for an exception in the user's code."""
    return FailedError(
        f"{what} failed with {type(error).__name__}: {error}",
        place_of(error) or what,
        "correct it there, then run the command again",
    )


def _siblings(module_name: str) -> list[str]:
    """The modules beside the missing one: in its package, or in the current directory."""
    package, _, _ = module_name.rpartition(".")
    path = importlib.import_module(package).__path__ if package else [os.getcwd()]
    prefix = f"{package}." if package else ""
    return [prefix + module.name for module in pkgutil.iter_modules(path)]


def _is_own(module_name: str, value: object) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module_name
