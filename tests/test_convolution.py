"""The forms of a convolution for loops give its values and its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from localgrad._jaxpr.convolution import as_canonical, as_product, in_loop

QUICKLY = {"xla_backend_optimization_level": 0}
TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "bfloat16": 5e-2}


def normal(shape, dtype="float64"):
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), dtype)


def operands(image, kernel, dtype="float64"):
    return normal(image, dtype), normal(kernel, dtype)


def equation(convolve, *args):
    (eqn,) = jax.make_jaxpr(convolve)(*args).eqns
    return eqn


def with_gradients(convolve, error, *args):
    result, pull = jax.vjp(convolve, *args)
    return result, *pull(error)


def forms_of(args, **params):
    """The forms that the convolution has, each of them found right, gradients included."""
    convolve = functools.partial(lax.conv_general_dilated, **params)
    eqn = equation(convolve, *args)
    forms = {form: made for form in (as_product, as_canonical) if (made := form(eqn))}
    assert (in_loop(eqn) is None) == (not forms)
    expected = jax.eval_shape(convolve, *args)
    error = normal(expected.shape, expected.dtype)
    tolerance = TOLERANCE[str(args[0].dtype)]
    sides = jax.jit(
        lambda *args: [with_gradients(side, *args) for side in (convolve, *forms.values())],
        compiler_options=QUICKLY,
    )
    theirs, *each_of_ours = sides(error, *args)
    for ours in each_of_ours:
        for x, y in zip(ours, theirs, strict=True):
            assert x.dtype == y.dtype
            x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
            scale = np.abs(y).max(initial=1.0)
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * scale)
    return set(forms)


IMAGE, KERNEL = (3, 4, 9, 8), (6, 4, 3, 2)
TABLE = {
    "plain": (IMAGE, KERNEL, {"padding": "VALID"}),
    "same": (IMAGE, KERNEL, {"padding": "SAME"}),
    "strides": (IMAGE, KERNEL, {"window_strides": (2, 3), "padding": "SAME"}),
    "uneven padding": (IMAGE, KERNEL, {"padding": ((2, 0), (5, 1))}),
    "cropped": (IMAGE, KERNEL, {"padding": ((-1, -2), (0, -1))}),
    "dilated kernel": (IMAGE, KERNEL, {"padding": "SAME", "rhs_dilation": (2, 3)}),
    "groups": (IMAGE, (6, 2, 3, 2), {"padding": "SAME", "feature_group_count": 2}),
    "depthwise": (IMAGE, (8, 1, 3, 2), {"padding": "SAME", "feature_group_count": 4}),
    "one by one": (IMAGE, (6, 4, 1, 1), {"padding": "VALID", "window_strides": (2, 2)}),
    "rest unread": ((2, 3, 8, 8), (5, 3, 3, 3), {"padding": "VALID", "window_strides": (4, 4)}),
    "no spatial": ((3, 4), (6, 4), {"padding": (), "window_strides": ()}),
    "one spatial": ((3, 4, 9), (6, 4, 3), {"padding": "SAME", "window_strides": (2,)}),
    "three spatial": (
        (2, 3, 5, 4, 6),
        (4, 3, 2, 3, 2),
        {"padding": "SAME", "window_strides": (1, 2, 1)},
    ),
    "four spatial": ((2, 2, 3, 4, 3, 3), (2, 2, 2, 2, 1, 2), {"padding": "SAME"}),
    "channels last": (
        (3, 9, 8, 4),
        (3, 2, 4, 6),
        {"padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")},
    ),
    "odd layouts": (
        (9, 3, 4, 8),
        (3, 4, 6, 2),
        {"padding": "SAME", "dimension_numbers": ("HNCW", "HIOW", "CWNH")},
    ),
    "precision": (IMAGE, KERNEL, {"padding": "SAME", "precision": ("highest", "default")}),
}


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@pytest.mark.rows(6)
@pytest.mark.parametrize("case", TABLE)
def test_product_and_canonical_are_the_convolution(case):
    image, kernel, params = TABLE[case]
    params = {"window_strides": (1,) * (len(image) - 2)} | params
    args = operands(image, kernel)
    has_routine = len(image) in (3, 4, 5) and "feature_group_count" not in params
    assert forms_of(args, **params) == ({as_product, as_canonical} if has_routine else {as_product})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lower_precisions(dtype):
    args = operands(IMAGE, KERNEL, dtype)
    assert forms_of(args, window_strides=(1, 2), padding="SAME") == {as_product, as_canonical}


def test_a_wider_result():
    args = operands(IMAGE, KERNEL, "bfloat16")
    params = {"window_strides": (1, 1), "padding": "SAME", "preferred_element_type": "float32"}
    convolve = functools.partial(lax.conv_general_dilated, **params)
    eqn = equation(convolve, *args)
    assert as_canonical(eqn) is None
    ours, theirs = as_product(eqn)(*args), convolve(*args)
    assert ours.dtype == theirs.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_dilated_image_is_no_product():
    args = operands(IMAGE, KERNEL)
    params = {"window_strides": (2, 1), "padding": ((2, 3), (1, 0)), "lhs_dilation": (2, 3)}
    assert forms_of(args, **params) == {as_canonical}


def test_batch_groups_and_empty_arrays_stay_convolutions():
    plain = {"window_strides": (1, 1), "padding": "SAME"}
    grouped = operands((4, 4, 9, 8), KERNEL)
    empty = operands((0, 4, 9, 8), KERNEL)
    unread = operands((2, 4, 2, 2), KERNEL)
    assert not forms_of(grouped, batch_group_count=2, **plain)
    assert not forms_of(empty, **plain)
    assert not forms_of(unread, **plain | {"padding": "VALID"})


def test_the_routine_serves_single_precision_with_enough_features():
    def forms(features, dtype):
        args = operands((3, features, 9, 8), (6, features, 3, 2), dtype)
        convolve = functools.partial(
            lax.conv_general_dilated, window_strides=(1, 1), padding="SAME"
        )
        made = in_loop(equation(convolve, *args))
        return {eqn.primitive.name for eqn in jax.make_jaxpr(made)(*args).eqns}

    assert "dot_general" not in forms(4, "float32")
    assert "dot_general" in forms(3, "float32")
    assert "dot_general" in forms(4, "float64")


def test_second_derivatives_and_vmap():
    args = operands((1, 2, 4, 3), (2, 2, 2, 2))
    convolve = functools.partial(lax.conv_general_dilated, window_strides=(2, 1), padding="SAME")
    eqn = equation(convolve, *args)

    def slope(function):
        energy = jax.grad(lambda *args: jnp.sum(jnp.tanh(function(*args))), argnums=(0, 1))
        return jax.grad(lambda *args: sum(jnp.sum(jnp.sin(g)) for g in energy(*args)), (0, 1))

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def both(*stacked):
        sides = (convolve, as_product(eqn), as_canonical(eqn))
        return [jax.vmap(slope(side))(*stacked) for side in sides]

    theirs, *each_of_ours = both(*(jnp.stack([x, 2 * x]) for x in args))
    for ours in each_of_ours:
        for x, y in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-11)


@st.composite
def configurations(draw):
    """Shapes and parameters of a convolution with a result that is not empty."""
    spatial = draw(st.integers(1, 3))
    most = 3 if spatial < 3 else 2

    def each(strategy):
        return tuple(draw(strategy) for _ in range(spatial))

    groups, inside, outside, batch = (draw(st.integers(1, 3)) for _ in range(4))
    window, dilation, strides = (each(st.integers(1, most)) for _ in range(3))
    padding = each(st.tuples(st.integers(-1, 3), st.integers(-1, 3)))
    spans = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    size = [
        max(1, span - sum(pad), -min(pad)) + draw(st.integers(0, 4))
        for span, pad in zip(spans, padding, strict=True)
    ]
    orders = [draw(st.permutations(range(spatial + 2))) for _ in range(3)]
    canonical = (
        (batch, groups * inside, *size),
        (groups * outside, inside, *window),
    )
    shapes = [
        tuple(shape[order.index(k)] for k in range(spatial + 2))
        for shape, order in zip(canonical, orders, strict=False)
    ]
    return *shapes, {
        "window_strides": strides,
        "padding": padding,
        "rhs_dilation": dilation,
        "feature_group_count": groups,
        "dimension_numbers": lax.ConvDimensionNumbers(*map(tuple, orders)),
    }


@pytest.mark.long
@given(configurations())
@settings(max_examples=settings.default.max_examples // 2)
def test_random_configurations(configuration):
    image, kernel, params = configuration
    args = operands(image, kernel)
    with jax.enable_x64(True):
        has_routine = params["feature_group_count"] == 1
        assert forms_of(args, **params) == (
            {as_product, as_canonical} if has_routine else {as_product}
        )


def test_the_product_has_derivatives_in_both_modes():
    args = operands(IMAGE, KERNEL)
    convolve = functools.partial(lax.conv_general_dilated, window_strides=(1, 1), padding="SAME")
    product = as_product(equation(convolve, *args))
    tangents = tuple(jnp.cos(x) for x in args)
    for ours, theirs in zip(
        jax.jvp(product, args, tangents), jax.jvp(convolve, args, tangents), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
