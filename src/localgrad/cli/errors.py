"""Errors that end a command."""

import re
import sysconfig
import traceback
from pathlib import Path

import localgrad as lg


class CommandError(Exception):
    """Ends the command with a message in three parts: what was met, where, what to do."""

    exit_code: int

    def __init__(self, what: str, where: str, advice: str) -> None:
        super().__init__(f"localgrad: {what}\n  where: {where}\n  what to do: {advice}")


class UsageError(CommandError):
    """The command was not well put."""

    exit_code = 2


class FailedError(CommandError):
    """The command was well put, but could not be carried out."""

    exit_code = 1


def explained(text: str) -> tuple[str, str, str] | None:
    """The three parts of a message of localgrad's; None of any other."""
    parts = re.fullmatch(r"(.*)\n  where: (.*)\n  what to do: (.*)", text, re.DOTALL)
    return (parts[1], parts[2], parts[3]) if parts else None


def place_of(error: Exception) -> str | None:
    """The innermost line on the way to an error that is in no library; None if there is none."""
    libraries = [
        Path(lg.__file__).parent,
        *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib", "scripts")),
    ]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_absolute() and not any(path.is_relative_to(library) for library in libraries):
            return f"{path}:{frame.lineno}, in {frame.name}"
    return None
