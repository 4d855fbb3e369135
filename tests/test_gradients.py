"""Every function and model of the tables, against ``jax.grad``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import localgrad as lg
from functions import FUNCTIONS, Call, Case
from models import MODELS
from oracle import (
    RULES,
    TOLERANCE,
    assert_close,
    assert_equal,
    compiled,
    differences,
    opened,
)

TABLE = FUNCTIONS | MODELS


def names(value):
    return value.name if isinstance(value, Case | lg.Rule) else value


def every(step, first=0):
    """One function in ``step``, so that each theme of the table has a share."""
    return pytest.mark.parametrize("row", list(FUNCTIONS.values())[first::step], ids=names)


def marks(number, turn, count):
    """Every function is always run in one of its dtypes, in all of them in the full matrix."""
    always = turn % 2 == number % 2 or count == 1
    found = [] if always else [pytest.mark.matrix]
    return [*found, pytest.mark.leaks] if number % 5 == 0 else found


@pytest.mark.rows(32)
@pytest.mark.parametrize(
    ("row", "dtype"),
    [
        pytest.param(row, dtype, marks=marks(number, turn, len(row.dtypes)))
        for number, row in enumerate(TABLE.values())
        for turn, dtype in enumerate(row.dtypes)
    ],
    ids=names,
)
def test_compiled(row, dtype):
    with jax.enable_x64(dtype == "float64"):
        call = row.call(dtype)
        got = compiled(lg.value_and_grad, row, call, rule=lg.ZIL())
        want = compiled(jax.value_and_grad, row, call)
        tolerance = 0.0 if row.straight_line else TOLERANCE[row.precision or dtype]
        assert_close(got, want, tolerance)


@pytest.mark.rows(16)
@every(4)
@pytest.mark.parametrize("rule", RULES, ids=names)
def test_eager(row, rule):
    dtype = row.dtypes[0]
    call = row.call(dtype)
    got = lg.grad(call.f, rule=rule, **row.options)(*call.args, **call.kwargs)
    want = jax.grad(call.f, **row.options)(*call.args, **call.kwargs)
    assert_close(got, want, TOLERANCE[row.precision or dtype])


@pytest.mark.rows(10)
@every(8, first=1)
@pytest.mark.parametrize("rule", RULES[1:], ids=names)
def test_other_rules_compiled(row, rule):
    dtype = row.dtypes[-1]
    with jax.enable_x64(dtype == "float64"):
        call = row.call(dtype)
        got = compiled(lg.value_and_grad, row, call, rule=rule)
        assert_close(
            got, compiled(jax.value_and_grad, row, call), TOLERANCE[row.precision or dtype]
        )


@pytest.mark.rows(2)
@pytest.mark.parametrize("vertices", ["elementary", "marked"])
@pytest.mark.parametrize(
    "name", ["marked_values", "marked_values_in_a_scan", "checkpoint_saving_names"]
)
def test_vertices(name, vertices):
    """An exact rule gives the same gradient whatever a vertex is."""
    row = FUNCTIONS[name]
    with jax.enable_x64(True):
        call = row.call("float64")
        got = compiled(lg.value_and_grad, row, call, vertices=vertices)
        assert_close(got, compiled(jax.value_and_grad, row, call), TOLERANCE["float64"])


@pytest.mark.long
@pytest.mark.parametrize("row", [FUNCTIONS["activations"], MODELS["resnet18"]], ids=names)
def test_difference_is_that_of_opening_calls(row):
    """Where not bitwise: ``jax.grad`` of the program with its calls opened differs by as much."""
    call = row.call("float32")
    want = compiled(jax.value_and_grad, row, call)
    ours = differences(compiled(lg.value_and_grad, row, call), want)
    inlined = differences(compiled(jax.value_and_grad, row, Call(opened(call.f), *call.args)), want)
    assert max(ours.values()) <= 2 * max(inlined.values()) <= 2 * TOLERANCE["float32"]


# What jit would hide ------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=names)
def test_data_arguments_stay_python_values(rule):
    def f(x, depth, name, data, options):
        for _ in range(depth):
            x = getattr(jnp, name)(x)
        if data[0] > 0 and options["flag"]:
            x = x * np.sort(data) * float(data[1])
        return jax.lax.fori_loop(0, data[2].astype(int), lambda i, x: x * 2.0, jnp.sum(x))

    args = (jnp.ones(3), 2, "sin", np.asarray([1.0, 2.0, 3.0], np.float32), {"flag": True})
    assert_close(lg.grad(f, rule=rule)(*args), jax.grad(f)(*args), TOLERANCE["float32"])


@pytest.mark.leaks
@pytest.mark.parametrize("rule", RULES, ids=names)
def test_auxiliary_objects_are_handed_through(rule):
    marker = object()

    def f(x):
        loss = jnp.sum(x * x)
        return loss, {"loss": loss, "text": "a", "number": 3, "object": marker, "none": None}

    (value, aux), gradient = lg.value_and_grad(f, has_aux=True, rule=rule)(jnp.ones(2))
    assert_equal((value, gradient), (jnp.asarray(2.0), jnp.asarray([2.0, 2.0])))
    assert isinstance(aux.pop("loss"), jax.Array)
    assert aux == {"text": "a", "number": 3, "object": marker, "none": None}
    assert type(aux["number"]) is int


@pytest.mark.parametrize("rule", RULES, ids=names)
def test_effects_happen_once(rule):
    seen = []

    def f(w, xs):
        jax.debug.callback(lambda w: seen.append("once"), w)

        def step(h, x):
            jax.debug.callback(lambda h: seen.append("each"), h)
            return jnp.tanh(h * w + x), None

        return jax.lax.scan(step, w, xs)[0]

    for transform in (lg.grad(f, rule=rule), jax.jit(lg.grad(f, rule=rule))):
        transform(jnp.asarray(0.5), jnp.ones(3))
        jax.effects_barrier()
        assert sorted(seen) == ["each", "each", "each", "once"]
        seen.clear()


def test_same_random_numbers_forward_and_backward():
    """The mask is drawn once: its zeros are the zeros of the gradient."""

    def f(w, key):
        mask = jax.random.bernoulli(key, 0.5, w.shape)
        return jnp.sum(jnp.where(mask, w**2, 0.0)), mask

    for seed in range(3):
        gradient, mask = lg.grad(f, has_aux=True)(jnp.ones(16), jax.random.key(seed))
        np.testing.assert_array_equal(gradient != 0, mask)


def test_the_function_keeps_its_name():
    def named(x):
        """What it says."""
        return x

    assert lg.grad(named).__name__ == lg.value_and_grad(named).__name__ == "named"
