"""Gather and scatter in all the forms in which they are written."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import Call, case


@case()
def gather_rows(draw):
    return Call(lambda table, rows: jnp.sum(table[rows] ** 2), draw(5, 2), draw.integers(5, 7))


@case()
def gather_out_of_bounds(draw):
    def f(x, indices):
        filled = x.at[indices].get(mode="fill", fill_value=0.0)
        clipped = x.at[indices].get(mode="clip")
        return jnp.sum(filled**2 + jnp.sin(clipped) + jnp.take(x, indices, mode="wrap"))

    return Call(f, draw(4), jnp.asarray([0, 7, -1, 2]))


@case()
def take_along_axis(draw):
    return Call(
        lambda x, indices: jnp.sum(jnp.take_along_axis(x, indices, axis=1) ** 2),
        draw(3, 4),
        draw.integers(4, 3, 2),
    )


@case()
def advanced_indexing(draw):
    def f(x, rows):
        return jnp.sum(x[rows, :, 1] * x[:, -1, rows].T[..., :1]) + jnp.sum(x[..., None, ::2] ** 2)

    return Call(f, draw(3, 2, 3), draw.integers(3, 2))


@case(static=(1,))
def numpy_boolean_indexing(draw):
    return Call(lambda x, keep: jnp.sum(x[jnp.asarray(keep).nonzero(size=2)] ** 2), draw(3), (0, 2))


@case(argnums=(0, 1))
def at_set(draw):
    def f(x, y):
        z = jnp.sin(x).at[1:3].set(y * y).at[0].set(1.0)
        return jnp.sum(z * x)

    return Call(f, draw(5), draw(2))


@case(argnums=(0, 1))
def at_add_with_repeated_indices(draw):
    def f(x, y, indices):
        return jnp.sum(x.at[indices].add(y) ** 2)

    return Call(f, draw(3), draw(6), draw.integers(3, 6))


@case(argnums=(0, 1))
def at_multiply(draw):
    return Call(lambda x, y: jnp.sum(x.at[1].multiply(y) ** 2), draw(3), draw())


@case()
def at_apply_and_divide(draw):
    return Call(lambda x: jnp.sum(x.at[1].divide(3.0).at[2].power(2.0) * x), draw.positive(3))


@case(argnums=(0, 1))
def scatter_dropping_out_of_bounds(draw):
    def f(x, y):
        return jnp.sum(x.at[jnp.asarray([0, 9])].set(y, mode="drop") ** 2)

    return Call(f, draw(3), draw(2))


@case(argnums=(0, 1))
def dynamic_slice(draw):
    def f(x, y, start):
        window = lax.dynamic_slice(x, (start, 0), (2, 2))
        updated = lax.dynamic_update_slice(x, y * window, (start - 1, 1))
        return jnp.sum(updated**2) + jnp.sum(lax.dynamic_index_in_dim(x, start) * y[0])

    return Call(f, draw(4, 3), draw(2, 2)[:, :1], jnp.asarray(1))


@case()
def dynamic_slice_at_a_computed_position(draw):
    def f(x):
        return jnp.sum(lax.dynamic_slice(x, (jnp.argmax(x[:3]),), (2,)) ** 2)

    return Call(f, draw(5))


@case()
def segment_reductions(draw):
    def f(x, segments):
        sums = jax.ops.segment_sum(x, segments, num_segments=3)
        largest = jax.ops.segment_max(x, segments, num_segments=3)
        return jnp.sum(sums**2) + jnp.sum(jnp.where(jnp.isfinite(largest), largest, 0.0))

    return Call(f, draw(6), jnp.asarray([0, 0, 1, 1, 1, 0]))


@case()
def triangular_masks(draw):
    return Call(lambda x: jnp.sum(jnp.tril(x) @ jnp.triu(x, 1) + jnp.diag(jnp.diag(x))), draw(3, 3))


@case()
def roll_repeat_tile(draw):
    def f(x):
        return jnp.sum(jnp.roll(x, 1) * x) + jnp.sum(jnp.repeat(x, 2) * jnp.tile(jnp.sin(x), 2))

    return Call(f, draw(4))


@case()
def interpolation(draw):
    def f(points, table):
        return jnp.sum(jnp.interp(points, jnp.arange(4.0, dtype=table.dtype), table) ** 2)

    return Call(f, jnp.asarray([0.3, 1.7, 2.2], draw.dtype), draw(4))
