"""``scan`` in every form, ``fori_loop``, ``while_loop`` on data, ``associative_scan``, ``map``."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import Call, case


def cell(w, h, x):
    return jnp.tanh(h @ w + x)


@case(argnums=(0, 1, 2))
def scan_recurrent(draw):
    def f(w, h, xs):
        final, _ = lax.scan(lambda h, x: (cell(w, h, x), None), h, xs)
        return jnp.sum(final**2)

    return Call(f, draw(3, 3), draw(2, 3), draw(4, 2, 3))


@case(argnums=(0, 1))
def scan_reverse(draw):
    def f(w, xs):
        h = jnp.zeros(3, w.dtype)
        final, ys = lax.scan(lambda h, x: (cell(w, h, x), h * x), h, xs, reverse=True)
        return jnp.sum(final) + jnp.sum(ys**2 * jnp.arange(4.0)[:, None])

    return Call(f, draw(3, 3), draw(4, 3))


@case(argnums=(0, 1))
def scan_carry_and_ys(draw):
    def f(w, xs):
        final, ys = lax.scan(lambda h, x: (cell(w, h, x), jnp.sin(h) * x), xs[0], xs)
        return jnp.sum(final * ys[-1]) + jnp.sum(ys**2)

    return Call(f, draw(3, 3), draw(4, 3))


@case(argnums=(0, 1))
def scan_ys_only(draw):
    def f(w, xs):
        _, ys = lax.scan(lambda _, x: (None, jnp.tanh(x @ w)), None, xs)
        return jnp.sum(ys**2)

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def scan_ys_of_an_unused_carry(draw):
    def f(w, xs):
        _, ys = lax.scan(lambda h, x: (cell(w, h, x), h), xs[0], xs)
        return jnp.sum(ys[1:] * xs[1:])

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def scan_carried_parameters(draw):
    def f(w, xs):
        def step(carry, x):
            w, h = carry
            return (w, cell(w, h, x)), None

        (w, h), _ = lax.scan(step, (w, xs[0]), xs)
        return jnp.sum(h @ w)

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def scan_changing_parameters(draw):
    def f(w, xs):
        def step(carry, x):
            w, h = carry
            h = cell(w, h, x)
            return (w - 0.1 * jnp.outer(h, x), h), None

        (w, h), _ = lax.scan(step, (w, xs[0]), xs)
        return jnp.sum(w**2) + jnp.sum(h)

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def scan_integer_carry(draw):
    def f(w, xs):
        def step(carry, x):
            count, h, flag = carry
            h = jnp.where(flag, cell(w, h, x), h * w[count % 3])
            return (count + 1, h, ~flag), count

        (count, h, _), counts = lax.scan(step, (0, xs[0], True), xs)
        return jnp.sum(h * count) + jnp.sum(counts) * h[0]

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def scan_length_only(draw):
    def f(x):
        final, _ = lax.scan(lambda x, _: (jnp.sin(x) * x + 1.0, None), x, length=3)
        return jnp.sum(final)

    return Call(f, draw(3))


@case(argnums=(0, 1))
def scan_xs_none(draw):
    def f(w, x):
        return jnp.sum(lax.scan(lambda h, _: (jnp.tanh(h @ w), h), x, None, 3)[1])

    return Call(f, draw(3, 3), draw(3))


@case()
def scan_length_zero(draw):
    def f(w, x, xs):
        final, ys = lax.scan(lambda h, x: (cell(w, h, x), h), x @ w, xs)
        return jnp.sum(final**2) + jnp.sum(ys)

    return Call(f, draw(3, 3), draw(3), jnp.zeros((0, 3), draw.dtype))


@case(argnums=(0, 1))
def scan_length_one(draw):
    def f(w, xs):
        return jnp.sum(lax.scan(lambda h, x: (cell(w, h, x), h + x), xs[0], xs)[0])

    return Call(f, draw(3, 3), draw(1, 3))


@case()
def scan_carry_partly_differentiated(draw):
    def f(w, xs):
        def step(carry, x):
            h, running_mean = carry
            return (cell(w, h, x) - running_mean, 0.9 * running_mean + 0.1 * x), running_mean

        (h, _), means = lax.scan(step, (xs[0], jnp.zeros(3, w.dtype)), xs)
        return jnp.sum(h) + jnp.sum(means)

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def scan_carry_differentiated_from_the_second_step(draw):
    def f(w, xs):
        def step(carry, x):
            first, second, third = carry
            return (w * x, first * 2.0, jnp.sin(second)), third

        zeros = jnp.zeros(3, w.dtype)
        (first, _, _), thirds = lax.scan(step, (zeros, zeros, zeros), xs)
        return jnp.sum(thirds**2) + jnp.sum(first)

    return Call(f, draw(3), draw(5, 3))


@case()
def scan_stopped_carry(draw):
    def f(w, xs):
        def step(carry, x):
            h, target = carry
            h = cell(w, h, x)
            return (h, lax.stop_gradient(0.5 * target + 0.5 * h)), jnp.sum((h - target) ** 2)

        _, losses = lax.scan(step, (xs[0], xs[0]), xs)
        return jnp.sum(losses)

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def scan_loop_invariant_weights(draw):
    def f(w, xs):
        def step(h, x):
            normalised = w / jnp.sqrt(jnp.sum(w**2, axis=0))
            return jnp.tanh(h @ normalised + jnp.sin(w[0]) * x), None

        return jnp.sum(lax.scan(step, xs[0], xs)[0])

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def scan_loop_invariant_data(draw):
    def f(w, x, xs):
        def step(h, inner):
            return cell(w, h, inner * jnp.exp(-jnp.sum(x**2))), None

        return jnp.sum(lax.scan(step, x, xs)[0])

    return Call(f, draw(3, 3), draw(3), draw(4, 3))


@case()
def scan_over_stacked_layers(draw):
    def f(layers, x):
        def layer(x, parameters):
            return x + jnp.tanh(x @ parameters["w"] + parameters["b"]), None

        return jnp.mean(lax.scan(layer, x, layers)[0] ** 2)

    return Call(f, {"w": draw(4, 3, 3, scale=0.5), "b": draw(4, 3)}, draw(2, 3))


@case(argnums=(0, 1))
def scan_unrolled(draw):
    def f(w, xs):
        final, ys = lax.scan(lambda h, x: (cell(w, h, x), h), xs[0], xs, unroll=2)
        return jnp.sum(final) + jnp.sum(ys**2)

    return Call(f, draw(3, 3), draw(5, 3))


@case()
def scan_nested(draw):
    def f(w, xs):
        def outer(h, rows):
            inner, ys = lax.scan(lambda h, x: (cell(w, h, x), h * x), h, rows)
            return inner * w[0], jnp.sum(ys, axis=0)

        final, ys = lax.scan(outer, xs[0, 0], xs)
        return jnp.sum(final) + jnp.sum(ys**2)

    return Call(f, draw(3, 3), draw(2, 3, 3))


@case()
def scan_nested_in_opposite_directions(draw):
    def f(w, xs):
        def outer(h, rows):
            _, ys = lax.scan(lambda h, x: (cell(w, h, x), h), h, rows, reverse=True)
            final, _ = lax.scan(lambda h, y: (h * jnp.sin(y), None), h, ys)
            return final, ys

        final, ys = lax.scan(outer, xs[0, 0], xs)
        return jnp.sum(final) + jnp.sum(ys)

    return Call(f, draw(3, 3), draw(2, 3, 3))


@case()
def scans_in_sequence(draw):
    def f(w, xs):
        _, forwards = lax.scan(lambda h, x: (cell(w, h, x),) * 2, xs[0], xs)
        _, backwards = lax.scan(lambda h, x: (cell(w.T, h, x),) * 2, xs[0], forwards, reverse=True)
        return jnp.sum(forwards * backwards)

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def scan_with_branch(draw):
    def f(w, xs):
        def step(h, x):
            h = lax.cond(jnp.sum(x) > 0, lambda h: cell(w, h, x), lambda h: h * w[0], h)
            return h, lax.switch(jnp.argmax(x), [jnp.sin, lambda h: h @ w, jnp.zeros_like], h)

        final, ys = lax.scan(step, xs[0], xs)
        return jnp.sum(final) + jnp.sum(ys**2)

    return Call(f, draw(3, 3), draw(5, 3))


@case()
def scan_with_checkpoint(draw):
    def f(w, xs):
        @jax.checkpoint
        def step(h, x):
            return jnp.tanh(jnp.sin(h @ w) + x), h

        final, ys = lax.scan(step, xs[0], xs)
        return jnp.sum(final) + jnp.sum(ys)

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def checkpoint_of_scan(draw):
    @jax.checkpoint
    def run(w, xs):
        return lax.scan(lambda h, x: (cell(w, h, x), h), xs[0], xs)

    def f(w, xs):
        final, ys = run(w, xs)
        return jnp.sum(final) + jnp.sum(ys**2)

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def scan_with_custom_derivatives(draw):
    @jax.custom_vjp
    def clipped(x):
        return x

    clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -0.5, 0.5),))

    def f(w, xs):
        return jnp.sum(
            lax.scan(lambda h, x: (clipped(jax.nn.relu(cell(w, h, x))), h), xs[0], xs)[1]
        )

    return Call(f, draw(3, 3), draw(4, 3))


@case()
def scan_body_returns_its_input(draw):
    def f(w, xs):
        def step(carry, x):
            a, b = carry
            return (b, a), (x, a, 1.0)

        (a, b), (ys, sums, ones) = lax.scan(step, (w, w * 2.0), xs)
        return jnp.sum(a * jnp.sin(b)) + jnp.sum(ys * sums) + jnp.sum(ones)

    return Call(f, draw(3), draw(3, 3))


@case()
def scan_half_precision_carry(draw):
    def f(w, xs):
        def step(h, x):
            return cell(w, h.astype(w.dtype), x).astype(jnp.float16), h

        final, _ = lax.scan(step, xs[0].astype(jnp.float16), xs)
        return jnp.sum(final.astype(w.dtype))

    return Call(f, draw(3, 3), draw(4, 3))


@case(argnums=(0, 1))
def scan_gather_in_body(draw):
    def f(table, w, tokens):
        def step(h, token):
            h = cell(w, h, table[token])
            return h, h @ table.T

        _, logits = lax.scan(step, jnp.zeros(3, w.dtype), tokens)
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), tokens])

    return Call(f, draw(5, 3), draw(3, 3), draw.integers(5, 4))


@case()
def fori_loop_static(draw):
    def f(w, x):
        return jnp.sum(lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ w) * (1 + i), x))

    return Call(f, draw(3, 3), draw(2, 3))


@case()
def fori_loop_indexing_its_layers(draw):
    def f(layers, x):
        return jnp.sum(lax.fori_loop(0, 3, lambda i, h: h + jnp.sin(h @ layers[i]), x))

    return Call(f, draw(3, 2, 2), draw(2))


@case()
def fori_loop_writing_its_carry(draw):
    def f(x):
        def step(i, y):
            return y.at[i].set(jnp.sin(y[i - 1]) * x[i])

        return jnp.sum(lax.fori_loop(1, 4, step, x) ** 2)

    return Call(f, draw(4))


@case()
def while_loop_on_data(draw):
    def f(w, x):
        scaled = lax.while_loop(lambda x: jnp.sum(x**2) > 1.0, lambda x: 0.7 * x, x)
        return jnp.sum(jnp.tanh(scaled @ w))

    return Call(f, draw(3, 2), 3.0 + draw(3))


@case()
def while_loop_on_stopped_parameters(draw):
    def f(w):
        def halve(state):
            steps, value = state
            return steps + 1, value / 2

        stopped = lax.stop_gradient(jnp.sum(w**2)) + 3.0
        steps, scale = lax.while_loop(lambda state: state[1] > 0.5, halve, (0, stopped))
        return jnp.sum(w**2) * scale * steps

    return Call(f, draw(3))


@case()
def while_loop_inside_a_scan(draw):
    def f(w, xs):
        def step(h, x):
            scaled = lax.while_loop(lambda x: jnp.sum(x**2) > 0.5, lambda x: 0.7 * x, x)
            return cell(w, h, scaled), None

        return jnp.sum(lax.scan(step, xs[0], xs)[0])

    return Call(f, draw(3, 3), draw(3, 3))


@case()
def fori_loop_dynamic_on_data(draw):
    def f(w, x, n):
        return jnp.sum(lax.fori_loop(0, n, lambda i, x: 0.5 * x + i, x) * w)

    return Call(f, draw(3), draw(3), jnp.asarray(3))


@case(argnums=(0, 1))
def associative_scan(draw):
    def f(a, b):
        def combine(left, right):
            return left[0] * right[0], left[1] * right[0] + right[1]

        return jnp.sum(lax.associative_scan(combine, (jax.nn.sigmoid(a), b))[1] ** 2)

    return Call(f, draw(5, 2), draw(5, 2))


@case()
def map_over_a_batch(draw):
    def f(w, xs):
        return jnp.sum(lax.map(lambda x: jnp.tanh(x @ w), xs, batch_size=2) ** 2)

    return Call(f, draw(3, 2), draw(5, 3))


@case()
def vmap_of_scan(draw):
    def f(w, xs):
        def run(xs):
            final, ys = lax.scan(lambda h, x: (cell(w, h, x), h), xs[0], xs)
            return jnp.sum(final) + jnp.sum(ys**2)

        return jnp.mean(jax.vmap(run)(xs))

    return Call(f, draw(3, 3), draw(2, 4, 3))


@case()
def vmap_of_scan_over_parameters(draw):
    def f(ws, xs):
        def run(w):
            return jnp.sum(lax.scan(lambda h, x: (cell(w, h, x), h), xs[0], xs)[0])

        return jnp.sum(jax.vmap(run)(ws) ** 2)

    return Call(f, draw(2, 3, 3), draw(4, 3))


@case()
def vmap_of_fori_loop_and_associative_scan(draw):
    def f(w, xs):
        def run(x):
            h = lax.fori_loop(0, 2, lambda _, h: jnp.tanh(h @ w), x)
            return jnp.sum(lax.associative_scan(jnp.multiply, h))

        return jnp.sum(jax.vmap(run)(xs))

    return Call(f, draw(3, 3), draw(2, 3))


@case()
def scan_of_vmap(draw):
    def f(w, xs):
        step = jax.vmap(lambda h, x: cell(w, h, x))
        return jnp.sum(lax.scan(lambda h, x: (step(h, x), None), xs[0], xs)[0])

    return Call(f, draw(3, 3), draw(4, 2, 3))


@case()
def python_loop_over_scan_outputs(draw):
    def f(w, xs):
        total, h = 0.0, xs[0]
        for _ in range(2):
            h, ys = lax.scan(lambda h, x: (cell(w, h, x), h), h, xs)
            total = total + jnp.sum(ys[-1])
        return total + jnp.sum(h)

    return Call(f, draw(3, 3), draw(3, 3))
