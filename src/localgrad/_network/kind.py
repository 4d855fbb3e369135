"""What may flow through a network: the numbers themselves, or one flag for each of them."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from localgrad._jaxpr import bind, empty, in_loop, is_convolution, is_inexact, is_literal, passes


class Kind(Protocol):
    """How a network is evaluated."""

    def operands(self, atoms: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        """What goes into an equation with programs inside, and what comes out of a program."""
        ...

    def bind(self, eqn: Any, operands: Sequence[Any]) -> Sequence[Any]:
        """The outputs of an equation."""
        ...

    def kept(self, values: Sequence[Any]) -> Sequence[Any]:
        """What is given from before: constants, and what has happened once."""
        ...

    def enter(self, x: Any, length: int) -> Any:
        """What a scan slices, with the iterations on its first axis."""
        ...

    def leave(self, y: Any) -> Any:
        """What a scan has stacked, as one value."""
        ...

    def choose(self, index: Any, ways: Sequence[Callable[..., Any]], given: Any, held: Any) -> Any:
        """The outputs of a choice."""
        ...


class Numbers:
    """The numbers themselves; convolutions in a form for loops if `loops`."""

    def __init__(self, loops: bool = False) -> None:
        self._loops = loops

    def operands(self, atoms: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        return list(values)

    def bind(self, eqn: Any, operands: Sequence[Any]) -> Sequence[Any]:
        form = in_loop(eqn) if self._loops and is_convolution(eqn) else None
        return [form(*operands)] if form else bind(eqn, operands)

    def kept(self, values: Sequence[Any]) -> Sequence[Any]:
        return values

    def enter(self, x: Any, length: int) -> Any:
        return x

    def leave(self, y: Any) -> Any:
        return y

    def choose(self, index: Any, ways: Sequence[Callable[..., Any]], given: Any, held: Any) -> Any:
        """The branch that is taken; vertices of the others are silent, and hold zeros."""
        kinds = [_kinds(way, given, held) for way in ways]

        def padded(k: int) -> Callable[..., Any]:
            def run(given: Any, held: Any) -> Any:
                outputs, answers = ways[k](given, held)
                others = [jax.tree.map(empty, kind) for kind in kinds]
                return outputs, (*others[:k], answers, *others[k + 1 :])

            return run

        return lax.switch(index, [padded(k) for k in range(len(ways))], given, held)


class Flags:
    """One number per value: the sum of those of the vertices that it depends on.

    Run forwards it tells a vertex which of its parents raise a flag, its transpose which children.
    Those count between which messages pass, or else `all` whose values are read.
    """

    def __init__(self, all: bool) -> None:  # noqa: A002 (of all parents)
        self._all = all

    def operands(self, atoms: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        pairs = zip(values, atoms, strict=True)
        return [SILENT if is_literal(atom) else x for x, atom in pairs]

    def bind(self, eqn: Any, operands: Sequence[Any]) -> Sequence[Any]:
        pairs = zip(self.operands(eqn.invars, operands), eqn.invars, strict=True)
        total = sum((x for x, atom in pairs if self._counts(eqn, atom)), SILENT)
        return [total if self._all or is_inexact(v.aval) else SILENT for v in eqn.outvars]

    def kept(self, values: Sequence[Any]) -> Sequence[Any]:
        return [SILENT] * len(values)

    def enter(self, x: Any, length: int) -> Any:
        return jnp.broadcast_to(x, (length, *jnp.shape(x)))

    def leave(self, y: Any) -> Any:
        return jnp.sum(y, 0)

    def choose(self, index: Any, ways: Sequence[Callable[..., Any]], given: Any, held: Any) -> Any:
        each = [way(given, held) for way in ways]
        start = index if self._all else SILENT
        outputs = [
            None if same[0] is None else sum(same, start)
            for same in zip(*(outputs for outputs, _ in each), strict=True)
        ]
        return outputs, tuple(answers for _, answers in each)

    def _counts(self, eqn: Any, atom: Any) -> bool:
        return self._all or (passes(eqn) and is_inexact(atom.aval))


SILENT = np.float32(0)
NUMBERS = Numbers()
READING, SENDING = Flags(all=True), Flags(all=False)


def _kinds(way: Callable[..., Any], given: Any, held: Any) -> Any:
    """The types of a branch's answers."""
    closed, shape = jax.make_jaxpr(lambda *a: way(*a)[1], return_shape=True)(given, held)
    return jax.tree.unflatten(jax.tree.structure(shape), closed.out_avals)
