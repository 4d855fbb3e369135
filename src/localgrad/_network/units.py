"""Activation units: where the error may pass without the derivative of the non-linearity."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
from jax import lax

from localgrad._jaxpr import (
    NOTHING,
    Alone,
    Flow,
    dependence,
    is_inexact,
    is_mark,
    is_wiring,
    variables,
)
from localgrad._network.followed import Followed, Path, Signal
from localgrad._network.roles import SYNAPTIC, Role, meeting, reading
from localgrad._network.tapped import has_marks


def gated(program: Any, leaves: int) -> Callable[..., list[Any]]:
    """The program with a gate at the derivative of every activation unit.

    Args:
        program: Its first output is the loss.
        leaves: How many of its inputs, from the first, are parameters.

    Returns:
        A function of the program's inputs and of one boolean scalar, `keep`, to its outputs. An
        activation unit ``y = f(x)`` sends ``f'(x) e`` where `keep` is true, else ``e``.

    An **activation unit** is an elementwise and non-linear function of one activity, with a result
    of the same dtype: an equation, the smallest group of equations that is one (`x * sigmoid(x)`),
    or a call as a whole (`jax.nn.silu`, a `jax.jit` or `custom_jvp` function of the user's). It
    counts only if a parameter still enters as a factor between it and the loss, so that what
    squashes the output, and the loss itself, keep their derivatives. If the program has marks, a
    unit is next to one: its operand or its result is a marked value, up to wiring. Without marks
    the exponentials of a softmax inside the network, and the non-linear parts of a normalisation
    (a square, an inverse root), count too.
    """

    def run(*inputs: Any) -> list[Any]:
        *given, keep = inputs
        signals = [
            Signal(x, Role.SYNAPSE if k < leaves and is_inexact(x) else Role.DATA)
            for k, x in enumerate(given)
        ]
        gated = Gated(keep, has_marks(program))
        return [output.value for output in gated.steady(program, signals)]

    return run


class Gated(Followed):
    """Runs a program with gates at its units.

    Of an equation that ends an elementwise function it shows that its result is "read" outside of
    such functions, that a "parameter" enters after it, and that it is next to a "mark".
    """

    def __init__(self, keep: Any, has_marks: bool) -> None:
        super().__init__()
        self._keep = keep
        self._needed = {"read", "parameter", *["mark"] * has_marks}
        self._regions: dict[Path, Region] = {}

    def single(self, alone: Alone, given: list[Signal], path: Path) -> list[Signal]:
        """The outputs of an equation, or of the unit that ends with it."""
        outputs, made = None, frozenset().union(*(s.made for s in given if is_wiring(alone.eqn)))
        if (link := self._region(path).link(alone, given, path)) and link.bends():
            made = frozenset([path])
            self._show("mark", made if link.operand.is_marked else ())
            if all((what, path) in self.shown for what in self._needed):
                outputs = [_unit(link)(link.operand.value, [*link.rest.values()], self._keep)]
        roles = [signal.role for signal in given]
        meets, reads = meeting(alone, roles), reading(alone, roles) or {}
        synapses = {k for k, role in enumerate(roles) if role in SYNAPTIC or role is Role.BENT}
        for k in (k for k, read in reads.items() if read & synapses - {k}):
            self._show("parameter", given[k].since)
        self._show("mark", made if is_mark(alone.eqn) else ())
        kind = Signal(
            None,
            Role.ACTIVITY if meets.factors else meets.role,
            since=made.union(*(signal.since for signal in given)),
            is_marked=is_mark(alone.eqn)
            or (is_wiring(alone.eqn) and any(signal.is_marked for signal in given)),
            made=made,
        )
        pattern = Signal(None, Role.PATTERN if any(roles) else Role.DATA)
        outputs = outputs or alone([signal.value for signal in given])
        return [replace(kind if is_inexact(x) else pattern, value=x) for x in outputs]

    def is_whole(self, alone: Alone, given: list[Signal], path: Path) -> bool:
        """Whether a call is an elementwise function."""
        return self._region(path).holds(alone, given)

    def carried(self, eqn: Any, start: Signal, end: Signal) -> None:
        """A scan may carry anything."""

    def closed(self, body: Any, path: Path) -> None:
        """See which elementwise functions of a program are read outside of them."""
        for end in self._regions.pop(path, Region()).read(body):
            self._show("read", [end])

    def _region(self, path: Path) -> "Region":
        return self._regions.setdefault(path[:-1], Region())

    def _show(self, what: str, paths: Collection[Path]) -> None:
        self.shown.update((what, path) for path in paths)


@dataclass(frozen=True)
class Link:
    """An elementwise function of one value, the smallest one that ends with an equation.

    No value in between tells all that the result needs of the operand. `rest` are the values of
    what else is read, which no parameter has reached.
    """

    inside: Sequence[Alone]
    slot: Any
    operand: Signal
    rest: dict[Any, Any]

    def __call__(self, x: Any, rest: Sequence[Any]) -> Any:
        """The result, of the operand's value and of the others."""
        values = {self.slot: x, **dict(zip(self.rest, rest, strict=True))}
        for alone in self.inside:
            values[alone.eqn.outvars[0]] = alone([values[slot] for slot in alone.slots])[0]
        return values[self.inside[-1].eqn.outvars[0]]

    def bends(self) -> bool:
        """Whether an activity is bent: the derivative depends on it. Not if there is none."""
        result: Any = self.inside[-1].eqn.outvars[0].aval
        is_activity = self.operand.role in (Role.SAMPLED, Role.ACTIVITY)
        return is_activity and self.slot.aval.dtype == result.dtype and self._bends()

    def _bends(self) -> bool:
        first = self.inside[0]
        if len(self.inside) == 1:
            k = first.slots.index(self.slot)
            reads = first.reads(tuple(slot is self.slot for slot in first.slots))
            return reads is not None and k in reads[k]
        return _bends(tuple(alone.eqn for alone in self.inside), self.slot, tuple(self.rest))


@lru_cache(maxsize=4096)
def _bends(eqns: tuple[Any, ...], slot: Any, rest: tuple[Any, ...]) -> bool:
    link = Link([Alone(eqn) for eqn in eqns], slot, Signal(None), dict.fromkeys(rest))

    def message(x: Any, error: Any, rest: list[Any]) -> Any:
        return jax.vjp(lambda x: link(x, rest), x)[1](error)

    kinds = slot.aval, slot.aval, [var.aval for var in rest]
    sources = Flow(frozenset([0])), NOTHING, [NOTHING for _ in rest]
    try:
        (flow,) = dependence(message, kinds, sources)
    except Exception:  # JAX has many classes for what it cannot differentiate
        return False
    return bool(flow.reads)


class Region:
    """What is elementwise in one program, while it is run.

    Within a region there is one value, its source, and elementwise functions of it. The dominator
    of a value is the nearest one before it through which all of it has passed.
    """

    def __init__(self) -> None:
        self._signals: dict[Any, Signal] = {}
        self._inside: dict[Any, tuple[Alone, Path]] = {}
        self._source: dict[Any, Any] = {}
        self._dominator: dict[Any, Any] = {}
        self._depth: dict[Any, int] = {}

    def holds(self, alone: Alone, given: Sequence[Signal]) -> bool:
        """Whether an equation is an elementwise function of one source."""
        flags = tuple(signal.role is not Role.DATA for signal in given)
        moving = [slot for slot, m in zip(alone.slots, flags, strict=True) if m]
        known = (
            signal.role in (Role.SAMPLED, Role.ACTIVITY) or slot in self._dominator
            for slot, signal, m in zip(alone.slots, given, flags, strict=True)
            if m
        )
        return (
            len({self._source.get(slot, slot) for slot in moving}) == 1
            and all(known)
            and len(alone.eqn.outvars) == 1
            and not is_wiring(alone.eqn)
            and alone.is_elementwise(flags)
        )

    def link(self, alone: Alone, given: Sequence[Signal], path: Path) -> Link | None:
        """The link that ends with an equation."""
        self._signals.update(zip(alone.slots, given, strict=True))
        if not self.holds(alone, given):
            return None
        pairs = zip(alone.slots, given, strict=True)
        moving = [slot for slot, signal in pairs if signal.role is not Role.DATA]
        (slot,), operand = alone.eqn.outvars, self._common(moving)
        self._inside[slot] = alone, path
        self._source[slot] = self._source.get(operand, operand)
        self._dominator[slot] = operand
        self._depth[slot] = self._depth.get(operand, 0) + 1
        needed, inside = {slot}, list[Alone]()
        for made, (before, _) in reversed(self._inside.items()):
            if made in needed and made is not operand:
                inside.append(before)
                needed = needed - {made} | set(before.slots)
        rest = {slot: self._signals[slot].value for slot in needed if slot is not operand}
        return Link(inside[::-1], operand, self._signals[operand], rest)

    def read(self, body: Any) -> list[Path]:
        """The equations that end links whose results are read outside of their regions."""
        ends, found = variables(body.outvars), list[Path]()
        for eqn in body.eqns:
            if not any(var in self._inside for var in eqn.outvars):
                ends += variables(eqn.invars)
        for end in ends:
            while end in self._inside:
                found.append(self._inside[end][1])
                end = self._dominator[end]
        return found

    def _common(self, slots: Sequence[Any]) -> Any:
        """The nearest slot through which all of these have passed, or the only one of them."""
        first, *others = slots
        for other in others:
            while first is not other:
                if self._depth.get(first, 0) >= self._depth.get(other, 0):
                    first = self._dominator[first]
                else:
                    other = self._dominator[other]
        return first


def _unit(link: Link) -> Callable[..., Any]:
    """One activation unit: of its operand, of other values, and of whether to keep f'."""

    @jax.custom_vjp
    def unit(x: Any, rest: Any, keep: Any) -> Any:
        return link(x, rest)

    def forward(x: Any, rest: Any, keep: Any) -> tuple[Any, Any]:
        return link(x, rest), (x, rest, keep)

    def backward(kept: Any, error: Any) -> tuple[Any, None, None]:
        x, rest, keep = kept
        _, pull = jax.vjp(lambda x: link(x, rest), x)
        return lax.select_n(keep, error, *pull(error)), None, None

    unit.defvjp(forward, backward)
    return unit
