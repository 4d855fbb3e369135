"""Models of the user's own: functions named as ``package.module:function``."""

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from localgrad.experiments.models.needs import need


def is_own(name: str) -> bool:
    """Whether a model's name is that of a function."""
    return ":" in name


def make(name: str, shape: Sequence[int], classes: int, key: Array) -> Any:
    """What the function returns: a callable model, or a pair ``(params, apply)``.

    Raises:
        ValueError: if it is neither, or the function has other parameters.
    """
    module, _, function_name = name.partition(":")
    function = getattr(import_module(module), function_name)
    arguments = {"shape": tuple(shape), "classes": classes, "key": key}
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"{name} cannot be called with shape, classes and key: {error}; "
            f"define it as {function_name}(shape, classes, key)"
        ) from error
    made = function(**arguments)
    match made:
        case (params, apply) if callable(apply):
            return params, apply
        case model if callable(model):
            return model
    raise ValueError(
        f"{name} returned a value of type {type(made).__name__}; return a callable model, such as "
        "an Equinox module, or a pair (params, apply)"
    )


def check(
    name: str, params: Any, apply: Callable[..., Any], shape: Sequence[int], classes: int
) -> None:
    """See to it that a model can be trained as a classifier of such inputs.

    Raises:
        ValueError: if it cannot.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    strange = [
        f"{getattr(leaf, 'dtype', type(leaf).__name__)} at params{jax.tree_util.keystr(path)}"
        for path, leaf in leaves
        if not eqx.is_inexact_array(leaf)
    ]
    need(
        not strange,
        f"the parameters of {name} must be floating point arrays, met {', '.join(strange[:3])}; "
        "return as params what learns, and leave all else to apply",
    )
    need(bool(leaves), f"nothing in {name} learns; give it floating point arrays")
    is_text = len(shape) == 1
    dtype = jnp.int32 if is_text else jnp.result_type(*jax.tree.leaves(params))
    outputs = jax.eval_shape(apply, params, jax.ShapeDtypeStruct((2, *shape), dtype))
    met = getattr(outputs, "shape", type(outputs).__name__)
    wanted = (2, *shape, classes) if is_text else (2, classes)
    need(
        met == wanted,
        f"of 2 inputs of shape {tuple(shape)} {name} makes outputs of shape {met}; "
        f"make them {wanted}: a number for each class",
    )
