"""One gradient by a rule: the forward pass, the phases, and what the synapses have learned."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from localgrad._engine.dynamics import Dynamics, Forward, Moment
from localgrad._jaxpr import hoisted
from localgrad._protocol import Phase


class Outcome(NamedTuple):
    """The last state, what was read, and how many steps were taken."""

    moment: Moment
    gradients: list[Any]
    steps: Any


def trial(dynamics: Dynamics, leaves: Sequence[Any], forward: Forward) -> Outcome:
    """Run all phases of the dynamics' rule from the forward pass."""
    now, taken = dynamics.begin(forward), jnp.int32(0)
    sums = [jnp.zeros_like(leaf) for leaf in leaves]
    phases = dynamics.rule.phases(dynamics.network.depth)
    if all(phase.every for phase in phases):
        now, sums = _watched(dynamics, leaves, forward, now, phases)
        return Outcome(now, sums, now.time)
    for phase in phases:
        now, taken = _settled(dynamics, leaves, forward, now, phase, taken)
        if not (isinstance(phase.read, int | float) and phase.read == 0):
            found = dynamics.read(leaves, forward, now, phase.nudge, every=False)
            sums = [_added(s, fb, phase.read) for s, fb in zip(sums, found, strict=True)]
    return Outcome(now, sums, taken)


def _settled(
    dynamics: Dynamics,
    leaves: Sequence[Any],
    forward: Forward,
    now: Moment,
    phase: Phase,
    taken: Any,
) -> tuple[Moment, Any]:
    """The state after a phase, or once at rest within the tolerance, and all steps taken."""
    rule, nudge = dynamics.rule, phase.nudge
    step = hoisted(lambda now: dynamics.step(leaves, forward, now, nudge), now)
    if not rule.tolerance:
        now, _ = lax.scan(
            lambda now, _: (step(now), None), now, None, phase.steps, unroll=rule.loop.unroll
        )
        return now, taken + phase.steps
    distance = hoisted(
        lambda now: dynamics.residual(dynamics.signals(leaves, forward, now, nudge)), now
    )

    def continues(at: tuple[Moment, Any]) -> Any:
        return (at[1] < phase.steps) & (distance(at[0]) > rule.tolerance)

    now, count = lax.while_loop(continues, lambda at: (step(at[0]), at[1] + 1), (now, jnp.int32(0)))
    return now, taken + count


def _watched(
    dynamics: Dynamics,
    leaves: Sequence[Any],
    forward: Forward,
    now: Moment,
    phases: Sequence[Phase],
) -> tuple[Moment, list[Any]]:
    """The state after phases in which synapses learn at every time, and what they learned.

    One loop for all phases: from outside only the nudge changes. The last state is read, too.
    """
    kind = forward.loss.dtype
    nudges = over_time(phases, [phase.nudge for phase in phases], kind)[:-1]
    weights = over_time(phases, [phase.read for phase in phases], kind)[:-1]

    def one(at: tuple[Moment, list[Any]], outside: Any) -> tuple[Moment, list[Any]]:
        (now, sums), (nudge, weight) = at, outside
        found = dynamics.read(leaves, forward, now, nudge, every=True)
        sums = [_added(s, fb, weight) for s, fb in zip(sums, found, strict=True)]
        return dynamics.step(leaves, forward, now, nudge), sums

    sums = [jnp.zeros_like(leaf) for leaf in leaves]
    outside = nudges, weights
    first = jax.tree.map(lambda x: x[0], outside)
    onward = hoisted(lambda at: one(*at), ((now, sums), first))
    (now, sums), _ = lax.scan(
        lambda at, out: (onward((at, out)), None), (now, sums), outside,
        unroll=dynamics.rule.loop.unroll,
    )  # fmt: skip
    last = phases[-1]
    found = dynamics.read(leaves, forward, now, last.nudge, every=True)
    return now, [_added(s, fb, last.read) for s, fb in zip(sums, found, strict=True)]


def over_time(phases: Sequence[Phase], each: Sequence[Any], kind: Any) -> Any:
    """Of each phase's number, one entry for each of its steps; the last one's once more, for after.

    Returns:
        An array of this dtype, ``(steps + 1,)``.
    """
    counts = [phase.steps for phase in phases]
    counts[-1] += 1
    pairs = zip(counts, each, strict=True)
    return jnp.concatenate([jnp.full(count, jnp.asarray(x, kind)) for count, x in pairs])


def _added(total: Any, feedback: Any, weight: Any) -> Any:
    """A sum, with one more feedback in units of the loss."""
    return total + (feedback * weight).astype(total.dtype)
