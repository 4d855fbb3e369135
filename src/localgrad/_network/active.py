"""Which values of a program errors can reach: what depends on a leaf with a derivative."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from localgrad._jaxpr import (
    is_inexact,
    is_literal,
    is_loop,
    is_mark,
    is_reference,
    loop_layout,
    opened,
    passes,
    programs,
    variables,
)

Flags = tuple[bool, ...]


def active(jaxpr: Any, inputs: Flags, latent: bool = False) -> frozenset[Any]:
    """The variables of a program that can carry errors if these inputs do.

    Args:
        jaxpr: The program.
        inputs: Which of its inputs carry errors.
        latent: Whether marked values do in any case, though no leaf stands behind them.
    """
    return _active(opened(jaxpr)[0], inputs, latent)


def flags(atoms: Sequence[Any], chosen: frozenset[Any]) -> Flags:
    """Which of the variables (or literals) are among the chosen ones."""
    return tuple(not is_literal(atom) and atom in chosen for atom in atoms)


@lru_cache(maxsize=4096)
def _active(jaxpr: Any, inputs: Flags, latent: bool) -> frozenset[Any]:
    found = {var for var, a in zip(jaxpr.invars, inputs, strict=True) if a}
    for eqn in jaxpr.eqns:
        given = flags(eqn.invars, frozenset(found))
        moved = _through(eqn, given, latent)
        found.update(var for var, m in zip(eqn.outvars, moved, strict=True) if m)
        if any(given):  # a reference holds what is written into it
            found.update(var for var in variables(eqn.invars) if is_reference(var.aval))
    return frozenset(found)


def _through(eqn: Any, given: Flags, latent: bool) -> Flags:
    """Which outputs of an equation carry errors if these operands do."""
    bodies = programs(eqn)
    if not bodies:
        moves = (any(given) and passes(eqn)) or (latent and is_mark(eqn))
        return tuple(moves and is_inexact(var.aval) for var in eqn.outvars)
    if is_loop(eqn):
        return settled(eqn, given, latent)[1]
    each = [ends(body, entering(eqn, given), latent) for body in bodies]
    return tuple(any(same) for same in zip(*each, strict=True))


def entering(eqn: Any, given: Flags, latent: bool = False) -> Flags:
    """Which inputs of the programs inside an equation carry errors if these operands do."""
    if is_loop(eqn):
        return settled(eqn, given, latent)[0]
    first, *_ = programs(eqn)
    return given[len(given) - len(opened(first)[0].invars) :]  # a choice has its index before


def ends(body: Any, given: Flags, latent: bool) -> Flags:
    """Which outputs of a program carry errors if these inputs do."""
    return flags(opened(body)[0].outvars, active(body, given, latent))


def settled(eqn: Any, given: Flags, latent: bool = False) -> tuple[Flags, Flags]:
    """Of a scan the inputs of its body and its outputs that carry errors, in any iteration."""
    layout, (body,) = loop_layout(eqn), programs(eqn)
    (_, carries, _), (heads, tails) = layout.inputs, layout.outputs
    if any(given):
        given = tuple(g or is_reference(v.aval) for g, v in zip(given, eqn.invars, strict=True))
    inputs = list(given)
    while True:
        outputs = ends(body, tuple(inputs), latent)
        grown = [i or o for i, o in zip(inputs[carries], outputs[heads], strict=True)]
        if grown == inputs[carries]:  # without any iteration, a carry ends as it starts
            return tuple(inputs), (*grown, *outputs[tails])
        inputs[carries] = grown
