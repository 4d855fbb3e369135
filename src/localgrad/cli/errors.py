"""Errors that end a command, and near names for names that do not exist."""

from collections.abc import Iterable
from difflib import get_close_matches


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


def suggest(name: str, names: Iterable[str]) -> str:
    """What to do about a name that is not among ``names``."""
    names = sorted(names)
    close = get_close_matches(name, names, n=1)
    listed = f"choose from: {', '.join(names)}" if names else "there is none to choose from"
    return f"did you mean {close[0]!r}? Or {listed}" if close else listed
