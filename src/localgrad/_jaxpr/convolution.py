"""Convolutions in forms that stay fast inside a compiled loop.

XLA's CPU compiler hands a convolution to its tuned routine only if the operands are laid out as
that routine wants them. It lays them out so by itself in the main program, but not inside a
`while`, which every `scan` and `fori_loop` becomes, partly unrolled ones too: there a convolution
in another layout, and JAX's transpose of any convolution, is compiled to plain nested loops, 3 to
30 times slower. The forms here, with transposes of their own, do not depend on the compiler:

* `as_canonical`: a convolution in the layout of the routine, as is its transpose;
* `as_product`: slices, one concatenation and one `dot_general`, the transpose of which is the
  transposed product and an overlap-add of padded pieces.

`in_loop` chooses; `benchmarks/inference.py` measures all three.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

Convolution = Callable[[jax.Array, jax.Array], jax.Array]
"""(image, kernel) -> result, in the layouts of the equation that it stands for."""

FEW = 4
"""With fewer input features than this per group, the product is the faster form."""


def in_loop(eqn: JaxprEqn) -> Convolution | None:
    """The faster of the two forms of a convolution inside a loop on a CPU, None if it has none.

    The routine knows neither feature groups nor float64, and wastes its width on few features.
    """
    image, kernel, _ = _types(eqn)
    features = kernel.shape[eqn.params["dimension_numbers"].rhs_spec[1]]
    is_single = image.dtype in (jnp.float32, jnp.float16, jnp.bfloat16)
    forms = [as_product, as_canonical]
    if is_single and features >= FEW:
        forms.reverse()
    return next((made for form in forms if (made := form(eqn))), None)


def as_product(eqn: JaxprEqn) -> Convolution | None:
    """A convolution as one matrix product of the kernel with the patches of the image.

    With channels first, patches are `(offsets * features, batch, *outputs)`: one strided slice of
    the padded image per offset in the kernel. Derivatives of any order and mode are JAX's own.

    Args:
        eqn: A `conv_general_dilated` equation with any strides, padding, kernel dilation, feature
            groups, dimension numbers and number of spatial dimensions.

    Returns:
        The function, or None for image dilation, batch groups and empty arrays, for which there is
        no such form.
    """
    params = eqn.params
    image, kernel, result = _types(eqn)
    is_empty = 0 in (*image.shape, *kernel.shape, *result.shape)
    if is_empty or params["batch_group_count"] != 1 or any(d != 1 for d in params["lhs_dilation"]):
        return None
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    batch, features, *spatial = numbers.lhs_spec
    outputs = [result.shape[k] for k in numbers.out_spec[2:]]
    extent = [kernel.shape[k] for k in numbers.rhs_spec[2:]]
    strides = params["window_strides"]
    starts = itertools.product(
        *(range(0, n * d, d) for n, d in zip(extent, params["rhs_dilation"], strict=True))
    )
    spans = [
        (start, [k + (n - 1) * s + 1 for k, n, s in zip(start, outputs, strides, strict=True)])
        for start in starts
    ]
    count, inside = len(spans), image.shape[features] // groups

    def product(image: jax.Array, kernel: jax.Array) -> jax.Array:
        padding = [(0, 0, 0), (0, 0, 0), *((*p, 0) for p in params["padding"])]
        moved = image.transpose(features, batch, *spatial)
        padded = lax.pad(moved, jnp.zeros((), image.dtype), padding)
        pieces = [
            lax.slice(padded, (0, 0, *start), (*padded.shape[:2], *stop), (1, 1, *strides))
            for start, stop in spans
        ]
        patches = lax.concatenate(pieces, 0)
        # (result features, offsets, features of the image): the order in which pieces follow.
        weights = kernel.transpose(numbers.rhs_spec[0], *numbers.rhs_spec[2:], numbers.rhs_spec[1])
        multiply = partial(
            lax.dot_general,
            precision=params["precision"],
            preferred_element_type=params["preferred_element_type"],
        )
        if groups == 1:
            weights = weights.reshape(-1, count * inside)
            out = multiply(weights, patches, (((1,), (0,)), ((), ())))
        else:
            weights = weights.reshape(groups, -1, count, inside)
            patches = patches.reshape(count, groups, inside, *patches.shape[1:])
            out = multiply(weights, patches, (((2, 3), (0, 2)), ((0,), (1,))))
            out = out.reshape(-1, *out.shape[2:])
        return out.transpose(_inverse(numbers.out_spec, first=(1, 0)))

    return product


def as_canonical(eqn: JaxprEqn) -> Convolution | None:
    """A convolution in the layout `(batch, *spatial, features)` with kernel `(*spatial, in, out)`.

    Its transpose is written in the same layout, which takes a `jax.custom_vjp`: reverse mode only,
    of any order.

    Args:
        eqn: A `conv_general_dilated` equation with any strides, padding, dilations and dimension
            numbers.

    Returns:
        The function, or None where the routine does not serve: feature or batch groups, more than
        three spatial dimensions, results of another dtype than the operands, empty arrays.
    """
    params = eqn.params
    image, kernel, result = _types(eqn)
    is_empty = 0 in (*image.shape, *kernel.shape, *result.shape)
    is_mixed = len({image.dtype, kernel.dtype, result.dtype}) > 1
    is_grouped = params["feature_group_count"] != 1 or params["batch_group_count"] != 1
    if is_empty or is_mixed or is_grouped or image.ndim not in (3, 4, 5):
        return None
    numbers = params["dimension_numbers"]
    channels_last = (0, image.ndim - 1, *range(1, image.ndim - 1))
    layout = lax.ConvDimensionNumbers(
        channels_last, (image.ndim - 1, image.ndim - 2, *range(image.ndim - 2)), channels_last
    )
    convolve = partial(
        lax.conv_general_dilated,
        rhs_dilation=params["rhs_dilation"],
        dimension_numbers=layout,
        precision=params["precision"],
    )
    strides, dilation = params["window_strides"], params["lhs_dilation"]
    forward = partial(
        convolve, window_strides=strides, padding=params["padding"], lhs_dilation=dilation
    )
    backward = partial(
        convolve, window_strides=dilation, padding=_transposed_padding(eqn), lhs_dilation=strides
    )

    @jax.custom_vjp
    def canonical(image: jax.Array, kernel: jax.Array) -> jax.Array:
        return forward(image, kernel)

    def keep(image: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Any]:
        return canonical(image, kernel), (image, kernel)

    def pull(kept: tuple[jax.Array, jax.Array], error: jax.Array) -> tuple[jax.Array, jax.Array]:
        image, kernel = kept
        turned = lax.rev(kernel, range(kernel.ndim - 2)).swapaxes(-1, -2)
        _, of_kernel = jax.vjp(partial(forward, image), kernel)
        return backward(error, turned), *of_kernel(error)

    canonical.defvjp(keep, pull)

    def moved(image: jax.Array, kernel: jax.Array) -> jax.Array:
        batch, features, *spatial = numbers.lhs_spec
        out, into, *window = numbers.rhs_spec
        image = image.transpose(batch, *spatial, features)
        result = canonical(image, kernel.transpose(*window, into, out))
        return result.transpose(_inverse(numbers.out_spec, first=(0, image.ndim - 1)))

    return moved


def _types(eqn: JaxprEqn) -> list[Any]:
    """Shape and dtype of image, kernel and result."""
    return [var.aval for var in (*eqn.invars, *eqn.outvars)]


def _transposed_padding(eqn: JaxprEqn) -> list[tuple[int, int]]:
    """The padding of the error in the convolution that carries it back to the image."""
    params = eqn.params
    numbers = params["dimension_numbers"]
    image, kernel, result = (x.shape for x in _types(eqn))
    padding = []
    for k, (low, _) in enumerate(params["padding"]):
        size = (image[numbers.lhs_spec[2 + k]] - 1) * params["lhs_dilation"][k] + 1
        span = (kernel[numbers.rhs_spec[2 + k]] - 1) * params["rhs_dilation"][k] + 1
        spread = (result[numbers.out_spec[2 + k]] - 1) * params["window_strides"][k] + 1
        padding.append((span - 1 - low, size + low - spread))
    return padding


def _inverse(spec: tuple[int, ...], first: tuple[int, int]) -> list[int]:
    """The axes that bring a result into the layout `spec`.

    The result holds its batch and features at the two places `first`, and the spatial dimensions,
    in order, at the others.
    """
    spatial = [k for k in range(len(spec)) if k not in first]
    held = [*first, *spatial]
    axes = [0] * len(spec)
    for place, axis in zip(spec, held, strict=True):
        axes[place] = axis
    return axes
