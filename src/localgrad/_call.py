"""One call of the user's function as a flat problem, and the way back to its pytrees."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from localgrad._engine import Problem
from localgrad._jaxpr import called_at, defined_at, explain
from localgrad._protocol import Rule
from localgrad._synapses import bare, learned, running, twins

VERTICES = (None, "elementary", "marked")
ARRAY = object()
"""Stands for an array in the auxiliary output."""


@dataclass(frozen=True)
class Signature:
    """What of `f` to differentiate and how; checked once, before any call."""

    f: Callable[..., Any]
    positions: tuple[int, ...]
    is_single: bool
    has_aux: bool
    holomorphic: bool
    allow_int: bool
    vertices: str | None

    @classmethod
    def of(
        cls,
        f: Callable[..., Any],
        argnums: int | Sequence[int],
        has_aux: bool,
        holomorphic: bool,
        allow_int: bool,
        rule: Rule,
        vertices: str | None,
    ) -> "Signature":
        """Check the options of a transform."""
        require(callable(f), f"met {f!r} where a function should be.", "pass a callable.")
        hint = f"{rule.__name__}()" if isinstance(rule, type) else "localgrad.ZIL()"
        met = f"met rule={rule!r}, which is no instance of localgrad.Rule."
        require(isinstance(rule, Rule), met, f"pass a rule, e.g. rule={hint}.")
        do = f"use {' or '.join(map(repr, VERTICES[1:]))}, or leave it out."
        require(vertices in VERTICES, f"met vertices={vertices!r}.", do, kind=ValueError)
        chosen: Any = argnums if isinstance(argnums, tuple | list) else [argnums]
        is_index = all(hasattr(position, "__index__") for position in chosen)
        met = f"met argnums={argnums!r}, which is no integer and no sequence of integers."
        require(is_index, met, "pass positions, e.g. argnums=(0, 1).")
        require(bool(chosen), "met empty argnums.", "name at least one.", kind=ValueError)
        positions = tuple(map(operator.index, chosen))
        return cls(f, positions, chosen is not argnums, has_aux, holomorphic, allow_int, vertices)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Call":
        """The problem that one call of `f` poses."""
        for position in self.positions:
            met = f"argnums={position} met a call with {len(args)} positional arguments."
            do = "pass the differentiated arguments by position, or change argnums."
            require(position < len(args), met, do)
            require(position >= -len(args), met, do, kind=ValueError)
        return Call(self, args, kwargs)


class Call:
    """The leaves that are differentiated, the problem they pose, and its answers as pytrees."""

    def __init__(self, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.signature = signature
        self._args, self._kwargs = args, kwargs
        chosen = tuple(args[position] for position in signature.positions)
        self._chosen = chosen
        paths, self._tree = jax.tree.flatten_with_path(bare(chosen))
        self._all = [self._checked(path, leaf) for path, leaf in paths]
        self._moves = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in self._all]
        self.names = [
            _name(path, signature) for (path, _), m in zip(paths, self._moves, strict=True) if m
        ]
        leaves, backward = (
            [x for x, m in zip(side, self._moves, strict=True) if m]
            for side in (self._all, twins(chosen))
        )
        self.problem = Problem(self._flat, leaves, signature.f, signature.vertices, backward)

    def gradient(self, gradients: Sequence[Any]) -> Any:
        """One gradient per differentiated leaf, as the pytree of the differentiated arguments."""
        supply = iter(gradients)
        full = [
            next(supply) if m else np.zeros(leaf.shape, jax.dtypes.float0)
            for leaf, m in zip(self._all, self._moves, strict=True)
        ]
        trees = learned(jax.tree.unflatten(self._tree, full), self._chosen)
        return trees[0] if self.signature.is_single else trees

    def auxiliary(self, arrays: Sequence[Any]) -> Any:
        """The auxiliary output, with the arrays in their places."""
        supply = iter(arrays)
        return jax.tree.unflatten(
            self._aux_tree, [next(supply) if x is ARRAY else x for x in self._aux_leaves]
        )

    def _flat(self, *leaves: Any) -> tuple[Any, list[Any]]:
        """The user's function from the differentiated leaves to the loss and the auxiliary arrays.

        What else it returns beside the loss (strings, Python numbers, objects) stays here.
        """
        supply = iter(leaves)
        full = [next(supply) if m else x for x, m in zip(self._all, self._moves, strict=True)]
        args = list(self._args)
        chosen = running(jax.tree.unflatten(self._tree, full))
        for position, arg in zip(self.signature.positions, chosen, strict=True):
            args[position] = arg
        outcome = self.signature.f(*args, **self._kwargs)
        aux = None
        if self.signature.has_aux:
            is_pair = isinstance(outcome, tuple | list) and len(outcome) == 2
            met = f"has_aux=True met a function that returned {type(outcome).__name__}."
            do = "return a pair (loss, aux), or drop has_aux."
            require(is_pair, met, do, self._in_f)
            outcome, aux = outcome
        parts, self._aux_tree = jax.tree.flatten(aux)
        # Without the arrays: they belong to the trace, and come back as its results.
        self._aux_leaves = [ARRAY if _is_array(x) else x for x in parts]
        return self._scalar(outcome), [x for x in parts if _is_array(x)]

    def _scalar(self, loss: Any) -> Any:
        """The loss, if it is one."""
        met = "met a function that returned "
        do = "return a real scalar: sum or average over the loss of each example."
        shown = f"a {type(loss).__name__} {repr(loss)[:60]}, no array."
        require(_is_array_like(loss), met + shown, do, self._in_f)
        shape, dtype = jnp.shape(loss), jnp.result_type(loss)
        met += f"an array of shape {shape} and dtype {dtype}, not a "
        require(shape == (), f"{met}scalar.", do, self._in_f)
        if self.signature.holomorphic:
            do = "return a complex scalar, or drop holomorphic."
            is_right = jnp.issubdtype(dtype, jnp.complexfloating)
            require(is_right, f"{met}complex scalar, as holomorphic=True asks.", do, self._in_f)
        else:
            do += " (holomorphic=True if the function is.)"
            require(jnp.issubdtype(dtype, jnp.floating), f"{met}real scalar.", do, self._in_f)
        return jnp.asarray(loss)

    def _checked(self, path: Any, leaf: Any) -> Any:
        """A leaf to differentiate, as an array."""
        name = _name(path, self.signature)
        do = "differentiate pytrees of arrays only (Equinox: eqx.partition the model first)."
        require(_is_array_like(leaf), f"met {name}, a {type(leaf).__name__} and no array.", do)
        array = leaf if _is_array(leaf) else jnp.asarray(leaf)
        met = f"met {name} of dtype {array.dtype}"
        is_complex = jnp.issubdtype(array.dtype, jnp.complexfloating)
        do = "pass complex arrays, or drop holomorphic."
        require(is_complex or not self.signature.holomorphic, f"{met} and holomorphic=True.", do)
        is_inexact = jnp.issubdtype(array.dtype, jnp.inexact)
        do = "pass floating point arrays, choose other argnums, or set allow_int=True."
        require(is_inexact or self.signature.allow_int, f"{met}, which has no gradient.", do)
        return array

    def _in_f(self) -> str:
        return defined_at(self.signature.f)


def require(
    holds: bool,
    met: str,
    do: str,
    where: Callable[[], str] = called_at,
    kind: type[Exception] = TypeError,
) -> None:
    """Raise an error in three parts unless the condition holds."""
    if not holds:
        raise kind(explain(met, where(), do))


def _is_array_like(x: Any) -> bool:
    """Whether JAX takes it for an array: arrays, NumPy's too, and Python numbers."""
    try:
        jax.typeof(x)
    except TypeError:
        return False
    return True


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array)


def _name(path: Any, signature: Signature) -> str:
    """How a user would write the leaf: `params.layers[0].weight`, `args[1]['w']`."""
    first, *rest = path
    return f"args[{signature.positions[first.idx]}]{jax.tree_util.keystr(tuple(rest))}"
