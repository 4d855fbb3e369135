"""Names that do not exist, and the near ones that do."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(name: str, names: Iterable[str]) -> str:
    """What to do about a name that is not among ``names``."""
    names = sorted(names)
    close = get_close_matches(name, names, n=1)
    listed = f"choose from: {', '.join(names)}" if names else "there is none to choose from"
    return f"did you mean {close[0]!r}? Or {listed}" if close else listed
