"""What a value is to the synapses: data, a parameter on its way to its place, or an activity.

No list of primitives is needed: what an equation does with its operands is seen from its pull. The
message to an operand reads the value of another one if both are factors of a product, and its own
value if the operand enters non-linearly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import jax.numpy as jnp

from localgrad._jaxpr import Equation, Pulls, is_elementwise


class Role(IntEnum):
    """The role of a value. Where values meet without a product, the later role results.

    DATA depends on no parameter. A PATTERN is made of integers or booleans that do depend on some.
    A SYNAPSE is a parameter, rearranged, scaled, or composed with another one; a SAMPLED synapse
    was masked or picked by data, and is an activity where it meets another synapse in a product.
    BENT is a non-linear function of synapses. All else is an ACTIVITY: a synapse that has met its
    input.
    """

    DATA = 0
    PATTERN = 1
    SYNAPSE = 2
    SAMPLED = 3
    BENT = 4
    ACTIVITY = 5


SYNAPTIC = frozenset({Role.SYNAPSE, Role.SAMPLED})
GIVEN = frozenset({Role.DATA, Role.PATTERN})


@dataclass(frozen=True)
class Meeting:
    """What an equation makes of the roles of its operands.

    `role` is that of its floating-point outputs. Messages to the `activities` read the values of
    the `crossing` synapses. `bending` are the operands among those that enter non-linearly, here or
    before. `factors` are synapses in a product with others. `picks` tells whether a part of a
    synapse is picked by an index; `revealed` are the sampled synapses that are bent or meet another
    synapse in a product, as an activity would.
    """

    role: Role
    crossing: frozenset[int] = frozenset()
    activities: frozenset[int] = frozenset()
    bending: frozenset[int] = frozenset()
    factors: frozenset[int] = frozenset()
    picks: bool = False
    revealed: frozenset[int] = frozenset()


def meeting(equation: Equation, roles: Mapping[int, Role], pulls: Pulls) -> Meeting:
    """What the operands of these roles are to each other in an equation."""

    def of(*wanted: Role) -> frozenset[int]:
        return frozenset(slot for slot in equation.slots if roles[slot] in wanted)

    synapses, bent, activities = of(*SYNAPTIC), of(Role.BENT), of(Role.ACTIVITY)
    if not synapses | bent:
        given = Role.PATTERN if of(Role.PATTERN) else Role.DATA
        return Meeting(Role.ACTIVITY if activities else given)
    reads = reading(equation, roles, pulls)
    if reads is None:
        return Meeting(Role.ACTIVITY)
    bending = frozenset(slot for slot in synapses if slot in reads[slot])
    sampled, factors = of(Role.SAMPLED), frozenset[int]()
    if not activities:
        factors = frozenset(slot for slot in synapses if reads[slot] & synapses - {slot})
        data = _data(equation, roles, reads, synapses | bent)
        moving = [isinstance(o, int) and o in synapses | bent for o in equation.operands]
        is_each = bool(data) and is_elementwise(equation.eqn, equation.home, moving)
        if any(map(is_inexact, data)) and not is_each:
            return Meeting(Role.ACTIVITY)
        if bending & sampled:
            return Meeting(Role.ACTIVITY, revealed=bending & sampled)
        if bent | bending:
            return Meeting(Role.BENT, factors=factors)
        if not factors & sampled:
            role = Role.SAMPLED if sampled or of(*GIVEN) else Role.SYNAPSE
            return Meeting(role, factors=factors, picks=bool(data) and not is_each)
        activities, synapses = sampled, synapses - sampled
    read = frozenset[int]().union(*(reads[slot] for slot in activities))
    crossing = read & synapses
    return Meeting(
        Role.ACTIVITY,
        crossing,
        activities,
        bending=crossing & bending | read & bent,
        revealed=(factors | crossing & bending) & sampled,
    )


def reading(
    equation: Equation, roles: Mapping[int, Role], pulls: Pulls
) -> dict[int, frozenset[int]] | None:
    """For each slot that gets a message, the slots whose values the message depends on.

    None where nothing can be sent: an error that has to pass there says so itself.
    """
    moving = tuple(roles[slot] not in GIVEN for slot in equation.slots)
    wanted = tuple(is_inexact(var.aval) for var in equation.eqn.outvars)
    try:
        pull = pulls.of(equation, moving, wanted)
    except Exception:  # JAX has many classes for what it cannot differentiate
        return None
    inside = [frozenset(equation.slots[k] for k in read) for read in pull.reads]
    slots = [slot for slot, m in zip(equation.slots, moving, strict=True) if m]
    return dict(zip(slots, inside, strict=True))


def is_inexact(value: Any) -> bool:
    """Whether a value, or a type, is floating-point or complex."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def _data(
    equation: Equation,
    roles: Mapping[int, Role],
    reads: Mapping[int, frozenset[int]],
    synapses: frozenset[int],
) -> list[Any]:
    """The types of the data that messages to the synapses read: input, masks, indices."""
    read = frozenset[int]().union(*(reads[slot] for slot in synapses))
    pairs = zip(equation.operands, equation.eqn.invars, strict=True)
    of = {o: var.aval for o, var in pairs if isinstance(o, int)}
    return [of[slot] for slot in read if roles[slot] in GIVEN]
