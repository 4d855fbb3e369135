"""The rows of a heat map: vertices, copies and relays by level, folded where they do not fit."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from localgrad import GraphView, Recording, VertexRecording
from localgrad.plot._folding import Path, folded, label_of

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Row:
    """One row: a copy of a vertex, or several of them.

    Attributes:
        label: What it is called.
        levels: The lowest and the highest level in it.
        height: The mean level.
        members: The position of the vertex in the list, and the copy.
        is_relay: Whether all of it are relays.
    """

    label: str
    levels: tuple[int, int]
    height: float
    members: tuple[tuple[int, int], ...]
    is_relay: bool


@dataclass(frozen=True)
class _Copy:
    member: tuple[int, int]
    level: int
    path: Path
    apart: Path
    is_relay: bool


def checked(recording: Any) -> Recording:
    """The recording, if it is one and not a batch of them.

    Raises:
        TypeError: if it is something else, or being traced.
        ValueError: if it is a batch.
    """
    if not isinstance(recording, Recording):
        kind = type(recording).__name__
        raise TypeError(f"met a {kind}; pass what localgrad.record(f, rule=...)(*args) returns.")
    try:
        times = np.asarray(recording.times)
    except jax.errors.TracerArrayConversionError as error:
        text = "met a recording inside of jit or vmap; return it from there and draw it outside."
        raise TypeError(text) from error
    if times.ndim != 1:
        raise ValueError(
            f"met a batch of recordings (times of shape {times.shape}), as vmap returns it; draw "
            "one of them: jax.tree.map(lambda array: array[0], recording)."
        )
    return recording


def chosen(recording: Recording, names: Sequence[str] | None) -> list[VertexRecording]:
    """The recorded vertices of these names; all if there are none given.

    Raises:
        KeyError: for a name that was not recorded.
    """
    if isinstance(names, str):
        names = [names]
    return [recording[name] for name in recording.names if names is None] + [
        recording[name] for name in names or ()
    ]


def rows_of(vertices: Sequence[VertexRecording], graph: GraphView, most: int) -> list[Row]:
    """At most `most` rows, the loss first: single copies, else groups, else neighbouring levels."""
    copies = list(_copies(vertices, graph))
    weights = [not copy.is_relay for copy in copies]
    # Chains of relays for themselves as long as they fit, else with their vertex's group.
    for paths in ([copy.apart for copy in copies], [copy.path for copy in copies]):
        if keys := folded(paths, weights, most):
            return _by_key(copies, paths, keys)
    return _by_level(copies, most)


def _by_key(copies: Sequence[_Copy], paths: Sequence[Path], keys: Sequence[Path]) -> list[Row]:
    members = defaultdict[Path, list[int]](list)
    for k, key in enumerate(keys):
        members[key].append(k)
    rows = [
        _row(label_of(key, [paths[k] for k in inside]), [copies[k] for k in inside])
        for key, inside in members.items()
    ]
    return sorted(rows, key=lambda row: row.height)


def _by_level(copies: Sequence[_Copy], most: int) -> list[Row]:
    levels = sorted({copy.level for copy in copies})
    runs = [levels[k * len(levels) // most : (k + 1) * len(levels) // most] for k in range(most)]
    rows = []
    for run in runs if len(levels) > most else ([level] for level in levels):
        inside = [copy for copy in copies if run[0] <= copy.level <= run[-1]]
        span = f"level {run[0]}" if len(run) == 1 else f"levels {run[0]} to {run[-1]}"
        rows.append(_row(f"{span} ({len(inside)})", inside))
    return rows


def _row(label: str, copies: Sequence[_Copy]) -> Row:
    levels = [copy.level for copy in copies]
    return Row(
        label,
        (min(levels), max(levels)),
        float(np.mean(levels)),
        tuple(copy.member for copy in copies),
        all(copy.is_relay for copy in copies),
    )


def _copies(vertices: Sequence[VertexRecording], graph: GraphView) -> Iterator[_Copy]:
    groups = graph.groups
    relays = {vertex.name: vertex.relays for vertex in graph.vertices}
    shapes = {vertex.name: vertex.copies for vertex in vertices}
    for k, vertex in enumerate(vertices):
        is_relay = vertex.name.endswith(".relays") and vertex.name not in groups
        owner = vertex.name.removesuffix(".relays") if is_relay else vertex.name
        if owner not in groups:
            owner = owner.partition(":")[0]  # further outputs of a vertex are called "name:1"
        names = _iterations(vertex.copies)
        iterations = names
        if is_relay:
            # One chain for each copy of the owner, or what is left of them: then of no iteration.
            lengths = relays.get(owner, ())
            each = _iterations(shapes.get(owner, (len(lengths),) if len(lengths) > 1 else ()))
            chains = [name for name, n in zip(each, lengths, strict=False) for _ in range(n)]
            iterations = chains if len(chains) == len(names) else [""] * len(names)
        for copy, (level, name, iteration) in enumerate(
            zip(vertex.levels, names, iterations, strict=True)
        ):
            end = (vertex.name, (vertex.name + name,)) if is_relay else ((vertex.name + name,),)
            path = (*groups.get(owner, ()), *filter(None, [iteration]), *end)
            if level >= 0:
                yield _Copy((k, copy), level, path, end if is_relay else path, is_relay)


def _iterations(shape: Sequence[int]) -> list[str]:
    return [f"[{','.join(map(str, index))}]" if index else "" for index in np.ndindex(*shape)]
