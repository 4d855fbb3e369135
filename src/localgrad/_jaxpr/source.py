"""Where something stands in the user's code."""

import os
import sys
import sysconfig
import traceback
from typing import Any

import jax
from jax.extend.core import JaxprEqn

OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
EXPERIMENTS = os.path.join(OURS, "experiments") + os.sep
JAX = os.path.dirname(os.path.abspath(jax.__file__)) + os.sep
TRACING = os.path.join(JAX, "_src", "pjit.py")
"""Lines of this file stand between a function under `jit` and its caller."""
INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
NOBODYS = (OURS, JAX, "<string>")  # the last one: methods that dataclasses write


def located_at(eqn: JaxprEqn, around: JaxprEqn | None = None) -> str:
    """`file:line` of the user's code that made the equation.

    The innermost line outside of installed packages, or else outside of JAX and localgrad. The
    models and losses of the experiments are as any installed package, but what calls them says
    nothing about the equation. Inside of a call, the equation `around` it is meant where the
    function that is called has no line of the user's: JAX traces such a function once, and its
    equations know the first caller only.
    """
    frames = _frames(eqn)
    if around is not None:
        ends = [k for k, f in enumerate(frames) if f.file_name == TRACING]
        inside = frames[: ends[0]] if ends else frames
        if not any(_is_users(f) for f in inside):
            return located_at(around)
    frames = [f for f in frames if not _is_machinery(f.file_name)]
    ends = [k for k, f in enumerate(frames, 1) if f.file_name.startswith(EXPERIMENTS)]
    frames = frames[: ends[0]] if ends else frames
    own = [frame for frame in frames if _is_users(frame)]
    for frame in own or frames:
        return f"{frame.file_name}:{frame.line_num}"
    return "unknown (the equation has no source line)"


def _frames(eqn: JaxprEqn) -> list[Any]:
    raw = eqn.source_info.traceback
    return list(raw.frames) if raw else []


def _is_users(frame: Any) -> bool:
    """Whether a line stands outside of installed packages."""
    return not frame.file_name.startswith((OURS, JAX, "<frozen", *INSTALLED))


def _is_machinery(file: str) -> bool:
    """Whether its lines run a user's function, and are no part of one."""
    return file.startswith((OURS, JAX, "<frozen")) and not file.startswith(EXPERIMENTS)


def located_in(eqn: JaxprEqn) -> str:
    """The scopes (`jax.named_scope`, Equinox and Flax modules) that the equation stands in."""
    return str(eqn.source_info.name_stack)


def defined_at(f: Any) -> str:
    """`file:line` of the definition of a user's function."""
    function = f
    while not hasattr(function, "__code__"):
        inner = getattr(function, "__wrapped__", None) or getattr(function, "func", None)
        inner = inner or getattr(type(function).__call__, "__wrapped__", type(function).__call__)
        if inner is function or not hasattr(inner, "__name__"):
            return repr(f)
        function = inner
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"


def called_at() -> str:
    """`file:line` of the user's code that is calling localgrad now."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(NOBODYS):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def raised_at(error: Exception) -> str:
    """`file:line` of the innermost line of the user's code that the error passed."""
    lines = [(f.f_code.co_filename, line) for f, line in traceback.walk_tb(error.__traceback__)]
    own = [f"{file}:{line}" for file, line in lines if not file.startswith((OURS, JAX, *INSTALLED))]
    return own[-1] if own else called_at()
