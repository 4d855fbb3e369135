"""A scan in a network: one iteration after the other, or all at once where vertices cut it.

What an iteration gets from the one before is known at once where a vertex stands between a carry's
entry and its exit, for the vertex holds its value. A carry that depends on no vertex inside (a
counter, a random key) is run through in a loop beforehand. Where errors run through all iterations
without meeting a vertex, or a branch is taken, iterations are evaluated in turn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from localgrad._jaxpr import Layout, is_branch, variables
from localgrad._network.body import Body, Inside

Run = Callable[..., tuple[list[Any], Any]]

CUT = -1
"""Stands for "a vertex inside" among the positions of a body's inputs."""


def in_turn(
    run: Run,
    body: Body,
    layout: Layout,
    operands: Sequence[Any],
    held: Any,
    meet: Any,
    kind: Any,
) -> tuple[list[Any], Any]:
    """The outputs of a scan and the predictions inside, one iteration after the other."""
    (consts, carries, xs), (heads, tails) = layout.inputs, layout.outputs

    def one(carry: Any, now: Any) -> tuple[Any, Any]:
        x, mine = now
        outputs, answers = run(body, [*operands[consts], *carry, *x], mine, meet, kind)
        return outputs[heads], (outputs[tails], answers)

    start = list(operands[carries])
    if held is not None:
        start = [x if a else None for x, a in zip(start, body.asked[heads], strict=True)]
    final, (ys, answers) = lax.scan(
        one, start, (list(operands[xs]), held), layout.length, layout.reverse, layout.unroll
    )
    return [*final, *ys], answers


def at_once(
    run: Run,
    body: Body,
    layout: Layout,
    operands: Sequence[Any],
    held: Any,
    meet: Any,
    kind: Any,
) -> tuple[list[Any], Any]:
    """The same, all iterations side by side; in turn where that cannot be."""
    plan = _plan(body, layout)
    if plan is None:
        return in_turn(run, body, layout, operands, held, meet, kind)
    (consts, carries, xs), (heads, tails) = layout.inputs, layout.outputs
    starts, length, reverse = list(operands[carries]), layout.length, layout.reverse

    def one(carry: Any, x: Any, mine: Any) -> tuple[list[Any], list[Any], Any]:
        outputs, answers = run(body, [*operands[consts], *carry, *x], mine, meet, kind)
        return outputs[heads], outputs[tails], answers

    def shifted(start: Any, exits: Any) -> Any:
        """What each iteration gets from the one before it."""
        start = jnp.asarray(start, exits.dtype)[None]
        parts = [exits[1:], start] if reverse else [start, exits[:-1]]
        return jnp.concatenate(parts)

    def at(k: int, exits: Any) -> Any:
        return jax.tree.map(lambda x: x[k], exits)

    axes = [0 if how in (LIVES, PASSES) else None for how in plan.kinds]
    every = jax.vmap(one, in_axes=(axes, 0, 0), axis_size=length)
    entering = _entering(one, plan, starts, operands[xs], held, layout)
    for _ in range(plan.rounds):
        exits, _, _ = every(entering, list(operands[xs]), held)
        entering = [
            jax.tree.map(shifted, start, end) if how == LIVES else before
            for start, end, before, how in zip(starts, exits, entering, plan.kinds, strict=True)
        ]
    exits, ys, answers = every(entering, list(operands[xs]), held)
    last = 0 if reverse else length - 1
    final = [
        at(last, end) if how in (LIVES, PASSES) else start
        for start, end, how in zip(starts, exits, plan.kinds, strict=True)
    ]
    return [*final, *ys], answers


STANDS, UNREAD, PASSES, LIVES = range(4)
"""A carry is the same in every iteration; is not needed; changes by itself; comes from vertices."""


@dataclass(frozen=True)
class Plan:
    """How the carries of a scan are known: each by its kind, after so many rounds."""

    kinds: tuple[int, ...]
    rounds: int


@lru_cache(maxsize=512)
def _plan(body: Body, layout: Layout) -> Plan | None:
    """The plan for a scan; None if its iterations have to be evaluated in turn."""
    (_, carries, _), (heads, _) = layout.inputs, layout.outputs
    jaxpr, first = body.jaxpr, layout.inputs[1].start
    if not layout.length or not body.has_vertices or _has_choices(body):
        return None
    direct = _reaches(body)[heads]
    count = len(direct)
    feeds = [{k - first for k in d if first <= k < first + count} for d in direct]
    lives = {k for k, d in enumerate(direct) if CUT in d}
    while True:  # what comes from a carry that comes from vertices
        more = lives | {k for k, f in enumerate(feeds) if f & lives}
        if more == lives:
            break
        lives = more
    kinds = []
    for k, (entry, end) in enumerate(zip(jaxpr.invars[carries], jaxpr.outvars[heads], strict=True)):
        changes = LIVES if k in lives else PASSES
        kinds.append(STANDS if entry is end else changes if body.asked[heads][k] else UNREAD)
    lives = {k for k, kind in enumerate(kinds) if kind == LIVES}
    # A carry's value is right after as many rounds as carries feed each other uncut.
    rounds, ready = 0, set[int]()
    while ready < lives:
        more = {k for k in lives if feeds[k] & lives <= ready}
        if more == ready:
            return None
        rounds, ready = rounds + 1, more
    return Plan(tuple(kinds), rounds)


def _reaches(body: Body) -> list[frozenset[int]]:
    """Which inputs, by position, each output depends on without a vertex between."""
    depends = {var: frozenset([k]) for k, var in enumerate(body.jaxpr.invars)}

    def of(atoms: Sequence[Any]) -> frozenset[int]:
        return frozenset().union(*(depends.get(v, frozenset()) for v in variables(atoms)))

    for k, eqn in enumerate(body.jaxpr.eqns):
        node = body.nodes.get(k)
        through = of(eqn.invars)
        if isinstance(node, Inside):
            depends.update((v, through | {CUT}) for v in eqn.outvars)
        elif node is None:
            depends.update((v, through) for v in eqn.outvars)
        else:
            depends.update((v, frozenset([CUT])) for v in eqn.outvars)
    return [of([atom]) for atom in body.jaxpr.outvars]


def _has_choices(body: Body) -> bool:
    """Whether a branch is taken inside."""
    return any(is_branch(eqn) for eqn in body.jaxpr.eqns) or any(
        _has_choices(inner)
        for node in body.nodes.values()
        if isinstance(node, Inside)
        for inner in node.bodies
    )


def _entering(
    one: Callable[..., Any],
    plan: Plan,
    starts: list[Any],
    xs: Sequence[Any],
    held: Any,
    layout: Layout,
) -> list[Any]:
    """Every carry at every iteration; those that come from vertices as they start."""
    passes = [kind == PASSES for kind in plan.kinds]
    passed: Sequence[Any] = [None] * len(starts)
    if any(passes):
        still = jax.tree.map(lambda x: x[0], held)  # what these carries do not depend on

        def onward(carry: Any, x: Any) -> tuple[Any, Any]:
            ends, _, _ = one(
                [c if p else s for c, s, p in zip(carry, starts, passes, strict=True)], x, still
            )
            return [end if p else None for end, p in zip(ends, passes, strict=True)], carry

        begin = [start if p else None for start, p in zip(starts, passes, strict=True)]
        _, passed = lax.scan(onward, begin, list(xs), layout.length, layout.reverse)

    def whole(kind: int, start: Any, before: Any) -> Any:
        if kind == LIVES:
            return jax.tree.map(
                lambda x: jnp.broadcast_to(x, (layout.length, *jnp.shape(x))), start
            )
        return before if kind == PASSES else start if kind == STANDS else None

    return [whole(*each) for each in zip(plan.kinds, starts, passed, strict=True)]
