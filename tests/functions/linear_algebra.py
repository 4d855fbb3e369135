"""Solves and decompositions, and iterative solvers with their own transposes."""

import jax
import jax.numpy as jnp
from jax import lax

from .case import Call, case


def positive_definite(x):
    return x @ x.T + 3.0 * jnp.eye(len(x), dtype=x.dtype)


@case(argnums=(0, 1))
def solve(draw):
    def f(a, b):
        return jnp.sum(jnp.linalg.solve(positive_definite(a), b) ** 2)

    return Call(f, draw(3, 3), draw(3, 2))


@case()
def cholesky(draw):
    return Call(lambda x: jnp.sum(jnp.linalg.cholesky(positive_definite(x)) ** 3), draw(3, 3))


@case(argnums=(0, 1))
def triangular_solve(draw):
    def f(a, b):
        factor = jnp.tril(positive_definite(a))
        forward = jax.scipy.linalg.solve_triangular(factor, b, lower=True)
        return jnp.sum(jax.scipy.linalg.solve_triangular(factor, forward, trans=1, lower=True) ** 2)

    return Call(f, draw(3, 3), draw(3, 2))


@case()
def inverse_and_determinant(draw):
    def f(x):
        matrix = positive_definite(x)
        return jnp.sum(jnp.linalg.inv(matrix)) + jnp.linalg.slogdet(matrix)[1]

    return Call(f, draw(3, 3))


@case()
def eigh(draw):
    def f(x):
        spread = positive_definite(x) + jnp.diag(jnp.arange(3.0, dtype=x.dtype) * 5)
        values, vectors = jnp.linalg.eigh(spread)
        return jnp.sum(values**2) + jnp.sum(vectors[:, 0] ** 4)

    return Call(f, draw(3, 3))


@case()
def svd(draw):
    def f(x):
        u, s, vt = jnp.linalg.svd(x + jnp.diag(jnp.arange(3.0, dtype=x.dtype) * 5))
        return jnp.sum(s**2 * jnp.arange(1.0, 4.0)) + jnp.sum((u * vt.T) ** 2)

    return Call(f, draw(3, 3))


@case()
def qr(draw):
    def f(x):
        q, r = jnp.linalg.qr(x + 3.0 * jnp.eye(3, dtype=x.dtype))
        return jnp.sum(q**3) + jnp.sum(jnp.sin(r))

    return Call(f, draw(3, 3))


@case()
def matrix_exponential(draw):
    return Call(lambda x: jnp.sum(jax.scipy.linalg.expm(x)), draw(3, 3, scale=0.3))


@case()
def conjugate_gradients(draw):
    def f(a, b):
        matrix = positive_definite(a)
        solution, _ = jax.scipy.sparse.linalg.cg(lambda v: matrix @ v, b, maxiter=10)
        return jnp.sum(solution**2)

    return Call(f, draw(3, 3), draw(3))


@case(argnums=(0, 1))
def custom_linear_solve(draw):
    def f(a, b):
        matrix = positive_definite(a)
        solution = lax.custom_linear_solve(
            lambda v: matrix @ v,
            b,
            solve=lambda _, v: jnp.linalg.solve(matrix, v),
            transpose_solve=lambda _, v: jnp.linalg.solve(matrix.T, v),
        )
        return jnp.sum(jnp.sin(solution))

    return Call(f, draw(3, 3), draw(3))


@case()
def custom_root(draw):
    def f(a):
        return lax.custom_root(
            lambda x: x**3 + x - a,
            jnp.ones_like(a),
            lambda g, x: lax.fori_loop(0, 30, lambda _, x: x - g(x) / (3 * x**2 + 1), x),
            lambda g, y: y / g(jnp.ones_like(y)),
        )

    return Call(f, draw.positive())


@case()
def tridiagonal_solve(draw):
    def f(lower, b):
        return jnp.sum(lax.linalg.tridiagonal_solve(lower, 4 + lower, lower, b) ** 2)

    return Call(f, draw(4, scale=0.2), draw(4, 1))
