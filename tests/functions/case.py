"""What one row of the table of functions is, and where its arrays come from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Draw:
    """Random arrays of one dtype, reproducible from a name."""

    def __init__(self, dtype: str, name: str) -> None:
        self.dtype = jnp.dtype(dtype)
        self._generator = np.random.default_rng(list(name.encode()))

    def __call__(self, *shape: int, scale: float = 1.0) -> jax.Array:
        """Normal numbers with standard deviation ``scale``."""
        return jnp.asarray(scale * self._generator.standard_normal(shape), self.dtype)

    def positive(self, *shape: int) -> jax.Array:
        """Numbers between 0.5 and 1.5."""
        return jnp.asarray(self._generator.uniform(0.5, 1.5, shape), self.dtype)

    def integers(self, high: int, *shape: int) -> jax.Array:
        """int32 numbers from 0 to ``high - 1``."""
        return jnp.asarray(self._generator.integers(0, high, shape), jnp.int32)

    def complex(self, *shape: int) -> jax.Array:
        """Complex numbers whose real and imaginary parts have the dtype of the table's row."""
        return self(*shape) + 1j * self(*shape)

    def cast(self, tree: Any) -> Any:
        """The floating-point leaves of ``tree`` in this dtype, all other leaves as they are."""

        def leaf(x: Any) -> Any:
            inexact = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)
            return jnp.asarray(x, self.dtype) if inexact else x

        return jax.tree.map(leaf, tree)


class Call:
    """``f(*args, **kwargs)``, not yet called."""

    def __init__(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.f, self.args, self.kwargs = f, args, kwargs


@dataclass(frozen=True)
class Case:
    """One function of the table and what may be asked of it.

    ``build`` makes the call from a source of arrays; ``options`` are ``jax.grad``'s arguments.
    ``static`` names the positional arguments that ``jax.jit`` must treat as static.
    ``straight_line``: under ``jit`` the result must be bitwise that of ``jax.grad``.
    ``precision``: the least precise dtype the function computes in, where that is not the dtype of
    its arguments.
    """

    name: str
    build: Callable[[Draw], Call]
    options: dict[str, Any] = field(default_factory=dict)
    static: tuple[int, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "float64")
    straight_line: bool = False
    precision: str | None = None

    def call(self, dtype: str) -> Call:
        """The function and its arguments in ``dtype``."""
        return self.build(Draw(dtype, self.name))


def case(
    *,
    static: tuple[int, ...] = (),
    dtypes: tuple[str, ...] = ("float32", "float64"),
    straight_line: bool = False,
    precision: str | None = None,
    **options: Any,
) -> Callable[[Callable[[Draw], Call]], Case]:
    """Turn a function from a source of arrays to a call into a row of the table."""

    def decorate(build: Callable[[Draw], Call]) -> Case:
        return Case(build.__name__, build, options, static, dtypes, straight_line, precision)

    return decorate
