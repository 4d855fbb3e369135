"""What a value is to the synapses: data, a parameter on its way to its place, or an activity.

No list of primitives is needed: what an equation does with its operands is seen from its pull. The
message to an operand reads the value of another one if both are factors of a product, and its own
value if the operand enters non-linearly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from localgrad._jaxpr import Alone, is_inexact


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
    """What an equation makes of the roles of its operands; a set holds positions of slots.

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


def meeting(alone: Alone, roles: Sequence[Role]) -> Meeting:
    """What the operands of these roles are to each other in an equation."""

    def of(*wanted: Role) -> frozenset[int]:
        return frozenset(k for k, role in enumerate(roles) if role in wanted)

    synapses, bent, activities = of(*SYNAPTIC), of(Role.BENT), of(Role.ACTIVITY)
    if not synapses | bent:
        given = Role.PATTERN if of(Role.PATTERN) else Role.DATA
        return Meeting(Role.ACTIVITY if activities else given)
    reads = reading(alone, roles)
    if reads is None:
        return Meeting(Role.ACTIVITY)
    bending = frozenset(k for k in synapses if k in reads[k])
    sampled, factors = of(Role.SAMPLED), frozenset[int]()
    if not activities:
        factors = frozenset(k for k in synapses if reads[k] & synapses - {k})
        data = of(*GIVEN) & _all(reads, synapses | bent)  # input, masks, indices
        moving = tuple(k in synapses | bent for k, _ in enumerate(roles))
        is_each = bool(data) and alone.is_elementwise(moving)
        if any(is_inexact(alone.slots[k].aval) for k in data) and not is_each:
            return Meeting(Role.ACTIVITY)
        if bending & sampled:
            return Meeting(Role.ACTIVITY, revealed=bending & sampled)
        if bent | bending:
            return Meeting(Role.BENT, factors=factors)
        if not factors & sampled:
            role = Role.SAMPLED if sampled or of(*GIVEN) else Role.SYNAPSE
            return Meeting(role, factors=factors, picks=bool(data) and not is_each)
        activities, synapses = sampled, synapses - sampled
    read = _all(reads, activities)
    crossing = read & synapses
    return Meeting(
        Role.ACTIVITY,
        crossing,
        activities,
        bending=crossing & bending | read & bent,
        revealed=(factors | crossing & bending) & sampled,
    )


def reading(alone: Alone, roles: Sequence[Role]) -> dict[int, frozenset[int]] | None:
    """For each slot that gets a message, the slots whose values the message depends on."""
    return alone.reads(tuple(role not in GIVEN for role in roles))


def _all(reads: Mapping[int, frozenset[int]], slots: frozenset[int]) -> frozenset[int]:
    return frozenset[int]().union(*(reads[k] for k in slots))
