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
from localgrad._rules import Rule

VERTICES = (None, "elementary", "marked")


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
        if not callable(f):
            raise TypeError(_said(f"met {f!r} where a function should be.", "pass a callable."))
        if not isinstance(rule, Rule):
            hint = f"{rule.__name__}()" if isinstance(rule, type) else "localgrad.ZIL()"
            met = f"met rule={rule!r}, which is no instance of localgrad.Rule."
            raise TypeError(_said(met, f"pass a rule, e.g. rule={hint}."))
        if vertices not in VERTICES:
            known = " or ".join(map(repr, VERTICES[1:]))
            raise ValueError(_said(f"met vertices={vertices!r}.", f"use {known}, or leave it out."))
        chosen: Any = argnums if isinstance(argnums, tuple | list) else [argnums]
        try:
            positions = tuple(operator.index(position) for position in chosen)
        except TypeError:
            met = f"met argnums={argnums!r}, which is no integer and no sequence of integers."
            raise TypeError(_said(met, "pass positions, e.g. argnums=(0, 1).")) from None
        if not positions:
            raise ValueError(_said("met empty argnums.", "name at least one argument."))
        return cls(f, positions, chosen is not argnums, has_aux, holomorphic, allow_int, vertices)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Call":
        """The problem that one call of `f` poses."""
        for position in self.positions:
            if not -len(args) <= position < len(args):
                met = f"argnums={position} met a call with {len(args)} positional arguments."
                do = "pass the differentiated arguments by position, or change argnums."
                raise (ValueError if position < 0 else TypeError)(_said(met, do))
        return Call(self, args, kwargs)


class Call:
    """The leaves that are differentiated, the problem they pose, and its answers as pytrees."""

    def __init__(self, signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.signature = signature
        self._args, self._kwargs = args, kwargs
        chosen = tuple(args[position] for position in signature.positions)
        paths, self._tree = jax.tree.flatten_with_path(chosen)
        self._all = [self._checked(path, leaf) for path, leaf in paths]
        self._moves = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in self._all]
        self.names = [
            _name(path, signature) for (path, _), m in zip(paths, self._moves, strict=True) if m
        ]
        leaves = [leaf for leaf, m in zip(self._all, self._moves, strict=True) if m]
        self.problem = Problem(self._flat, leaves, signature.f, signature.vertices)

    def gradient(self, gradients: Sequence[Any]) -> Any:
        """One gradient per differentiated leaf, as the pytree of the differentiated arguments."""
        supply = iter(gradients)
        full = [
            next(supply) if m else np.zeros(leaf.shape, jax.dtypes.float0)
            for leaf, m in zip(self._all, self._moves, strict=True)
        ]
        trees = jax.tree.unflatten(self._tree, full)
        return trees[0] if self.signature.is_single else trees

    def auxiliary(self, arrays: Sequence[Any]) -> Any:
        """The auxiliary output, with the arrays in their places."""
        supply = iter(arrays)
        return jax.tree.unflatten(
            self._aux_tree, [next(supply) if _is_array(x) else x for x in self._aux_leaves]
        )

    def _flat(self, *leaves: Any) -> tuple[Any, list[Any]]:
        """The user's function from the differentiated leaves to the loss and the auxiliary arrays.

        What else it returns beside the loss (strings, Python numbers, objects) stays here.
        """
        supply = iter(leaves)
        full = [next(supply) if m else x for x, m in zip(self._all, self._moves, strict=True)]
        args = list(self._args)
        chosen = jax.tree.unflatten(self._tree, full)
        for position, arg in zip(self.signature.positions, chosen, strict=True):
            args[position] = arg
        outcome = self.signature.f(*args, **self._kwargs)
        aux = None
        if self.signature.has_aux:
            if not isinstance(outcome, tuple | list) or len(outcome) != 2:
                met = f"has_aux=True met a function that returned {type(outcome).__name__}."
                raise TypeError(self._of_f(met, "return a pair (loss, aux), or drop has_aux."))
            outcome, aux = outcome
        self._aux_leaves, self._aux_tree = jax.tree.flatten(aux)
        return self._scalar(outcome), [x for x in self._aux_leaves if _is_array(x)]

    def _scalar(self, loss: Any) -> Any:
        """The loss, if it is one."""
        do = "return a real scalar: sum or average over the loss of each example."
        try:
            kind = jax.typeof(loss)
        except TypeError:
            met = (
                f"met a function that returned a {type(loss).__name__} {repr(loss)[:60]}, no array."
            )
            raise TypeError(self._of_f(met, do)) from None
        if kind.shape != ():
            met = f"met a function that returned an array of shape {kind.shape}, not a scalar."
            raise TypeError(self._of_f(met, do))
        is_complex = jnp.issubdtype(kind.dtype, jnp.complexfloating)
        if self.signature.holomorphic and not is_complex:
            met = f"holomorphic=True met an output of dtype {kind.dtype}."
            raise TypeError(self._of_f(met, "return a complex scalar, or drop holomorphic."))
        if not self.signature.holomorphic and (
            is_complex or not jnp.issubdtype(kind.dtype, jnp.floating)
        ):
            met = f"met a function that returned a scalar of dtype {kind.dtype}."
            raise TypeError(self._of_f(met, do + " (holomorphic=True if f is holomorphic.)"))
        return jnp.asarray(loss)

    def _checked(self, path: Any, leaf: Any) -> Any:
        """A leaf to differentiate, as an array."""
        name = _name(path, self.signature)
        try:
            array = jnp.asarray(leaf) if not _is_array(leaf) else leaf
        except TypeError:
            met = f"met {name} of type {type(leaf).__name__}, which is no array."
            do = "differentiate pytrees of arrays only (Equinox: eqx.partition the model first)."
            raise TypeError(_said(met, do)) from None
        if self.signature.holomorphic and not jnp.issubdtype(array.dtype, jnp.complexfloating):
            met = f"holomorphic=True met {name} of dtype {array.dtype}."
            raise TypeError(_said(met, "pass complex arrays, or drop holomorphic."))
        if not self.signature.allow_int and not jnp.issubdtype(array.dtype, jnp.inexact):
            met = f"met {name} of dtype {array.dtype}, which has no gradient."
            do = "pass floating point arrays, choose other argnums, or set allow_int=True."
            raise TypeError(_said(met, do))
        return array

    def _of_f(self, met: str, do: str) -> str:
        return explain(met, defined_at(self.signature.f), do)


def _said(met: str, do: str) -> str:
    return explain(met, called_at(), do)


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array)


def _name(path: Any, signature: Signature) -> str:
    """How a user would write the leaf: `params.layers[0].weight`, `args[1]['w']`."""
    first, *rest = path
    return f"args[{signature.positions[first.idx]}]{jax.tree_util.keystr(tuple(rest))}"
