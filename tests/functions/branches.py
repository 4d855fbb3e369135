"""``cond`` and ``switch``: the branch taken, nested, in and around scans, under ``vmap``."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import Call, case


def either(flag, w, x):
    return lax.cond(flag, lambda: jnp.tanh(x @ w), lambda: jnp.sin(x * w[0]))


@case(argnums=(0, 1))
def cond_true(draw):
    return Call(lambda w, x, flag: jnp.sum(either(flag, w, x)), draw(3, 3), draw(2, 3), True)


@case(argnums=(0, 1))
def cond_false(draw):
    return Call(lambda w, x, flag: jnp.sum(either(flag, w, x)), draw(3, 3), draw(2, 3), False)


@case()
def cond_on_a_differentiated_value(draw):
    def f(x):
        return lax.cond(jnp.sum(x) > 0, lambda x: jnp.sum(x**2), lambda x: jnp.sum(x**3), x)

    return Call(f, draw(3))


@case()
def cond_with_operands(draw):
    def f(w, x, flag):
        y, aux = lax.cond(
            flag, lambda w, x: (x @ w, {"n": 1}), lambda w, x: (x @ w.T, {"n": 2}), w, x
        )
        return jnp.sum(y * aux["n"])

    return Call(f, draw(3, 3), draw(2, 3), jnp.asarray(False))


@case()
def cond_branch_without_gradient(draw):
    def f(x, flag):
        return jnp.sum(lax.cond(flag, lambda x: x * x, lambda x: jnp.ones_like(x), x) * x)

    return Call(f, draw(3), False)


@case(argnums=(0, 1))
def cond_returning_its_operands(draw):
    def f(x, y, flag):
        a, b, c = lax.cond(flag, lambda x, y: (x, y, x), lambda x, y: (y, x, x), x, y)
        return jnp.sum(jnp.sin(a) * b + c)

    return Call(f, draw(3), draw(3), False)


@case()
def cond_with_nan_in_the_untaken_branch(draw):
    def f(x):
        return lax.cond(jnp.min(x) > 0, lambda x: jnp.sum(jnp.log(x)), lambda x: jnp.sum(x), x)

    return Call(f, jnp.asarray([-1.0, 0.0, 2.0], draw.dtype))


@case()
def cond_nested(draw):
    def f(w, x, outer, inner):
        def first(x):
            return lax.cond(inner, lambda x: x @ w, lambda x: jnp.tanh(x) * w[0], x)

        return jnp.sum(lax.cond(outer, first, lambda x: x * w[1], x) ** 2)

    return Call(f, draw(3, 3), draw(2, 3), True, False)


@case()
def cond_two_in_sequence(draw):
    def f(w, x, flag):
        y = either(flag, w, x)
        return jnp.sum(either(~flag, w, y) * y)

    return Call(f, draw(3, 3), draw(2, 3), jnp.asarray(True))


@case()
def switch(draw):
    def f(params, x, index):
        branches = [lambda x, w=w: jnp.tanh(x @ w) for w in params]
        return jnp.sum(lax.switch(index, branches, x))

    return Call(f, [draw(3, 3) for _ in range(3)], draw(2, 3), jnp.asarray(1))


@case()
def switch_index_out_of_range(draw):
    def f(x, index):
        return jnp.sum(lax.switch(index, [jnp.sin, jnp.cos, jnp.exp], x))

    return Call(f, draw(3), jnp.asarray(7))


@case()
def switch_partial_outputs(draw):
    def f(w, x, index):
        branches = [
            lambda x: (x @ w, jnp.sum(x), 0),
            lambda x: (x, jnp.sum(w), 1),
            lambda x: (jnp.zeros_like(x), jnp.asarray(2.0, x.dtype), 2),
        ]
        y, scale, _ = lax.switch(index, branches, x)
        return jnp.sum(y) * scale

    return Call(f, draw(3, 3), draw(2, 3), jnp.asarray(1))


@case()
def cond_with_scan_inside(draw):
    def f(w, xs, flag):
        def run(xs):
            return lax.scan(lambda h, x: (jnp.tanh(h @ w + x), h), xs[0], xs)[1]

        return jnp.sum(lax.cond(flag, run, lambda xs: xs * w[0], xs) ** 2)

    return Call(f, draw(3, 3), draw(4, 3), True)


@case()
def cond_with_checkpoint_and_custom_derivatives(draw):
    @jax.custom_jvp
    def doubled(x):
        return 2.0 * x

    doubled.defjvps(lambda g, _, x: 3.0 * g * x)

    def f(w, x, flag):
        block = jax.checkpoint(lambda x: jnp.sin(doubled(x) @ w))
        return jnp.sum(lax.cond(flag, block, doubled, x))

    return Call(f, draw(3, 3), draw(2, 3), True)


@case()
def cond_with_jit_around(draw):
    @jax.jit
    def block(w, x, flag):
        return lax.cond(flag, jax.jit(lambda x: x @ w), jnp.sin, x)

    return Call(lambda w, x, flag: jnp.sum(block(w, x, flag) ** 2), draw(3, 3), draw(2, 3), True)


@case()
def vmap_of_cond(draw):
    def f(w, xs):
        return jnp.sum(jax.vmap(lambda x: either(x[0] > 0, w, x))(xs) ** 2)

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def vmap_of_cond_with_one_predicate(draw):
    def f(w, xs, flag):
        return jnp.sum(jax.vmap(lambda x: either(flag, w, x))(xs) ** 2)

    return Call(f, draw(3, 3), draw(4, 3), False)


@case()
def vmap_of_switch(draw):
    def f(w, xs, indices):
        def run(x, index):
            return lax.switch(index, [jnp.sin, lambda x: x @ w, lambda x: x * w[0]], x)

        return jnp.sum(jax.vmap(run)(xs, indices))

    return Call(f, draw(3, 3), draw(4, 3), jnp.asarray([0, 1, 2, 1]))


@case()
def platform_dependent(draw):
    def f(x):
        return jnp.sum(lax.platform_dependent(x, cpu=jnp.sin, default=jnp.cos) * x)

    return Call(f, draw(3))
