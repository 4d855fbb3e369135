"""Elementwise functions, reductions, products, convolutions; kinks and their subgradients."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import Call, case


@case(straight_line=True)
def polynomial(draw):
    return Call(lambda x: jnp.sum(3.0 * x**4 - 2.0 * x**3 + x - 1.0), draw(4))


@case()
def elementary_functions(draw):
    def f(x):
        smooth = jnp.sin(x) + jnp.cos(x) * jnp.tan(x) + jnp.exp(x) + jnp.log(x) + jnp.sqrt(x)
        rest = lax.rsqrt(x) + lax.cbrt(x) + jnp.tanh(x) + jnp.arctan(x) + jnp.expm1(x)
        return jnp.sum(smooth * rest + jnp.log1p(x) * jnp.arcsinh(x))

    return Call(f, draw.positive(4))


@case(argnums=(0, 1), straight_line=True)
def two_argument_functions(draw):
    def f(x, y):
        return jnp.sum(x**y + jnp.arctan2(x, y) + jnp.hypot(x, y) + x / y + jnp.logaddexp(x, y))

    return Call(f, draw.positive(4), draw.positive(4))


@case()
def special_functions(draw):
    def f(x):
        special = lax.lgamma(x) + lax.digamma(x) + lax.erf(x) + lax.erfc(x) * lax.erf_inv(x / 3)
        return jnp.sum(special * lax.bessel_i1e(x) + jnp.sinc(x))

    return Call(f, draw.positive(4))


@case(argnums=(0, 1), straight_line=True)
def broadcasting(draw):
    return Call(lambda x, y: jnp.sum(jnp.sin(x[:, None] * y[None, :] + x.mean())), draw(3), draw(2))


@case(straight_line=True)
def wiring(draw):
    def f(x):
        y = jnp.flip(x.reshape(3, 4).T, axis=0)
        y = jnp.concatenate([y, y[:2] * 2.0, jnp.pad(y, ((1, 0), (0, 1)))[:, :3]], axis=0)
        y = jnp.squeeze(jnp.expand_dims(jnp.broadcast_to(y, (2, *y.shape)), 1))
        return jnp.sum(jnp.sin(y[:, ::2]) * y[:, ::2])

    return Call(f, draw(12))


@case(straight_line=True)
def stack_and_split(draw):
    def f(x):
        first, second = jnp.split(jnp.stack([x, jnp.sin(x)]), 2)
        left, right = lax.split(first, (1, 2), axis=1)
        return jnp.sum(first * second) + jnp.sum(left) * jnp.sum(right)

    return Call(f, draw(3))


@case()
def reductions(draw):
    def f(x):
        return jnp.sum(x) * jnp.mean(x**2) + jnp.prod(x, axis=0).sum() + jnp.var(x) + jnp.std(x)

    return Call(f, draw(3, 2))


@case()
def extrema(draw):
    def f(x):
        return jnp.max(x) * jnp.min(x) + jnp.sum(jnp.max(x, axis=0)) + jnp.ptp(x)

    return Call(f, draw(3, 4))


@case(has_aux=True)
def argmax_in_aux(draw):
    return Call(lambda x: (jnp.sum(x * x), jnp.argmax(x, axis=1)), draw(3, 4))


@case()
def matrix_norm(draw):
    return Call(lambda x: jnp.linalg.norm(x) + jnp.sum(jnp.linalg.norm(x, axis=1)), draw(3, 2))


@case()
def softmax_cross_entropy(draw):
    def f(w, x, y):
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(x @ w) * jax.nn.softmax(y), axis=-1))

    return Call(f, draw(3, 4), draw(2, 3), draw(2, 4))


@case()
def logsumexp_with_large_values(draw):
    def f(x):
        return jnp.sum(jax.scipy.special.logsumexp(x, axis=-1)) + jax.nn.logsumexp(x, where=x < 1e3)

    return Call(f, jnp.asarray([[1e4, 1e4 - 1.0], [-1e4, 0.5]], draw.dtype))


@case()
def logsumexp_of_minus_infinity(draw):
    def f(x):
        masked = jnp.where(jnp.asarray([True, False, True]), x, -jnp.inf)
        return jax.nn.logsumexp(masked) + jnp.sum(jax.nn.softmax(masked) ** 2)

    return Call(f, draw(3))


@case()
def activations(draw):
    def f(x):
        gated = jax.nn.gelu(x) * jax.nn.silu(x) + jax.nn.softplus(x) * jax.nn.elu(x)
        rest = jax.nn.leaky_relu(x) + jax.nn.selu(x) + jax.nn.hard_tanh(x) + jax.nn.relu6(x)
        return jnp.sum(
            gated + rest + jax.nn.gelu(x, approximate=False) + jax.nn.glu(x, axis=0).sum()
        )

    return Call(f, draw(6))


@case()
def relu_at_zero(draw):
    return Call(
        lambda x: jnp.sum(jax.nn.relu(x) * jnp.arange(1.0, 5.0)),
        jnp.asarray([0.0, -1.0, 2.0, -0.0], draw.dtype),
    )


@case(straight_line=True)
def maximum_ties(draw):
    def f(x, y):
        return jnp.sum(jnp.maximum(x, y) * 3.0 + jnp.minimum(x, 0.0) ** 2 + jnp.maximum(x, x))

    return Call(f, jnp.asarray([0.0, 1.0, -2.0], draw.dtype), jnp.asarray([0.0, 1.0, 5.0]))


@case()
def reduction_ties(draw):
    def f(x):
        return jnp.max(x) + 2.0 * jnp.min(x) + jnp.median(x) + jnp.sort(x)[1]

    return Call(f, jnp.asarray([1.0, 2.0, 2.0, 1.0, 2.0], draw.dtype))


@case(straight_line=True)
def abs_at_zero(draw):
    return Call(
        lambda x: jnp.sum(jnp.abs(x) * jnp.arange(1.0, 4.0)),
        jnp.asarray([0.0, -1.0, 2.0], draw.dtype),
    )


@case()
def clip_at_its_bounds(draw):
    return Call(
        lambda x: jnp.sum(jnp.clip(x, 0.0, 1.0) ** 2 + lax.clamp(jnp.zeros_like(x), x, 2.0 + x)),
        jnp.asarray([-1.0, 0.0, 0.5, 1.0, 2.0], draw.dtype),
    )


@case()
def where_nan_in_the_untaken_branch(draw):
    def f(x):
        safe = jnp.where(x > 0, x, 1.0)
        return jnp.sum(jnp.where(x > 0, jnp.log(safe) * jnp.sqrt(safe), x * 2.0))

    return Call(f, jnp.asarray([-1.0, 0.0, 2.0], draw.dtype))


@case()
def where_nan_reaches_the_gradient(draw):
    return Call(
        lambda x: jnp.sum(jnp.where(x > 0, jnp.log(x), 0.0)),
        jnp.asarray([0.0, 2.0, 1.0], draw.dtype),
    )


@case()
def select_of_several(draw):
    def f(x, which):
        return jnp.sum(
            lax.select_n(which, jnp.sin(x), x * x, jnp.exp(x))
            + jnp.select([x < -1, x < 1], [x, x**3], jnp.cos(x))
        )

    return Call(f, draw(4), draw.integers(3, 4))


@case()
def sort_and_argsort(draw):
    def f(x, y):
        by_key = lax.sort((x, y), num_keys=1)[1]
        return jnp.sum(jnp.sort(x) * jnp.arange(5.0)) + jnp.sum(by_key * x[jnp.argsort(y)])

    return Call(f, draw(5), draw(5))


@case()
def top_k(draw):
    def f(x):
        values, indices = lax.top_k(x, 2)
        return jnp.sum(values**2 * (1 + indices))

    return Call(f, draw(3, 5))


@case()
def cumulative(draw):
    def f(x):
        sums = jnp.cumsum(x, axis=0) * lax.cumlogsumexp(x, axis=0, reverse=True)
        return jnp.sum(sums + jnp.cumprod(x, axis=0) + lax.cummax(x) * lax.cummin(x))

    return Call(f, draw(4, 2))


@case()
def einsum(draw):
    def f(q, k, v):
        weights = jnp.einsum("bqhd,bkhd->bhqk", q, k)
        return jnp.sum(jnp.einsum("bhqk,bkhd->bqhd", jnp.tanh(weights), v) ** 2)

    return Call(f, draw(2, 3, 2, 2), draw(2, 3, 2, 2), draw(2, 3, 2, 2))


@case(argnums=(0, 1), straight_line=True)
def batched_products(draw):
    def f(x, y):
        product = lax.dot_general(x, y, (((2,), (1,)), ((0,), (0,))))
        return jnp.sum(jnp.vdot(x, x) + jnp.tensordot(product, product, 3) + jnp.outer(x, y).sum())

    return Call(f, draw(2, 3, 2), draw(2, 2, 3))


@case(argnums=(0, 1), straight_line=True)
def convolution(draw):
    def f(kernel, x):
        return jnp.sum(jnp.tanh(lax.conv(x, kernel, (1, 1), "SAME")) ** 2)

    return Call(f, draw(3, 2, 3, 3), draw(2, 2, 5, 5))


@case(argnums=(0, 1), straight_line=True)
def convolution_strided_dilated_grouped(draw):
    def f(kernel, x):
        y = lax.conv_general_dilated(
            x, kernel, (2, 1), ((1, 2), (0, 1)), (1, 2), (2, 1), feature_group_count=2
        )
        return jnp.sum(y**2)

    return Call(f, draw(4, 1, 2, 2), draw(2, 2, 5, 4))


@case(argnums=(0, 1), straight_line=True)
def convolution_transposed(draw):
    def f(kernel, x):
        return jnp.sum(jnp.sin(lax.conv_transpose(x, kernel, (2,), "SAME")))

    return Call(f, draw(3, 2, 2), draw(2, 4, 2))


@case(straight_line=True)
def max_pool(draw):
    def f(x):
        y = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2), (1, 2, 2), "VALID")
        return jnp.sum(y**2)

    return Call(f, draw(2, 4, 4))


@case(straight_line=True)
def max_pool_ties(draw):
    def f(x):
        y = lax.reduce_window(jnp.round(x) * x[0, 0], -jnp.inf, lax.max, (2, 2), (1, 1), "SAME")
        return jnp.sum(y)

    return Call(f, draw(4, 4))


@case(straight_line=True)
def average_pool(draw):
    def f(x):
        y = lax.reduce_window(x, 0.0, lax.add, (2, 2), (2, 1), "SAME") / 4.0
        return jnp.sum(y**3)

    return Call(f, draw(4, 3))


@case()
def fourier(draw):
    def f(x):
        spectrum = jnp.fft.rfft(x)
        filtered = jnp.fft.irfft(spectrum * jnp.arange(1.0, 6.0))
        return jnp.sum(jnp.abs(spectrum) ** 2) + jnp.sum(filtered * jnp.real(jnp.fft.ifft(x)))

    return Call(f, draw(8))


@case()
def batch_norm_in_training_mode(draw):
    def f(params, x):
        for w, scale, shift in params:
            x = x @ w
            x = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-3) * scale + shift
            x = jnp.tanh(x)
        return jnp.mean(x**2 * jnp.arange(3.0))

    return Call(f, [(draw(3, 3), draw.positive(3), draw(3)) for _ in range(2)], draw(6, 3))


@case()
def layer_norm(draw):
    def f(params, x):
        scale, shift = params
        centred = x - x.mean(-1, keepdims=True)
        y = centred * lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-3) * scale + shift
        return jnp.sum(jnp.sin(y))

    return Call(f, (draw(4), draw(4)), draw(3, 4))


@case(precision="float32")  # JAX computes its softmax in float32 whatever the arguments are
def dot_product_attention(draw):
    def f(qkv):
        q, k, v = jnp.split(qkv, 3, axis=-1)
        return jnp.sum(jax.nn.dot_product_attention(q, k, v, is_causal=True) ** 2)

    return Call(f, draw(1, 4, 2, 6))


@case(straight_line=True)
def optimization_barrier(draw):
    def f(x):
        y, z = lax.optimization_barrier((jnp.sin(x), x))
        return jnp.sum(y * z)

    return Call(f, draw(3))


@case(straight_line=True)
def named_scope(draw):
    def f(x):
        with jax.named_scope("outer"):
            y = jnp.sin(x)
            with jax.named_scope("inner"):
                return jnp.sum(y * x)

    return Call(f, draw(3))
