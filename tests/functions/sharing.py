"""The shape of the graph: values used several times, paths of unequal length, stopped branches."""

import jax
import jax.numpy as jnp

from .case import Call, case


@case(straight_line=True)
def x_times_x(draw):
    return Call(lambda x: jnp.sum(x * x), draw(3))


@case(straight_line=True)
def x_used_many_times(draw):
    return Call(lambda x: jnp.sum(x * x + x / (x * x + 1.0) - x), draw(3))


@case(straight_line=True)
def chain(draw):
    def f(params, x):
        for w in params:
            x = jnp.tanh(x @ w)
        return jnp.mean(x**2)

    return Call(f, [draw(3, 3) for _ in range(4)], draw(2, 3))


@case(straight_line=True)
def tied_weights(draw):
    def f(w, x):
        for _ in range(3):
            x = jnp.tanh(x @ w)
        return jnp.sum(x @ w.T)

    return Call(f, draw(3, 3), draw(2, 3))


@case(straight_line=True)
def tied_embedding(draw):
    def f(embedding, tokens):
        hidden = jnp.tanh(embedding[tokens])
        return jnp.sum((hidden @ embedding.T) ** 2)

    return Call(f, draw(5, 3), draw.integers(5, 4))


@case(straight_line=True)
def residual_blocks(draw):
    def f(params, x):
        for w in params:
            x = x + jnp.sin(x @ w)
        return jnp.sum(x**2)

    return Call(f, [draw(3, 3, scale=0.5) for _ in range(4)], draw(2, 3))


@case(straight_line=True)
def long_skip(draw):
    def f(params, x):
        hidden = x * params[0]
        skip = hidden
        for w in params[1:]:
            hidden = jnp.tanh(hidden * w)
        return jnp.sum(skip * hidden)

    return Call(f, [draw(3) for _ in range(6)], draw(3))


@case(straight_line=True)
def dense_connections(draw):
    def f(params, x):
        features = [x]
        for w in params:
            features.append(jnp.tanh(jnp.concatenate(features, axis=-1) @ w))
        return jnp.sum(jnp.concatenate(features, axis=-1) ** 2)

    return Call(f, [draw(3, 2), draw(5, 2), draw(7, 2)], draw(2, 3))


@case(straight_line=True)
def diamond(draw):
    def f(x):
        y = jnp.sin(x)
        left, right = jnp.exp(y), jnp.cos(jnp.tanh(y))
        return jnp.sum(left * right + y)

    return Call(f, draw(3))


@case(straight_line=True)
def parameter_at_every_depth(draw):
    def f(p, x):
        for _ in range(4):
            x = jnp.sin(x * p) + p
        return jnp.sum(x * p)

    return Call(f, draw(3), draw(3))


@case(straight_line=True)
def dead_computation(draw):
    def f(x):
        unused = jnp.exp(x) @ jnp.ones((3, 3), x.dtype)
        return jnp.sum(x**2) + 0 * len(unused)

    return Call(f, draw(3))


@case(straight_line=True)
def data_only_branch(draw):
    def f(w, x):
        statistics = jnp.sqrt(jnp.mean(x**2, axis=0) + 1.0)
        return jnp.sum(jnp.tanh(x / statistics @ w))

    return Call(f, draw(3, 2), draw(4, 3))


@case(straight_line=True)
def loss_of_data_plus_parameters(draw):
    return Call(lambda w, x: jnp.sum(jnp.sin(x)) + jnp.sum(w), draw(3), draw(4))


@case(straight_line=True)
def stop_gradient(draw):
    def f(x):
        return jnp.sum(jax.lax.stop_gradient(jnp.sin(x)) * x)

    return Call(f, draw(3))


@case(straight_line=True)
def stop_gradient_of_everything(draw):
    return Call(lambda x: jnp.sum(jax.lax.stop_gradient(x) ** 2), draw(3))


@case(straight_line=True)
def stopped_branch_with_infinite_slope(draw):
    def f(x):
        stopped = jax.lax.stop_gradient(jnp.sqrt(x - x))
        return jnp.sum(x * x) + jnp.sum(stopped)

    return Call(f, draw(3))


@case(straight_line=True)
def stopped_inside_infinite_slope(draw):
    def f(x):
        return jnp.sum(jnp.sqrt(jax.lax.stop_gradient(x - x)) * x)

    return Call(f, draw(3))


@case()
def integer_path_with_infinite_slope(draw):
    def f(x):
        rank = jnp.argsort(jnp.argsort(jnp.sqrt(jnp.abs(x))))
        return jnp.sum(x * rank)

    return Call(f, jnp.asarray([0.0, 2.0, 1.0], draw.dtype))


@case(straight_line=True)
def zero_gradient_path(draw):
    return Call(lambda x: jnp.sum(jnp.floor(x) * jnp.sign(x) + jnp.round(x)), draw(3))


@case(straight_line=True)
def straight_through(draw):
    def f(x):
        hard = jnp.round(x)
        return jnp.sum((x + jax.lax.stop_gradient(hard - x)) ** 2)

    return Call(f, draw(4))


@case()
def repeated_outputs_of_a_call(draw):
    @jax.jit
    def twice(x):
        y = jnp.sin(x)
        return y, y, x, 2.0, y

    def f(x):
        a, b, c, d, e = twice(x)
        return jnp.sum(a * b + c * d + e)

    return Call(f, draw(3))


@case()
def call_outputs_partly_unused(draw):
    @jax.jit
    def several(x, y):
        return jnp.sin(x) * y, jnp.cos(x), x, jnp.argmax(y)

    def f(x, y):
        used, _, same, _ = several(x, y)
        return jnp.sum(used + same)

    return Call(f, draw(3), draw(3))
