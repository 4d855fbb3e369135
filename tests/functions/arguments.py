"""What goes into a function and what comes out: argnums, pytrees, dtypes, auxiliary outputs."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .case import Call, case


class Layer(NamedTuple):
    weight: jax.Array
    bias: jax.Array | None


@jax.tree_util.register_dataclass
@dataclass
class Scaled:
    inner: Any
    gain: jax.Array

    def __call__(self, x):
        return jnp.sum(jnp.tanh(x @ self.inner.weight) * self.gain)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Setting:
    power: int


@case(straight_line=True)
def python_float(draw):
    return Call(lambda x: x * x * 3.0, 2.0)


@case(argnums=(0, 1), straight_line=True)
def numpy_arrays(draw):
    x = np.asarray(draw(3))
    return Call(lambda x, y: jnp.sum(x * y), x, x + 1)


@case(argnums=(0, 1), straight_line=True)
def argnums_tuple(draw):
    return Call(lambda x, y, z: jnp.sum(x * y + z), draw(3), draw(3), draw(3))


@case(argnums=(2, 0), straight_line=True)
def argnums_out_of_order(draw):
    return Call(lambda x, y, z: jnp.sum(x * y / z), draw(3), draw(3), draw.positive(3))


@case(argnums=-1, straight_line=True)
def argnums_negative(draw):
    return Call(lambda x, y: jnp.sum(jnp.sin(x) * y), draw(3), draw(3))


@case(argnums=(-1, 0), straight_line=True)
def argnums_negative_in_a_tuple(draw):
    return Call(lambda x, y, z: jnp.sum(x * y * z), draw(3), draw(3), draw(3))


@case(argnums=(1,), straight_line=True)
def argnums_of_one(draw):
    return Call(lambda x, y: jnp.sum(x * y), draw(3), draw(3))


@case(argnums=np.int64(1), straight_line=True)
def argnums_numpy_integer(draw):
    return Call(lambda x, y: jnp.sum(x * y), draw(3), draw(3))


@case(straight_line=True)
def nested_pytree(draw):
    def f(tree):
        first, (second, rest) = tree["layers"]
        hidden = jnp.tanh(tree["x"] @ first.weight + first.bias) @ second.weight
        return jnp.sum(hidden * rest["scale"][0])

    layers = [
        Layer(draw(3, 4), draw(4)),
        (Layer(draw(4, 2), None), {"scale": [draw(2)], "none": None, "empty": ()}),
    ]
    return Call(f, {"x": draw(2, 3), "layers": layers})


@case(straight_line=True)
def registered_dataclass(draw):
    return Call(lambda model, x: model(x), Scaled(Layer(draw(3, 2), None), draw(2)), draw(4, 3))


@case(straight_line=True)
def none_leaves(draw):
    def f(params, bias, x):
        hidden = x @ params["weight"]
        return jnp.sum(jnp.sin(hidden if bias is None else hidden + bias))

    return Call(f, {"weight": draw(3, 2), "bias": None}, None, draw(4, 3))


@case(argnums=(0, 1), straight_line=True)
def argument_without_leaves(draw):
    return Call(lambda state, x: jnp.sum(x * x), {"nothing": [None, ()]}, draw(3))


@case(argnums=(0, 2), straight_line=True)
def unused_arguments(draw):
    return Call(
        lambda params, y, unused: jnp.sum(params["used"] * y),
        {"used": draw(3), "unused": draw(2, 2)},
        draw(3),
        draw(4),
    )


@case(straight_line=True)
def empty_array(draw):
    return Call(lambda p: jnp.sum(p["empty"]) + p["x"] ** 2, {"empty": draw(0, 3), "x": draw()})


@case()
def integer_labels(draw):
    def f(w, x, labels):
        log_probabilities = jax.nn.log_softmax(x @ w)
        return -jnp.mean(jnp.take_along_axis(log_probabilities, labels[:, None], axis=1))

    return Call(f, draw(3, 5), draw(4, 3), draw.integers(5, 4))


@case()
def boolean_mask(draw):
    return Call(lambda x, mask: jnp.sum(jnp.where(mask, x * x, 0.0)), draw(4), draw(4) > 0)


@case(argnums=(0, 1, 2), allow_int=True)
def allow_int(draw):
    return Call(
        lambda x, n, flag: jnp.sum(jnp.where(flag, x * n, x)), draw(3), draw.integers(5, 3), True
    )


@case(allow_int=True)
def allow_int_with_a_key(draw):
    def f(params):
        return jnp.sum(params["w"] * jax.random.normal(params["key"], (3,), params["w"].dtype))

    return Call(f, {"w": draw(3), "key": jax.random.key(0), "step": 3})


@case(straight_line=True)
def keyword_arguments(draw):
    def f(w, x, *, scale, shift=None, targets):
        return jnp.sum((x @ w * scale["all"] - targets) ** 2)

    return Call(f, draw(3, 2), draw(4, 3), scale={"all": draw()}, targets=draw(4, 2))


@case(argnums=(0, 2), straight_line=True)
def variadic_arguments(draw):
    def f(*layers, **rest):
        return jnp.sum(jnp.tanh(layers[0] @ layers[1]) @ layers[2] * rest["scale"])

    return Call(f, draw(2, 3), draw(3, 3), draw(3, 2), scale=draw())


@case(static=(1, 2))
def static_arguments(draw):
    def f(x, activation, depth):
        for _ in range(depth):
            x = getattr(jnp, activation)(x)
        return jnp.sum(x)

    return Call(f, draw(3), "tanh", 2)


@case(straight_line=True)
def static_pytree_node(draw):
    return Call(lambda x, setting: jnp.sum(x**setting.power), draw(3), Setting(power=3))


@case(straight_line=True)
def partial_function(draw):
    return Call(partial(lambda scale, w, x: jnp.sum(scale * w * x), 2.0), draw(3), draw(3))


@case(straight_line=True)
def bound_method(draw):
    model = Scaled(Layer(draw(3, 2), None), draw(2))
    return Call(model.__call__, draw(4, 3))


@case(straight_line=True)
def callable_object(draw):
    return Call(Scaled(Layer(draw(3, 2), None), draw(2)), draw(4, 3))


@case(straight_line=True)
def jitted_function(draw):
    return Call(jax.jit(lambda x: jnp.sum(jnp.sin(x) * x)), draw(3))


@case(straight_line=True)
def closed_over_arrays(draw):
    from_jax, from_numpy, scalar = draw(3, 3), np.asarray(draw(3)), np.float32(0.5)
    return Call(lambda x: jnp.sum(jnp.tanh(x @ from_jax + from_numpy) * scalar), draw(2, 3))


@case(straight_line=True)
def returns_its_input(draw):
    return Call(lambda x: x, draw())


@case(straight_line=True)
def returns_a_literal(draw):
    return Call(lambda x: 1.0, draw(3))


@case(straight_line=True)
def returns_a_data_argument(draw):
    return Call(lambda x, y: y, draw(3), draw())


@case(has_aux=True, straight_line=True)
def aux_pytree(draw):
    def f(w, x):
        hidden = jnp.tanh(x @ w)
        aux = {"hidden": hidden, "count": jnp.sum(hidden > 0), "none": None, "input": (w, x)}
        return jnp.sum(hidden), aux

    return Call(f, draw(3, 2), draw(4, 3))


@case(has_aux=True)
def aux_integers_and_keys(draw):
    def f(x, key):
        following, now = jax.random.split(key)
        noise = jax.random.normal(now, x.shape, x.dtype)
        aux = (jnp.argmax(x), following, x > 0, jnp.argsort(x))
        return jnp.sum(x * x * noise), aux

    return Call(f, draw(5), jax.random.key(3))


@case(has_aux=True, straight_line=True)
def aux_is_the_loss(draw):
    def f(x):
        loss = jnp.sum(x**3)
        return loss, loss

    return Call(f, draw(3))


@case(has_aux=True, straight_line=True)
def aux_of_data_alone(draw):
    return Call(lambda x, y: (jnp.sum(x * x), {"data": y, "mean": jnp.mean(y)}), draw(3), draw(3))


@case(has_aux=True, straight_line=True)
def aux_nan(draw):
    return Call(lambda x: (jnp.sum(x * x), jnp.log(-jnp.abs(x))), draw(3))


@case(holomorphic=True, straight_line=True)
def holomorphic(draw):
    return Call(lambda z: jnp.sum(z * z * (1 + 2j)), draw.complex(3))


@case(straight_line=True)
def complex_parameters(draw):
    return Call(lambda w, x: jnp.sum(jnp.abs(x @ w) ** 2), draw.complex(3, 2), draw.complex(4, 3))


@case(argnums=(0, 1), straight_line=True)
def complex_intermediate(draw):
    def f(x, y):
        z = x + 1j * y
        return jnp.sum(jnp.real(jnp.exp(z) * jnp.conj(z)))

    return Call(f, draw(3), draw(3))


@case(argnums=(0, 1))
def mixed_dtypes(draw):
    return Call(
        lambda x, y: jnp.sum(x * y.astype(x.dtype)),
        draw(3),
        draw(3).astype(jnp.float16),
    )
