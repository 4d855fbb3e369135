"""Which vertices fold into one where there are too many of them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

Path = tuple[Any, ...]
"""Labels of groups, outermost first, and at the end ``(name,)``, which equals no group's label."""


def folded(paths: Sequence[Path], weights: Sequence[int], most: int) -> list[Path] | None:
    """Each path, cut at the group that is closed around it, if there is one.

    Small groups close first, and groups of one size together, until at most `most` different paths
    are left. None if there are more of them with all groups closed.
    """
    sizes = Counter[Path]()
    for path, weight in zip(paths, weights, strict=True):
        for group in _groups(path):
            sizes[group] += weight
    for largest in (-1, *sorted(set(sizes.values()))):
        keys = [next((g for g in _groups(p) if sizes[g] <= largest), p) for p in paths]
        if len(set(keys)) <= most:
            return keys
    return None


def label_of(key: Path, inside: Sequence[Path]) -> str:
    """A closed group's path and the number of vertices in it; a vertex's name."""
    if len(inside) == 1:
        return str(inside[0][-1][0])
    # Equinox writes "eqx.nn." before the names of its layers.
    name = "/".join(key).replace("eqx.nn.", "").replace("/[", "[")
    return f"{name} ({len(inside)})"


def _groups(path: Path) -> list[Path]:
    """What a path leads through, outermost first."""
    return [path[:depth] for depth in range(1, len(path))]
