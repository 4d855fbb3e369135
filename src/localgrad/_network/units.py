"""Activation units: where the error may pass without the derivative of the non-linearity."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from localgrad._jaxpr import Equation, Program, Pulls, body_of, is_call
from localgrad._network.regions import Link
from localgrad._network.replay import Replay
from localgrad._network.surveyed import Path, units


def gated(program: Program, leaves: int) -> Callable[..., list[Any]]:
    """The program with a gate at the derivative of every activation unit.

    Args:
        program: Traced with `keep_calls`; its first output is the loss.
        leaves: How many of its inputs, from the first, are parameters.

    Returns:
        A function of the program's inputs and of one boolean scalar, `keep`, to its outputs. An
        activation unit ``y = f(x)`` sends ``f'(x) e`` where `keep` is true, else ``e``.

    An **activation unit** is an elementwise and non-linear function of one activity, with a result
    of the same dtype: an equation, the smallest group of equations that is one (`x * sigmoid(x)`),
    or a call kept whole (`jax.nn.silu`, a `jax.jit` or `custom_jvp` function of the user's). It
    counts only if a parameter still enters as a factor between it and the loss, so that what
    squashes the output, and the loss itself, keep their derivatives. Inside of a function of JAX
    that is no unit as a whole (`jax.nn.log_softmax`) there is none. If the program has marks, a
    unit is next to one: its operand or its result is a marked value, up to wiring. Without marks
    the non-linear parts of a normalisation written by hand (a square, an inverse root) count too.
    """

    def run(*inputs: Any) -> list[Any]:
        return Gated(program, leaves, inputs[-1]).run(program, inputs[:-1])

    return run


class Gated(Replay):
    """Replays a program with gates at its units."""

    keeps_calls = True

    def __init__(self, program: Program, leaves: int, keep: Any) -> None:
        super().__init__()
        self._keep = keep
        self._units = units(program, leaves, self.body)
        self._around = {path[:k] for path in self._units for k in range(1, len(path))}
        self._path: Path = ()

    def evaluate(self, equation: Equation, values: dict[int, Any]) -> Sequence[Any]:
        self._path = path = (*self._path, equation)
        try:
            if path in self._units:
                link = self._units[path]
                rest = {slot: values[slot] for slot in link.rest}
                return [_unit(link, self._pulls)(values[link.operand], rest, self._keep)]
            if path not in self._around:
                return self._pulls.run(equation, values)
            if is_call(equation.eqn):
                return self.run(self.body(body_of(equation.eqn)), equation.read(values))
            return super().evaluate(equation, values)
        finally:
            self._path = path[:-1]


def _unit(link: Link, pulls: Pulls) -> Callable[..., Any]:
    """One activation unit: of its operand, of other values, and of whether to keep f'."""

    @jax.custom_vjp
    def unit(x: Any, rest: dict[int, Any], keep: Any) -> Any:
        return link.run(pulls, x, rest)

    def forward(x: Any, rest: dict[int, Any], keep: Any) -> tuple[Any, Any]:
        return unit(x, rest, keep), (x, rest, keep)

    def backward(kept: Any, error: Any) -> tuple[Any, None, None]:
        x, rest, keep = kept
        _, pull = jax.vjp(lambda x: link.run(pulls, x, rest), x)
        return lax.select_n(keep, error, *pull(error)), None, None

    unit.defvjp(forward, backward)
    return unit
