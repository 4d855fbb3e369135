"""The groups that vertices fold into: loops and branches, then the user's named scopes."""

import re
from collections import Counter
from collections.abc import Iterable

Path = tuple[str, ...]

WRAPPED = re.compile(r"^\w+\((.*)\)$")
"""A scope under a transformation, as JAX writes it: ``vmap(block)``."""


def scope_of(text: str) -> Path:
    """The named scopes around a vertex, outermost first, without the transformations' names."""
    parts = []
    for part in text.split("/"):
        while found := WRAPPED.match(part):
            part = found[1]
        parts.append(part)
    return tuple(filter(None, parts))


def numbered(paths: Iterable[Path]) -> list[Path]:
    """The same paths with a number on each group that is entered again after it was left.

    Neighbours under one path are in one group. Two layers that follow each other with nothing
    between them cannot be told apart if their scopes have one name.
    """
    last: Path = ()
    labels: Path = ()
    count = Counter[Path]()
    found = []
    for path in paths:
        shared = next(
            (k for k, (a, b) in enumerate(zip(path, last, strict=False)) if a != b),
            min(len(path), len(last)),
        )
        labels = labels[:shared]
        for part in path[shared:]:
            count[*labels, part] += 1
            number = count[*labels, part]
            labels = (*labels, f"{part} {number}" if number > 1 else part)
        last = path
        found.append(labels)
    return found
