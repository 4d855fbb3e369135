"""What `localgrad.equinox` and `localgrad.flax` share: which modules are meant, and their marks."""

import functools
import os
import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import jax
import jax.numpy as jnp

from localgrad import vertex

Pick = type | str | Callable[[str, Any], bool]
Where = Pick | Sequence[Pick]

OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
SHOWN = 20
"""How many modules an error lists."""
DO = (
    "pass a class, a name or pattern such as 'layers[*]', a predicate (name, module) -> bool, or a "
    "list of them."
)


class Choice:
    """Which modules a `where` picks: by class, by name or pattern, by predicate, or by any of them.

    Its errors name the line that called localgrad when it was made.
    """

    def __init__(self, where: Where) -> None:
        self._site = _called_at()
        several = isinstance(where, Sequence) and not isinstance(where, str)
        self._parts: tuple[Any, ...] = tuple(where) if several else (where,)  # type: ignore[arg-type]
        if not self._parts:
            raise ValueError(self.explain("met an empty where.", DO))
        for part in self._parts:
            if not isinstance(part, str) and not callable(part):
                raise TypeError(self.explain(f"met {part!r} in where.", DO))

    def picks(self, path: str, module: Any) -> bool:
        """Whether the module at this path is meant; the model itself is at the empty path."""
        return any(_picks(part, path, module) for part in self._parts)

    def check(self, modules: Sequence[tuple[str, Any]], whose: str, advice: str = "") -> None:
        """Raise an error if a part of `where` picks none of these modules, given with paths."""
        for part in self._parts:
            if not any(_picks(part, path, module) for path, module in modules):
                shown = repr(part) if isinstance(part, str) else getattr(part, "__name__", part)
                met = f"met where={shown}, which picks none of the modules {whose}."
                raise ValueError(self.explain(met, _suggestion(part, modules) + advice))

    def explain(self, met: str, do: str) -> str:
        """One message: what was met, where (file:line), what to do about it."""
        return f"{met}\n  where: {self._site}\n  what to do: {do}"


def marked(output: Any, name: str) -> Any:
    """A module's output, of which every array that can carry an error is marked."""

    def mark_leaf(leaf: Any) -> Any:
        is_inexact = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)
        return vertex(leaf, name) if is_inexact else leaf

    return jax.tree.map(mark_leaf, output)


def named(path: str, module: Any) -> str:
    """A module's name: its path, or for the model itself the name of its class."""
    return path or class_name(module)


def class_name(module: Any) -> str:
    """The name of a module's class, marked or not."""
    return str(_unmarked(type(module)).__name__)


def marked_class(cls: type, name: str) -> type:
    """A subclass of a module's class, of which calls are marked; one for each class and name.

    That there is one makes two models with the same marks equal in structure. Pickles and copies
    hold the class and the name, and find the subclass again.
    """
    return _marked_class(_unmarked(cls), name)


@functools.cache  # JAX keeps pytree classes for ever, too.
def _marked_class(cls: Any, name: str) -> type:
    @functools.wraps(cls.__call__, updated=())
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return marked(super(subclass, self).__call__(*args, **kwargs), name)

    def reduce(self: Any, protocol: Any) -> Any:
        # Protocol 2 and later: (copyreg.__newobj__, (class, *arguments), state, ...).
        _, (_, *args), *rest = super(subclass, self).__reduce_ex__(max(protocol, 2))
        return _made, (cls, name, *args), *rest

    methods = {"__call__": call, "__reduce_ex__": reduce, "__unmarked__": cls}
    described = {"__doc__": cls.__doc__, "__module__": cls.__module__}
    subclass = type(cls)(f"{cls.__name__}<{name}>", (cls,), methods | described)
    return subclass


def _made(cls: type, name: str, *args: Any) -> Any:
    subclass: Any = _marked_class(cls, name)
    return subclass.__new__(subclass, *args)


def _unmarked(cls: type) -> type:
    return getattr(cls, "__unmarked__", cls)


def _picks(part: Pick, path: str, module: Any) -> bool:
    if isinstance(part, type):
        return isinstance(module, part)
    if not isinstance(part, str):
        return bool(part(named(path, module), module))
    if "*" in part:  # Of all modules that are meant at once, the model itself is none.
        return path != "" and re.fullmatch(_expression(part), path) is not None
    return part == named(path, module)


STEPS = {"**.": r"(.*\.)?", "**/": "(.*/)?", "**": ".*", "*": r"[^./\[\]]*"}


def _expression(pattern: str) -> str:
    """A pattern as a regular expression: ``*`` stays within a step of the path, ``**`` does not."""
    pieces = re.split(r"(\*\*[./]?|\*)", pattern)
    return "".join(STEPS.get(piece) or re.escape(piece) for piece in pieces)


def _suggestion(part: Pick, modules: Sequence[tuple[str, Any]]) -> str:
    """What could have been meant instead, and what there is."""
    names = [named(path, module) for path, module in modules]
    close = get_close_matches(part, names, n=1) if isinstance(part, str) else []
    guess = f"did you mean {close[0]!r}? " if close else ""
    classes = [class_name(module) for _, module in modules]
    there = [*dict.fromkeys(f"{n} ({c})" for n, c in zip(names, classes, strict=True))]
    more = [f"and {len(there) - SHOWN} more"] if len(there) > SHOWN else []
    return f"{guess}choose from {', '.join(there[:SHOWN] + more) or 'nothing: there is none'}."


def _called_at() -> str:
    """`file:line` of the user's code that is calling localgrad now."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OURS):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
