"""What ``jax.grad`` says, and how far from it a result may be."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import localgrad as lg
from functions import Call, Case

RULES: tuple[lg.Rule, ...] = (lg.ZIL(), lg.Backprop())

TOLERANCE = {
    "float64": 1e-13,
    "float32": 5e-6,
    "float16": 4 * float(jnp.finfo("float16").eps),
    "bfloat16": 4 * float(jnp.finfo("bfloat16").eps),
}
"""Largest relative difference of one leaf, ``max |a - b| / max |b|``; half precision: 4 ulp."""


def sampled(rows: list[Any], every: int, first: int = 0) -> list[Any]:
    """Parameters for pytest: one in so many is always run, the others in the full matrix only."""
    return [
        pytest.param(
            *(row if isinstance(row, tuple) else (row,)),
            marks=() if number % every == first else pytest.mark.matrix,
        )
        for number, row in enumerate(rows)
    ]


def numbers(leaf: Any) -> np.ndarray:
    """The leaf as float64, complex128 or integers, so that differences do not round or overflow."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.dtype == jax.dtypes.float0:
        return np.zeros(leaf.shape)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        return np.asarray(leaf, np.complex128)
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.asarray(leaf, np.float64)
    return np.asarray(leaf)


def difference(got: Any, want: Any) -> float:
    """``max |got - want| / max |want|``; infinite where not the same entries are finite."""
    got, want = numbers(got), numbers(want)
    if np.array_equal(got, want, equal_nan=np.issubdtype(want.dtype, np.inexact)):
        return 0.0
    if not np.issubdtype(want.dtype, np.inexact):
        return np.inf
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return np.inf
    largest = np.max(np.abs(want[finite]))
    with np.errstate(divide="ignore"):
        return float(
            np.nan_to_num(np.max(np.abs(got[finite] - want[finite])) / largest, nan=np.inf)
        )


def differences(got: Any, want: Any) -> dict[str, float]:
    """The relative difference of every leaf; asks for equal structures, shapes and dtypes."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    pairs = zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True)
    result = {}
    for (path, a), b in pairs:
        name = jax.tree_util.keystr(path)
        assert (jnp.shape(a), jnp.result_type(a)) == (jnp.shape(b), jnp.result_type(b)), name
        result[name] = difference(jnp.asarray(a) if np.isscalar(a) else a, b)
    return result


def assert_close(got: Any, want: Any, tolerance: float) -> None:
    """Every leaf within ``tolerance`` of what is wanted, as a relative difference."""
    far = {name: d for name, d in differences(got, want).items() if not d <= tolerance}
    assert not far, f"beyond {tolerance:.1e}: {far}"


def assert_equal(got: Any, want: Any) -> None:
    """Bitwise equality of every leaf."""
    assert_close(got, want, 0.0)


def compiled(transform: Callable[..., Any], row: Case, call: Call, **options: Any) -> Any:
    """``jit(transform(f))(*args, **kwargs)`` for one row of the table."""
    run = jax.jit(transform(call.f, **row.options, **options), static_argnums=row.static)
    return run(*call.args, **call.kwargs)


def opened(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` with its ``jit`` calls replaced by the equations inside them."""

    def evaluate(jaxpr: Any, consts: Any, *args: Any) -> list[Any]:
        values = dict(zip(jaxpr.constvars, consts, strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if hasattr(atom, "val") else values[atom]

        for equation in jaxpr.eqns:
            operands = [read(atom) for atom in equation.invars]
            if equation.primitive.name == "jit":
                inner = equation.params["jaxpr"]
                results = evaluate(inner.jaxpr, inner.consts, *operands)
            else:
                one = jaxpr.replace(
                    constvars=[],
                    invars=list({a: None for a in equation.invars if not hasattr(a, "val")}),
                    outvars=equation.outvars,
                    eqns=[equation],
                )
                inputs = [values[v] for v in one.invars]
                results = jax.core.eval_jaxpr(one, (), *inputs)  # noqa: TID251 (the control)
            values.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def g(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = jax.tree.flatten((args, kwargs))

        def flat(*leaves: Any) -> Any:
            args, kwargs = jax.tree.unflatten(structure, leaves)
            return f(*args, **kwargs)

        jaxpr, shapes = jax.make_jaxpr(flat, return_shape=True)(*leaves)
        results = evaluate(jaxpr.jaxpr, jaxpr.consts, *leaves)
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return g
