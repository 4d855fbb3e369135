"""Calls inside the function: jit, checkpoint, custom derivatives, callbacks, transformations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from .case import Call, case


@case()
def nested_jit(draw):
    constant = np.asarray(draw(3))

    @jax.jit
    def inner(w, x):
        return jnp.tanh(x @ w) + constant

    @jax.jit
    def outer(w, x):
        return inner(w, inner(w, x)) * jnp.asarray(2.0, x.dtype)

    return Call(lambda w, x: jnp.sum(outer(w, x) ** 2), draw(3, 3), draw(2, 3))


@case()
def jit_called_twice(draw):
    layer = jax.jit(lambda w, x: jnp.sin(x @ w))

    def f(params, x):
        for w in params:
            x = layer(w, x)
        return jnp.sum(x)

    return Call(f, [draw(3, 3) for _ in range(3)], draw(2, 3))


@case()
def jit_with_static_arguments(draw):
    @partial(jax.jit, static_argnums=(1,), static_argnames=("activation",))
    def layer(x, power, activation="sin"):
        return getattr(jnp, activation)(x) ** power

    return Call(
        lambda x: jnp.sum(layer(x, 2) * layer(x, 3, activation="cos") + layer(x, 2)), draw(3)
    )


@case()
def jit_of_literals(draw):
    scale = jax.jit(lambda x, factor: x * factor)
    return Call(lambda x: jnp.sum(scale(x, 2.0) * scale(2.0, x) + scale(x, 3)), draw(3))


@case()
def jit_of_data_only(draw):
    prepare = jax.jit(lambda x: jnp.sin(x) / jnp.linalg.norm(x))
    return Call(lambda w, x: jnp.sum(w * prepare(x)), draw(3), draw(3))


@case()
def checkpoint(draw):
    block = jax.checkpoint(lambda w, x: jnp.sin(jnp.tanh(x @ w)))

    def f(params, x):
        for w in params:
            x = block(w, x)
        return jnp.sum(x**2)

    return Call(f, [draw(3, 3) for _ in range(3)], draw(2, 3))


def named_blocks(policy):
    @partial(jax.checkpoint, policy=policy)
    def block(w, x):
        return jnp.sin(checkpoint_name(jnp.tanh(x @ w), "hidden"))

    return lambda params, x: jnp.sum(block(params[1], block(params[0], x)) ** 2)


@case()
def checkpoint_saving_products(draw):
    f = named_blocks(jax.checkpoint_policies.dots_saveable)
    return Call(f, [draw(3, 3), draw(3, 3)], draw(2, 3))


@case()
def checkpoint_saving_everything(draw):
    f = named_blocks(jax.checkpoint_policies.everything_saveable)
    return Call(f, [draw(3, 3), draw(3, 3)], draw(2, 3))


@case()
def checkpoint_saving_names(draw):
    f = named_blocks(jax.checkpoint_policies.save_only_these_names("hidden"))
    return Call(f, [draw(3, 3), draw(3, 3)], draw(2, 3))


@case()
def checkpoint_nested(draw):
    @partial(jax.checkpoint, static_argnums=(1,))
    def outer(x, power):
        return jax.checkpoint(jnp.sin)(x) ** power * jax.checkpoint(jax.jit(jnp.cos))(x)

    return Call(lambda x: jnp.sum(outer(x, 2) * outer(x, 3)), draw(3))


@case(straight_line=True)
def marked_values(draw):
    def f(params, x):
        hidden = checkpoint_name(jnp.tanh(x @ params[0]), "h1")
        hidden = checkpoint_name(jnp.tanh(hidden @ params[1]) + hidden, "h2")
        return jnp.sum((hidden @ params[2]) ** 2)

    return Call(f, [draw(3, 3), draw(3, 3), draw(3, 2)], draw(4, 3))


@case()
def marked_values_in_a_scan(draw):
    def f(w, xs):
        def step(h, x):
            return checkpoint_name(jnp.tanh(h @ w + x), "h"), h

        final, ys = jax.lax.scan(step, xs[0], xs)
        return jnp.sum(final * ys[-1])

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def custom_jvp(draw):
    @jax.custom_jvp
    def softened(x, y):
        return jnp.maximum(x, y)

    @softened.defjvp
    def _(primals, tangents):
        x, y = primals
        weight = jax.nn.sigmoid(4.0 * (x - y))
        return softened(x, y), weight * tangents[0] + (1 - weight) * tangents[1]

    return Call(lambda x, y: jnp.sum(softened(x * 2.0, jnp.sin(y)) ** 2), draw(3), draw(3))


@case()
def custom_jvp_nondiff_argnums(draw):
    @partial(jax.custom_jvp, nondiff_argnums=(0,))
    def apply(activation, x):
        return activation(x)

    @apply.defjvp
    def _(activation, primals, tangents):
        return apply(activation, *primals), 3.0 * tangents[0] * primals[0]

    return Call(lambda x: jnp.sum(apply(jnp.sin, x) * x), draw(3))


@case(argnums=(0, 1))
def custom_vjp(draw):
    @jax.custom_vjp
    def product(x, w):
        return x @ w

    def forward(x, w):
        return x @ w, (x, w)

    def backward(residuals, g):
        x, w = residuals
        return 2.0 * g @ w.T, -(x.T @ g)

    product.defvjp(forward, backward)
    return Call(lambda w, x: jnp.sum(jnp.tanh(product(x, w))), draw(3, 2), draw(4, 3))


@case()
def custom_vjp_nondiff_argnums(draw):
    @partial(jax.custom_vjp, nondiff_argnums=(0, 2))
    def scaled(activation, x, factor):
        return factor * activation(x)

    scaled.defvjp(
        lambda activation, x, factor: (factor * activation(x), x),
        lambda activation, factor, x, g: (g * jnp.sign(x) * factor,),
    )
    return Call(lambda x: jnp.sum(scaled(jnp.sin, x, 2.0) * x), draw(3))


@case()
def custom_vjp_with_integers_and_pytrees(draw):
    @jax.custom_vjp
    def lookup(params, index):
        return {"row": params["table"][index], "sum": jnp.sum(params["table"])}

    def forward(params, index):
        return lookup(params, index), (params["table"].shape, index)

    def backward(residuals, g):
        shape, index = residuals
        table = jnp.zeros(shape, g["row"].dtype).at[index].add(g["row"]) + g["sum"]
        return {"table": 0.5 * table}, None

    lookup.defvjp(forward, backward)

    def f(params, index):
        out = lookup(params, index)
        return jnp.sum(jnp.sin(out["row"])) * out["sum"]

    return Call(f, {"table": draw(4, 2)}, jnp.asarray([1, 1, 3]))


@case()
def custom_vjp_closing_over_constants(draw):
    scale, shift = np.asarray(draw(3)), draw(3)

    @jax.custom_vjp
    def gate(h):
        return h * scale + shift

    gate.defvjp(lambda h: (gate(h), h), lambda h, g: (g * scale * h + shift,))
    return Call(lambda w, x: jnp.sum(gate(x @ w) ** 2), draw(3, 3), draw(2, 3))


@case()
def custom_vjp_with_symbolic_zeros(draw):
    @jax.custom_vjp
    def both(x, y):
        return jnp.sin(x), y * y

    def forward(x, y):
        return both(x.value, y.value), (x.value, y.value)

    def backward(residuals, g):
        x, y = residuals
        first, second = (
            jnp.zeros_like(r) if isinstance(c, jax.custom_derivatives.SymbolicZero) else c
            for r, c in zip(residuals, g, strict=True)
        )
        return 2.0 * first * jnp.cos(x), second * y

    both.defvjp(forward, backward, symbolic_zeros=True)
    return Call(lambda x, y: jnp.sum(both(x, y)[0] * x), draw(3), draw(3))


@case()
def custom_vjp_inside_jit_and_checkpoint(draw):
    @jax.custom_vjp
    def clipped(x):
        return x

    clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.1, 0.1),))
    block = jax.checkpoint(jax.jit(lambda w, x: clipped(jnp.sin(x @ w))))
    return Call(lambda w, x: jnp.sum(block(w, block(w, x)) ** 2), draw(3, 3), draw(2, 3))


@case()
def custom_gradient(draw):
    @jax.custom_gradient
    def reversed_gradient(x):
        return jnp.sin(x), lambda g: -g * x

    return Call(lambda x: jnp.sum(reversed_gradient(x * 2.0) * x), draw(3))


@case()
def closure_convert(draw):
    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def evaluate(g, x, *consts):
        return g(x, *consts)

    def forward(g, x, *consts):
        return g(x, *consts), (x, consts)

    def backward(g, residuals, cotangent):
        x, consts = residuals
        return jax.vjp(g, x, *consts)[1](cotangent)

    evaluate.defvjp(forward, backward)

    def f(w, x):
        g, consts = jax.closure_convert(lambda x: jnp.tanh(x @ w), x)
        return jnp.sum(evaluate(g, x, *consts))

    return Call(f, draw(3, 3), draw(2, 3))


@case()
def custom_vmap(draw):
    @jax.custom_batching.custom_vmap
    def sine(x):
        return jnp.sin(x)

    @sine.def_vmap
    def _(axis_size, in_batched, x):
        return jnp.sin(x), in_batched[0]

    return Call(lambda x: jnp.sum(jax.vmap(lambda x: sine(x) * x)(x)), draw(3))


@case()
def vmap_inside(draw):
    def f(w, xs):
        per_sample = jax.vmap(lambda w, x: jnp.sum(jnp.tanh(x @ w)), in_axes=(None, 0))
        return jnp.mean(per_sample(w, xs)) + jnp.sum(jax.vmap(jnp.sin, 1, 0)(w))

    return Call(f, draw(3, 2), draw(4, 3))


@case()
def vmap_with_axis_name(draw):
    def f(w, xs):
        def normalised(x):
            h = x @ w
            mean = jax.lax.pmean(h, "batch")
            return (h - mean) * jax.lax.psum(jnp.sin(h), "batch")

        return jnp.sum(jax.vmap(normalised, axis_name="batch")(xs) ** 2)

    return Call(f, draw(3, 2), draw(4, 3))


@case()
def vmap_of_custom_derivatives(draw):
    @jax.custom_vjp
    def clipped(x):
        return jax.nn.relu(x)

    clipped.defvjp(lambda x: (clipped(x), x), lambda x, g: (g * jnp.sin(x),))

    def f(w, xs):
        return jnp.sum(jax.vmap(lambda x: jax.checkpoint(clipped)(x @ w))(xs))

    return Call(f, draw(3, 2), draw(4, 3))


@case()
def grad_inside(draw):
    def f(w, x):
        penalty = jax.grad(lambda x: jnp.sum(jnp.tanh(x @ w)))(x)
        return jnp.sum(penalty**2)

    return Call(f, draw(3, 2), draw(4, 3))


@case()
def inner_training_loop(draw):
    def f(w, xs, ys):
        def inner(w):
            return jnp.mean((jnp.tanh(xs @ w) - ys) ** 2)

        for _ in range(2):
            w = w - 0.1 * jax.grad(inner)(w)
        return inner(w)

    return Call(f, draw(3, 2), draw(4, 3), draw(4, 2))


@case()
def jvp_and_linearize_inside(draw):
    def f(w, x):
        value, tangent = jax.jvp(lambda x: jnp.sin(x @ w), (x,), (jnp.ones_like(x),))
        _, linear = jax.linearize(lambda w: jnp.tanh(w), w)
        return jnp.sum(value * tangent) + jnp.sum(linear(w))

    return Call(f, draw(3, 2), draw(4, 3))


@case()
def jacobian_inside(draw):
    def f(w, x):
        return jnp.sum(jax.jacfwd(lambda x: jnp.sin(x @ w))(x) ** 2) + jnp.sum(
            jax.jacrev(lambda x: jnp.tanh(x @ w))(x) ** 2
        )

    return Call(f, draw(3, 2), draw(3))


@case()
def callback_on_data(draw):
    def f(w, x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jnp.sum(w * jax.pure_callback(np.sort, shape, x))

    return Call(f, draw(3), draw(3))


@case()
def callback_on_stopped_values(draw):
    def f(w):
        shape = jax.ShapeDtypeStruct(w.shape, w.dtype)
        return jnp.sum(w * jax.pure_callback(np.sin, shape, jax.lax.stop_gradient(w)))

    return Call(f, draw(3))


@case()
def callback_with_its_own_derivative(draw):
    @jax.custom_vjp
    def sine(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    sine.defvjp(lambda x: (sine(x), x), lambda x, g: (g * jnp.cos(x),))
    return Call(lambda x: jnp.sum(sine(x) * x), draw(3))


@case()
def debug_print(draw):
    def f(x):
        y = jnp.sin(x)
        jax.debug.print("mean {mean}", mean=jnp.mean(y))
        return jnp.sum(y * x)

    return Call(f, draw(3))


@case()
def debug_callback_in_a_scan(draw):
    def f(w, xs):
        def step(h, x):
            jax.debug.callback(lambda h: None, h)
            return jnp.tanh(h @ w + x), None

        return jnp.sum(jax.lax.scan(step, xs[0], xs)[0])

    return Call(f, draw(3, 3), draw(3, 3))
