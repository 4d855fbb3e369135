"""Half precision, and programs that change precision on the way."""

import jax
import jax.numpy as jnp

from .case import Call, case

HALVES = ("float16", "bfloat16")


@case(dtypes=HALVES)
def half_elementwise(draw):
    return Call(lambda x: jnp.sum(jnp.tanh(x) * x), draw(4))


@case(dtypes=HALVES)
def half_layers(draw):
    def f(params, x, labels):
        for w in params[:-1]:
            x = jax.nn.gelu(x @ w)
        return -jnp.mean(jax.nn.log_softmax(x @ params[-1])[jnp.arange(4), labels])

    return Call(f, [draw(3, 4), draw(4, 4), draw(4, 3)], draw(4, 3), draw.integers(3, 4))


@case(dtypes=HALVES)
def half_scan(draw):
    def f(w, xs):
        return jnp.sum(jax.lax.scan(lambda h, x: (jnp.tanh(h @ w + x), h), xs[0], xs)[1] ** 2)

    return Call(f, draw(3, 3, scale=0.5), draw(4, 3))


@case(precision="bfloat16")
def bfloat16_inside(draw):
    def f(params, x):
        for w in params:
            x = jnp.tanh(x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(w.dtype)
        return jnp.mean(x**2)

    return Call(f, [draw(3, 3), draw(3, 3)], draw(4, 3))


@case(precision="float16")
def float16_with_loss_scaling(draw):
    def f(w, x):
        product = (x.astype(jnp.float16) @ w.astype(jnp.float16)).astype(w.dtype)
        return 128.0 * jnp.mean(jnp.sin(product))

    return Call(f, draw(3, 2), draw(4, 3))


@case(dtypes=("bfloat16",))
def wide_accumulation(draw):
    def f(w, x):
        product = jnp.matmul(x, w, preferred_element_type=jnp.float32)
        return jnp.mean(product**2).astype(jnp.bfloat16)

    return Call(f, draw(3, 2), draw(4, 3))


@case(dtypes=("bfloat16", "float32"), has_aux=True)
def wide_loss(draw):
    def f(w, x):
        hidden = jnp.tanh(x @ w)
        return jnp.sum(hidden.astype(jnp.float32) ** 2), hidden

    return Call(f, draw(3, 2), draw(4, 3))


@case()
def reduced_precision(draw):
    return Call(lambda x: jnp.sum(jax.lax.reduce_precision(x * x, 8, 12) * x), draw(4))
