"""Random keys as arguments, closed over, split inside; dropout and sampling."""

import jax
import jax.numpy as jnp

from .case import Call, case


@case()
def typed_key(draw):
    def f(w, x, key):
        return jnp.sum(jnp.tanh(x @ w + jax.random.normal(key, (2,), w.dtype)))

    return Call(f, draw(3, 2), draw(4, 3), jax.random.key(1))


@case()
def raw_key(draw):
    def f(w, key):
        return jnp.sum(w * jax.random.uniform(key, w.shape, w.dtype))

    return Call(f, draw(3), jax.random.PRNGKey(2))


@case()
def closed_over_key(draw):
    key = jax.random.key(7)
    return Call(lambda w: jnp.sum(w**2 * jax.random.normal(key, w.shape, w.dtype)), draw(3))


@case()
def dropout(draw):
    def f(params, x, key):
        for w, layer_key in zip(params, jax.random.split(key, 2), strict=True):
            keep = jax.random.bernoulli(layer_key, 0.5, (4, 3))
            x = jnp.where(keep, jnp.tanh(x @ w) / 0.5, 0.0)
        return jnp.sum(x**2)

    return Call(f, [draw(3, 3), draw(3, 3)], draw(4, 3), jax.random.key(3))


@case(argnums=(0, 1))
def reparameterised_sampling(draw):
    def f(mean, log_scale, key):
        sample = mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape, mean.dtype)
        divergence = 0.5 * jnp.sum(jnp.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale)
        return jnp.sum(jnp.sin(sample)) + divergence

    return Call(f, draw(4), draw(4), jax.random.key(4))


@case()
def implicit_reparameterisation(draw):
    def f(shape, key):
        return jnp.sum(jax.random.gamma(key, shape, dtype=shape.dtype) ** 2)

    return Call(f, 1.0 + draw.positive(2), jax.random.key(5))


@case()
def gumbel_straight_through(draw):
    def f(logits, key):
        soft = jax.nn.softmax(logits + jax.random.gumbel(key, logits.shape, logits.dtype))
        hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), 4, dtype=soft.dtype)
        return jnp.sum((soft + jax.lax.stop_gradient(hard - soft)) * jnp.arange(4.0))

    return Call(f, draw(3, 4), jax.random.key(6))


@case()
def categorical_sample_as_index(draw):
    def f(logits, table, key):
        choice = jax.random.categorical(key, logits)
        return table[choice] * jax.nn.log_softmax(logits)[choice]

    return Call(f, draw(4), draw(4), jax.random.key(8))


@case()
def permutation_of_the_data(draw):
    def f(w, x, key):
        return jnp.sum(jnp.tanh(jax.random.permutation(key, x) @ w) * jnp.arange(4.0)[:, None])

    return Call(f, draw(3, 2), draw(4, 3), jax.random.key(9))


@case()
def noise_in_every_step_of_a_scan(draw):
    def f(w, key):
        def step(carry, step_key):
            carry = jnp.tanh(carry @ w + 0.1 * jax.random.normal(step_key, (2,), w.dtype))
            return carry, None

        final, _ = jax.lax.scan(step, jnp.ones(2, w.dtype), jax.random.split(key, 3))
        return jnp.sum(final)

    return Call(f, draw(2, 2), jax.random.key(10))


@case(has_aux=True)
def key_in_the_carry_of_a_scan(draw):
    def f(w, key):
        def step(carry, _):
            x, key = carry
            key, now = jax.random.split(key)
            return (jnp.sin(x * w) + jax.random.normal(now, x.shape, x.dtype), key), key

        (x, key), keys = jax.lax.scan(step, (w, key), length=3)
        return jnp.sum(x), (key, keys)

    return Call(f, draw(3), jax.random.key(11))
