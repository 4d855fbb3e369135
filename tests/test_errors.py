"""Misuse: the error class of ``jax.grad``, and a text that says what, where and what to do."""

import functools
import linecache
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import localgrad as lg

X = np.float32(1.5)
VECTOR = np.ones(3, np.float32)


class Misuse(NamedTuple):
    """``run(grad)`` misuses ``grad``; the line to blame carries the comment ``here``.

    ``met`` and ``advice`` are words that the first and the last part of the text must contain.
    ``like`` makes the transform whose error class is wanted.
    """

    run: Callable[[Any], Any]
    met: str
    advice: str
    like: Any = jax.grad


MISUSES: dict[str, Misuse] = {}


def misuse(met: str, advice: str, like: Any = jax.grad) -> Callable[[Any], Any]:
    def register(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        MISUSES[run.__name__] = Misuse(run, met, advice, like)
        return run

    return register


def traced(f, **options):
    """``jax.grad`` of a function that is traced before it is differentiated."""
    return jax.grad(jax.jit(f), **options)


# What the function returns ------------------------------------------------------------------------


@misuse("shape (3,)", "sum or average")
def vector_output(grad):
    grad(lambda x: x * 2)(VECTOR)  # here


@misuse("shape (1,)", "sum or average")
def vector_output_of_one(grad):
    grad(lambda x: x[:1])(VECTOR)  # here


@misuse("tuple", "scalar")
def tuple_output(grad):
    grad(lambda x: (x, x))(X)  # here


@misuse("None", "scalar")
def none_output(grad):
    def f(x):  # here
        x * 2

    grad(f)(X)


@misuse("loss", "scalar")
def string_output(grad):
    grad(lambda x: "loss")(X)  # here


@misuse("int32", "scalar")
def integer_output(grad):
    grad(lambda x: jnp.argmax(x))(VECTOR)  # here


@misuse("bool", "scalar")
def boolean_output(grad):
    grad(lambda x: x > 0)(X)  # here


@misuse("complex64", "holomorphic=True")
def complex_output(grad):
    grad(lambda x: x * 1j)(X)  # here


@misuse("has_aux=True", "pair")
def aux_without_a_pair(grad):
    grad(lambda x: x, has_aux=True)(X)  # here


@misuse("has_aux=True", "pair")
def aux_of_three(grad):
    grad(lambda x: (x, x, x), has_aux=True)(X)  # here


@misuse("tuple", "scalar")
def aux_not_announced(grad):
    grad(lambda x: (x, {"aux": x}))(X)  # here


# What it is given ---------------------------------------------------------------------------------


@misuse("int32", "allow_int")
def integer_argument(grad):
    grad(lambda x: x * 1.0)(3)  # here


@misuse(r"args[0]['w'][1]", "allow_int")
def integer_leaf(grad):
    grad(lambda p: jnp.sum(p["w"][0]))({"w": (VECTOR, np.arange(3))})  # here


@misuse("bool", "allow_int")
def boolean_argument(grad):
    grad(lambda x: x * 1.0)(True)  # here


@misuse("key<", "allow_int")
def key_argument(grad):
    grad(lambda key: jax.random.normal(key))(jax.random.key(0))  # here


@misuse("str", "arrays")
def string_argument(grad):
    grad(lambda x, y: x * 1.0, argnums=1)(X, "text")  # here


@misuse("object", "arrays")
def object_argument(grad):
    grad(lambda x: 1.0)(object())  # here


@misuse("args[0]", "partition")
def module_with_functions_in_it(grad):
    model = eqx.nn.MLP(2, "scalar", 2, 1, key=jax.random.key(0))
    grad(lambda model, x: model(x))(model, np.ones(2, np.float32))  # here


@misuse("float32", "complex")
def holomorphic_with_a_real_argument(grad):
    grad(lambda x: x * x, holomorphic=True)(X)  # here


@misuse("float32", "complex")
def holomorphic_with_a_real_output(grad):
    grad(lambda z: z.real, holomorphic=True)(1j)  # here


@misuse("complex64", "holomorphic")
def complex_argument_without_holomorphic(grad):
    grad(lambda z: z * z)(1j)  # here


# How it is called ---------------------------------------------------------------------------------


@misuse("argnums=1", "argnums")
def argnums_out_of_range(grad):
    grad(lambda x: x, argnums=1)(X)  # here


@misuse("argnums=-2", "argnums")
def argnums_out_of_range_below(grad):
    grad(lambda x: x, argnums=-2)(X)  # here


@misuse("argnums=0", "by position")
def argument_by_name(grad):
    grad(lambda x: x)(x=X)  # here


@misuse("argnums='x'", "argnums=(0, 1)")
def argnums_of_wrong_type(grad):
    grad(lambda x: x, argnums="x")(X)  # here


@misuse("argnums=1.0", "argnums=(0, 1)")
def argnums_not_an_integer(grad):
    grad(lambda x: x, argnums=1.0)(X)  # here


@misuse("argnums", "at least one")
def argnums_empty(grad):
    grad(lambda x: x, argnums=())(X)  # here


@misuse("3.0", "callable")
def not_a_function(grad):
    grad(3.0)  # here


@misuse("generator", "return")
def generator_function(grad):
    def f(x):  # here
        yield x

    grad(f)(X)


# What is inside -----------------------------------------------------------------------------------


@misuse("while", "static number of iterations")
def while_loop(grad):
    def f(x):
        return lax.while_loop(lambda x: x < 10, lambda x: x * 2, x)  # here

    grad(f)(X)


@misuse("while", "static number of iterations")
def fori_loop_with_dynamic_bounds(grad):
    def f(x, n):
        return lax.fori_loop(0, n, lambda i, x: x * 2, x)  # here

    jax.jit(grad(f))(X, 3)


@misuse("while", "static number of iterations")
def while_loop_inside_of_everything(grad):
    @jax.jit
    def body(carry, _):
        doubled = lax.while_loop(lambda x: x < 10, lambda x: x * 2, carry)  # here
        return lax.cond(carry > 0, lambda: doubled, lambda: carry), None

    def f(x):
        return jax.checkpoint(lambda x: lax.scan(body, x, length=2)[0])(x)

    grad(f)(X)


@misuse("pure_callback", "custom_vjp")
def pure_callback(grad):
    def f(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), x.dtype), x)  # here

    grad(f)(X)


@misuse("io_callback", "custom_vjp")
def io_callback(grad):
    def f(x):
        shape = jax.ShapeDtypeStruct((), x.dtype)
        return jax.experimental.io_callback(np.sin, shape, x)  # here

    grad(f)(X)


@misuse("defjvp", "mend it there")
def custom_jvp_without_a_derivative(grad):
    @jax.custom_jvp
    def h(x):
        return x * x

    grad(lambda x: h(x))(X)  # here


@misuse("defvjp", "mend it there")
def custom_vjp_without_a_derivative(grad):
    @jax.custom_vjp
    def h(x):
        return x * x

    grad(lambda x: h(x))(X)  # here


@misuse("value of a traced array", "lax.cond", like=traced)
def python_branch_on_a_differentiated_value(grad):
    def f(x):
        return x if x > 0 else -x  # here

    grad(f)(X)


@misuse("value of a traced array", "not differentiated", like=traced)
def python_branch_on_a_value_computed_from_data(grad):
    data = jnp.asarray(VECTOR)

    def f(x):
        return x if jnp.sum(data) > 0 else -x  # here

    grad(f)(X)


@misuse("value of a traced array", "lax.cond", like=traced)
def python_number_of_a_differentiated_value(grad):
    def f(x):
        return x * float(x)  # here

    grad(f)(X)


@misuse("value of a traced array", "lax.cond", like=traced)
def numpy_on_a_differentiated_value(grad):
    def f(x):
        return jnp.sum(np.sin(x) * x)  # here

    grad(f)(VECTOR)


# What only localgrad has --------------------------------------------------------------------------


def raising(error):
    """A transform that has no counterpart in JAX, with the error class that is wanted."""

    def like(f, **options):
        raise error

    return like


@misuse("class", "rule=ZIL()", like=raising(TypeError()))
def rule_is_a_class(grad):
    grad(lambda x: x, rule=lg.ZIL)(X)  # here


@misuse("'zil'", "rule=", like=raising(TypeError()))
def rule_is_a_name(grad):
    grad(lambda x: x, rule="zil")(X)  # here


@misuse("vertices='layers'", "'marked'", like=raising(ValueError()))
def vertices_unknown(grad):
    grad(lambda x: x, vertices="layers")(X)  # here


@misuse("without marks", "localgrad.vertex", like=raising(ValueError()))
def vertices_marked_without_marks(grad):
    grad(lambda x: x * 2, vertices="marked")(X)  # here


def error_of(run, grad):
    with pytest.raises(Exception) as caught:  # noqa: PT011 (its class is what is compared)
        run(grad)
    return caught.value


@pytest.mark.parametrize("name", MISUSES)
@pytest.mark.parametrize("transform", [lg.grad, lg.value_and_grad], ids=["grad", "value_and_grad"])
def test_misuse(name, transform):
    run, met, advice, like = MISUSES[name]
    error, reference = error_of(run, transform), error_of(run, like)
    assert isinstance(error, type(reference))

    text = "\n".join([str(error), *getattr(error, "__notes__", ())])
    parts = re.search(
        r"(?P<met>.*)\n\s*where: (?P<where>.*)\n\s*what to do: (?P<advice>.*)", text, re.S
    )
    assert parts, text
    assert met in parts["met"]
    assert advice in parts["advice"]
    file, _, line = parts["where"].rpartition(":")
    assert file.endswith("test_errors.py")
    assert linecache.getline(file, int(line)).rstrip().endswith("# here")


@pytest.mark.parametrize("name", [name for name, row in MISUSES.items() if row.like is jax.grad])
def test_misuse_under_backprop_has_the_same_class(name):
    run = MISUSES[name].run
    error = error_of(run, functools.partial(lg.grad, rule=lg.Backprop()))
    assert isinstance(error, type(error_of(run, jax.grad)))


@pytest.mark.parametrize("rule", [lg.ZIL(), lg.Backprop()], ids=lambda rule: rule.name)
def test_errors_of_the_function_itself_pass_unchanged(rule):
    class OwnError(Exception):
        pass

    def f(x):
        raise OwnError("mine")

    with pytest.raises(OwnError, match=r"^mine"):
        lg.grad(f, rule=rule)(X)


def test_wrong_calls_of_the_function_pass_unchanged():
    with pytest.raises(TypeError, match="missing 1 required"):
        lg.grad(lambda x, y: x * y)(X)
    with pytest.raises(TypeError, match="contracting dimensions"):
        lg.grad(lambda w, x: jnp.sum(w @ x))(np.ones((2, 3)), np.ones((2, 3)))


def test_custom_vjp_that_closes_over_a_traced_value():
    """Its backward function runs after the trace has ended, as under ``jax.checkpoint``."""

    def f(w, x):
        shift = jnp.sin(x)

        @jax.custom_vjp
        def gate(h):
            return h + shift

        gate.defvjp(lambda h: (gate(h), None), lambda _, g: (g * shift,))
        return jnp.sum(gate(w))

    with pytest.raises(jax.errors.UnexpectedTracerError):
        jax.grad(jax.checkpoint(f))(VECTOR, VECTOR)
    with pytest.raises(jax.errors.UnexpectedTracerError, match="what to do"):
        lg.grad(f)(VECTOR, VECTOR)


def test_what_was_computed_before_an_error_does_not_linger():
    f = functools.partial(lambda scale, x: jnp.sum(x * scale), 2.0)
    with pytest.raises(TypeError):
        lg.grad(f)("text")
    np.testing.assert_array_equal(lg.grad(f)(VECTOR), 2 * VECTOR)
