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


def check_seeds(
    name: str, models: Sequence[tuple[Any, Callable[..., Any]]], seeds: Sequence[int], inputs: Any
) -> None:
    """See to it that the models of several seeds, ``(params, apply)``, differ in `params` alone.

    They are trained as one program, which runs the first one's `apply` for all.

    Raises:
        ValueError: if parameters have other shapes, or functions of the same parameters differ.
    """
    do = "let nothing but the values of parameters depend on key, or train the seeds one by one"
    same = _disturbed(models[0][0])

    def outputs(params: Any, apply: Callable[..., Any]) -> Array:
        return jnp.nan_to_num(apply(jax.tree.unflatten(jax.tree.structure(params), same), inputs))

    first = outputs(*models[0])
    rounding = 1e-3 * jnp.abs(first).max()
    for seed, (params, apply) in zip(seeds[1:], models[1:], strict=True):
        need(
            list(map(jnp.shape, jax.tree.leaves(params))) == list(map(jnp.shape, same)),
            f"parameters of {name} have other shapes with seed {seed} than with {seeds[0]}; {do}",
        )
        need(
            bool(jnp.allclose(outputs(params, apply), first, rtol=0, atol=rounding)),
            f"{name} is another function with seed {seed} than with {seeds[0]}, though its "
            f"parameters were made the same; {do}",
        )


def _disturbed(params: Any) -> list[Array]:
    """Parameters near these, none of them zero, which would hide what it is multiplied with."""
    leaves = list(map(jnp.asarray, jax.tree.leaves(params)))
    keys = jax.random.split(jax.random.key(0), len(leaves))
    return [
        x + jax.random.normal(key, x.shape, x.dtype) / 10
        for key, x in zip(keys, leaves, strict=True)
    ]
