"""A scan in a network: all of its iterations at once, wherever vertices cut its carries."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from localgrad._graph.stacked import Stacked
from localgrad._graph.state import SILENT, Kind, Meet, State, cut, is_answering

CUT = -1
"""Stands for "a vertex inside" among the positions of a body's inputs."""


class Run(NamedTuple):
    """What one evaluation of a scan is given: operands, held values, and how to go about it."""

    consts: list[Any]
    starts: list[Any]
    xs: list[Any]
    given: State | None
    meet: Meet
    kind: Kind


class Iterations:
    """The iterations of a scan, side by side.

    What an iteration gets from the one before is known at once where a vertex stands between the
    carry's entry and its exit, for the vertex holds its value. A carry that depends on no vertex
    inside (a counter, a random key) is run through in a loop beforehand. Where errors run through
    all iterations without meeting a vertex, these are one piece, and are evaluated in turn.
    """

    def __init__(self, step: Stacked, network: Any) -> None:
        self.network, self.layout = network, step.layout
        graph, (_, carries, _), (heads, _) = network.graph, step.layout.inputs, step.layout.outputs
        first, entries, exits = carries.start, graph.inputs[carries], graph.outputs[heads]
        depends = self._directly()
        direct = [depends.get(slot, frozenset()) for slot in graph.outputs]

        whole = list(direct)
        for _ in entries:  # through one iteration more each time
            ends = whole[: len(entries)]
            whole = [
                w.union(*(ends[k - first] for k in w if first <= k < first + len(ends)))
                for w in whole
            ]
        self.depends = whole
        self._stands = [a == b for a, b in zip(entries, exits, strict=True)]
        self._lives = [CUT in w for w in whole[: len(entries)]]

        # A carry's value is right after as many rounds as carries feed each other uncut.
        feeds = [{k - first for k in d if k >= 0} & self._living for d in direct[: len(entries)]]
        self._rounds, ready = 0, set[int]()
        while ready < self._living:
            more = {k for k in self._living if feeds[k] <= ready}
            if more == ready:
                break
            self._rounds, ready = self._rounds + 1, more
        self._in_one_piece = network.is_empty or ready < self._living or not self.layout.length

    @property
    def _living(self) -> set[int]:
        return {k for k, lives in enumerate(self._lives) if lives}

    def __call__(
        self, operands: Sequence[Any], given: State | None, meet: Meet, kind: Kind
    ) -> tuple[list[Any], State]:
        """The scan's outputs and the predictions inside."""
        consts, carries, xs = self.layout.inputs
        sliced = [kind.enter(x, self.layout.length) for x in operands[xs]]
        run = Run(list(operands[consts]), list(operands[carries]), sliced, given, meet, kind)
        is_apart = meet is cut and not self._in_one_piece
        final, ys, predictions = self._at_once(run) if is_apart else self._in_turn(run)
        return [*final, *map(kind.leave, ys)], predictions

    def _in_turn(self, run: Run) -> tuple[Sequence[Any], Sequence[Any], State]:
        """One iteration after the other."""

        def body(carry: Any, now: Any) -> tuple[Any, Any]:
            heads, tails, predictions = self._one(run, carry, *now)
            return heads, (tails, predictions)

        now = (run.xs, run.given)
        final, (ys, predictions) = lax.scan(
            body, run.starts, now, self.layout.length, self.layout.reverse
        )
        return final, ys, predictions

    def _at_once(self, run: Run) -> tuple[Sequence[Any], Sequence[Any], State]:
        """All iterations side by side."""
        length = self.layout.length
        axes = [None if stands else 0 for stands in self._stands]
        every = jax.vmap(partial(self._one, run), in_axes=(axes, 0, 0), axis_size=length)
        entering = self._unlived(run)
        for _ in range(self._rounds):
            heads, _, _ = every(entering, run.xs, run.given)
            entering = [
                self._shifted(start, head) if lives else before
                for start, head, before, lives in zip(
                    run.starts, heads, entering, self._lives, strict=True
                )
            ]
        heads, ys, predictions = every(entering, run.xs, run.given)
        last = 0 if self.layout.reverse else length - 1
        final = [
            start if stands else head[last]
            for start, head, stands in zip(run.starts, heads, self._stands, strict=True)
        ]
        return final, ys, predictions

    def _one(
        self, run: Run, carry: Sequence[Any], x: Sequence[Any], given: State | None
    ) -> tuple[list[Any], list[Any], State]:
        """One iteration."""
        graph, (heads, tails) = self.network.graph, self.layout.outputs
        values = run.kind.begin(graph, [*run.consts, *carry, *x])
        predictions = self.network.run(values, given, run.meet, run.kind)
        outputs = [values[o] for o in graph.outputs]
        return outputs[heads], outputs[tails], predictions

    def _unlived(self, run: Run) -> list[Any]:
        """Every carry at every iteration; those that depend on vertices as they start."""
        wanted = [
            not lives and not stands
            for lives, stands in zip(self._lives, self._stands, strict=True)
        ]
        still = jax.tree.map(lambda x: x[0], run.given)  # what these carries do not depend on

        def body(carry: Any, x: Any) -> tuple[Any, Any]:
            pairs = zip(carry, run.starts, wanted, strict=True)
            heads, _, _ = self._one(run, [now if w else start for now, start, w in pairs], x, still)
            kept = [head if w else now for head, now, w in zip(heads, carry, wanted, strict=True)]
            return kept, carry

        length, reverse = self.layout.length, self.layout.reverse
        passed = [start if w else SILENT for start, w in zip(run.starts, wanted, strict=True)]
        if any(wanted):
            _, passed = lax.scan(body, passed, run.xs, length, reverse)
        return [
            before if w else start if stands else jnp.broadcast_to(start, (length, *start.shape))
            for start, before, stands, w in zip(
                run.starts, passed, self._stands, wanted, strict=True
            )
        ]

    def _shifted(self, start: Any, exits: Any) -> Any:
        """What each iteration gets from the one before it."""
        parts = [exits[1:], start[None]] if self.layout.reverse else [start[None], exits[:-1]]
        return jnp.concatenate(parts)

    def _directly(self) -> dict[int, frozenset[int]]:
        """Which inputs of the body, by position, each slot depends on without a vertex between."""
        graph = self.network.graph
        depends = {slot: frozenset([k]) for k, slot in enumerate(graph.inputs)}

        def of(slots: Iterator[Any] | Sequence[Any]) -> frozenset[int]:
            return frozenset().union(*(depends.get(s, frozenset()) for s in slots))

        for step in graph.steps:
            outputs = step.equation.outputs
            if step in self.network.scans:
                inner, operands = self.network.scans[step], step.equation.operands
                for slot, through in zip(outputs, inner.depends, strict=True):
                    inside = frozenset([CUT]) & through
                    depends[slot] = inside | of(operands[k] for k in through if k >= 0)
                continue
            depends.update((slot, of(step.reads)) for slot in outputs)
            if is_answering(step):
                depends.update((slot, frozenset([CUT])) for slot in step.wanted)
        return depends
