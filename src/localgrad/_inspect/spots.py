"""Where the vertices that `graph` names stand in the states of a simulation."""

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from localgrad._engine import Simulation
from localgrad._graph import Graph, Levelled, Network, State, Step, each, levels
from localgrad._graph.levelled import chain_of
from localgrad._graph.state import is_answering, key_of
from localgrad._inspect.graph import label_of, standing
from localgrad._jaxpr import located_at, located_in

Path = tuple[int, ...]
"""The keys of a state, from the outside in; within the entry of a chain, the relay."""


class Key(NamedTuple):
    """What a vertex is recognised by: of a scan's, either all iterations or one of them."""

    label: str
    output: int
    type: str
    source: str
    lengths: tuple[int, ...]
    iteration: tuple[int, ...]


class Copy(NamedTuple):
    """A vertex as `graph` names it: all of its copies, or the one of a row."""

    name: str
    copies: tuple[int, ...]
    row: int | None


@dataclass(frozen=True)
class Spot:
    """A vertex of `graph` in the states of a simulation.

    `paths` lead to its entries. Where its copies are entries of their own they fill the `rows` of a
    stack of shape `copies`; any other entry has such axes already.
    """

    name: str
    copies: tuple[int, ...]
    paths: tuple[Path, ...]
    rows: tuple[int, ...] = ()

    def read(self, state: State, fill: Any = 0, numpy: Any = jnp) -> Any:
        """The entry, copies on its leading axes; those that are not simulated are filled."""
        entries = [_follow(state, path) for path in self.paths]
        if not self.rows:
            return entries[0]
        blank, found = numpy.full_like(entries[0], fill), dict(zip(self.rows, entries, strict=True))
        stack = numpy.stack([found.get(row, blank) for row in range(math.prod(self.copies))])
        return stack.reshape(self.copies + stack.shape[1:])

    def levels(self, simulation: Simulation) -> tuple[int, ...]:
        """The level of each copy, -1 where nothing reaches the loss."""
        found = np.ravel(self.read(simulation.levels, -1, np))
        return tuple(map(int, found))


def root_of(graph: Graph) -> str:
    """The name of the loss."""
    return next((v.name for step, v in standing(graph).items() if step.is_root), "loss")


def spots(simulation: Simulation, graph: Graph) -> tuple[Spot, ...]:
    """Find the vertices of a simulation in the graph of the function as it was written.

    In a simulation branches and checkpoints are opened, and where there are relays scans are
    unrolled. Vertices are recognised by operation, type, source line and iteration, in program
    order. What only the opening has made (the choice between branches) gets a name of its own; a
    chain of relays is ``name.relays``.
    """
    unrolled = isinstance(simulation.network, Levelled)
    written, simulated = defaultdict[Key, list[Copy]](list), defaultdict[Key, list[Path]](list)
    for key, copy in _written(graph, unrolled):
        written[key].append(copy)
    order = list(_simulated(simulation.network))
    for key, path in order:
        simulated[key].append(path)
    known: dict[Path, Copy] = {}
    for key, paths in simulated.items():
        copies = written[key]
        if len(paths) <= len(copies):
            # In a first iteration the first vertices may depend on no leaf, and are none there.
            known.update(zip(reversed(paths), reversed(copies), strict=False))

    taken = {copy.name for copies in written.values() for copy in copies}
    found: dict[str, list[tuple[Path, Copy]]] = {}
    for key, path in order:
        copy = known.get(path) or Copy(_fresh(key.label, taken), key.lengths, None)
        found.setdefault(copy.name, []).append((path, copy))
    return tuple(
        spot for name, parts in found.items() for spot in _spots(name, parts, simulation.levels)
    )


def values_of(simulation: Simulation, state: Any) -> State:
    """The values that the vertices hold."""
    return each(simulation.rule.value, simulation.neurons(state), simulation.stored)


def not_finite(simulation: Simulation, spots: Sequence[Spot], state: Any, errors: State) -> Any:
    """Of each vertex, whether its error is not finite, or its value that was so at first."""
    values = values_of(simulation, state)

    def is_broken(spot: Spot) -> Any:
        error, value, first = map(spot.read, (errors, values, simulation.stored))
        return jnp.any(~jnp.isfinite(error)) | jnp.any(~jnp.isfinite(value) & jnp.isfinite(first))

    return jnp.array([is_broken(spot) for spot in spots], bool)


def _spots(name: str, parts: list[tuple[Path, Copy]], levels: State) -> Iterator[Spot]:
    """The spot of a vertex, and the one of its relays if there are any: one after the other."""
    paths = tuple(path for path, _ in parts)
    rows = tuple(copy.row for _, copy in parts if copy.row is not None)
    yield Spot(name, parts[0][1].copies, paths, rows)
    chains = [chain_of(path[-1]) for path in paths if len(path) == 1]
    relays = [(c, k) for c in chains if c in levels for k in range(len(levels[c]))]
    if relays:
        yield Spot(f"{name}.relays", (len(relays),), tuple(relays), tuple(range(len(relays))))


def _written(graph: Graph, unrolled: bool) -> Iterator[tuple[Key, Copy]]:
    """The vertices of a graph, each once, or if `unrolled` once for each copy."""
    places = levels(graph)
    for step, (name, _, loops) in standing(graph).items():
        lengths = tuple(length for length, _ in loops)
        reached = np.array([place.level >= 0 for place in places[step]]).reshape(lengths)
        reached = np.flip(reached, tuple(k for k, (_, reverse) in enumerate(loops) if reverse))
        for k, slot in enumerate(step.wanted):
            key, name_k = _key(step, slot), f"{name}:{k}" if k else name
            if not unrolled:
                yield key._replace(lengths=lengths), Copy(name_k, lengths, None)
                continue
            for row, index in enumerate(np.ndindex(lengths)):
                copy = Copy(name_k, lengths, row if lengths else None)
                if reached[index]:
                    yield key._replace(iteration=index), copy


def _simulated(
    network: Network, path: Path = (), lengths: tuple[int, ...] = ()
) -> Iterator[tuple[Key, Path]]:
    """The vertices of a network with their paths, in the order of computation."""
    for step in network.graph.steps:
        if step in network.scans:
            inner = network.scans[step].network
            yield from _simulated(inner, (*path, key_of(step)), (*lengths, step.layout.length))
        elif is_answering(step):
            for slot in step.wanted:
                yield _key(step, slot)._replace(lengths=lengths), (*path, slot)


def _key(step: Step, slot: int) -> Key:
    output = step.equation.outputs.index(slot)
    aval: Any = step.equation.eqn.outvars[output].aval
    passed = re.findall(r"\biteration (\d+)\b", located_in(step.equation.site))
    return Key(
        label_of(step),
        output,
        f"{aval.dtype}{aval.shape}",
        located_at(step.equation.site),
        (),
        tuple(map(int, passed)),
    )


def _follow(state: Any, path: Path) -> Any:
    for key in path:
        state = state[key]
    return state


def _fresh(label: str, taken: set[str]) -> str:
    """A name that nobody has."""
    names = itertools.chain([label], (f"{label}.{k}" for k in itertools.count(2)))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name
