"""Random programs, built by hypothesis, against ``jax.grad`` in float64.

Every value of a program has shape (2, 3) and stays between -2 and 2, so that programs of any
length are well conditioned. Kinks are shifted away from the values that programs produce exactly
(zeros, ties), because there one rounding error decides between two subgradients.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import localgrad as lg

SHAPE = (2, 3)
SHIFT = np.asarray([[0.31, -0.47, 0.73], [-0.83, 0.59, -0.19]])
MASK = SHIFT > 0
RELATIVE, ABSOLUTE = 1e-12, 1e-14
"""Gradients that cancel keep the rounding error of their terms, which are of order one."""


@jax.custom_jvp
def cube(x):
    return x**3 / 4


cube.defjvp(lambda primals, tangents: (cube(*primals), primals[0] ** 2 * tangents[0]))


@jax.custom_vjp
def clipped(x):
    return jnp.sin(x)


clipped.defvjp(lambda x: (clipped(x), x), lambda x, g: (jnp.cos(x) * jnp.clip(g, -5.0, 5.0),))

UNARY = {
    "sin": jnp.sin,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": lambda a: jax.nn.softplus(a) / 2,
    "square": lambda a: a * a / 2,
    "relu": lambda a: jax.nn.relu(a + SHIFT) / 2,
    "abs": lambda a: jnp.abs(a + SHIFT) / 2,
    "centre": lambda a: (a - jnp.mean(a, axis=0)) / 2,
    "normalise": lambda a: a / jnp.sqrt(1.0 + jnp.sum(a**2, axis=1, keepdims=True)),
    "softmax": lambda a: jax.nn.softmax(a, axis=1),
    "logsumexp": lambda a: a / 4 + jax.nn.logsumexp(a, axis=1, keepdims=True) / 4,
    "maximum": lambda a: (a + jnp.max(a + SHIFT, axis=0)) / 3,
    "sort": lambda a: jnp.sort(a + 0.7 * SHIFT, axis=1) / 2,
    "cumsum": lambda a: jnp.cumsum(a, axis=1) / 3,
    "gram": lambda a: a @ a.T @ a / 24,
    "roll": lambda a: jnp.concatenate([a[:, 1:], a[:, :1]], axis=1),
    "gather": lambda a: a[jnp.asarray([1, 1]), :] / 2 + a[:, jnp.asarray([2, 0, 2])] / 2,
    "stop": lax.stop_gradient,
    "mark": lambda a: lg.vertex(a, "marked"),
    "cube": cube,
    "clipped": clipped,
    "vmap": lambda a: jax.vmap(lambda row: jnp.sin(row) * jnp.mean(row), 1, 1)(a) / 2,
}
BINARY = {
    "add": lambda a, b: (a + b) / 2,
    "subtract": lambda a, b: (a - b) / 2,
    "multiply": lambda a, b: a * b / 2,
    "divide": lambda a, b: a / (2 + b * b),
    "larger": lambda a, b: jnp.maximum(a, b + SHIFT) / 2,
    "where": lambda a, b: jnp.where(MASK, a, b),
    "product": lambda a, b: a @ b.T @ a / 24,
    "outer": lambda a, b: jnp.mean(a, axis=1, keepdims=True) * jnp.mean(b, axis=0) / 2,
    "join": lambda a, b: jnp.concatenate([a[:1], b[:1]], axis=0),
    "update": lambda a, b: a.at[0].set(b[1]),
    "scatter": lambda a, b: a.at[:, jnp.asarray([0, 0])].add(b[:, 1:]) / 3,
}
BODIES = {"dense": 0, "jit": 1, "checkpoint": 1, "scan": 1, "reverse": 1, "cond": 2, "switch": 2}
SIMPLE = (*UNARY, *BINARY, "dense")


class Node(NamedTuple):
    kind: str
    operands: tuple[int, int]
    bodies: tuple[tuple["Node", ...], ...]


@st.composite
def blocks(draw, visible: int, longest: int, depth: int):
    """A straight sequence of nodes; each may use any earlier value, also those around the block."""
    nodes = []
    for position in range(draw(st.integers(1, longest))):
        here = visible + position
        kind = draw(st.sampled_from((*SIMPLE, *BODIES) if depth else SIMPLE))
        operands = draw(st.tuples(st.integers(0, here - 1), st.integers(0, here - 1)))
        inside = blocks(here + 2, 4, depth - 1)
        bodies = tuple(draw(inside) for _ in range(BODIES.get(kind, 0)))
        nodes.append(Node(kind, operands, bodies))
    return tuple(nodes)


def evaluate(block, values, w):
    """The values in view after the block, its own last."""
    for node in block:
        a, b = (values[index] for index in node.operands)
        values = [*values, apply(node, a, b, values, w)]
    return values


def apply(node, a, b, values, w):
    bodies = [
        lambda a, b, body=body: evaluate(body, [*values, a, b], w)[-1] for body in node.bodies
    ]
    match node.kind:
        case "dense":
            return jnp.tanh(a @ w) - b / 2
        case "jit":
            return jax.jit(bodies[0])(a, b)
        case "checkpoint":
            return jax.checkpoint(bodies[0])(a, b)
        case "scan" | "reverse":

            def step(carry, x):
                carry = bodies[0](carry, x)
                return carry, (carry + x) / 2

            xs = jnp.stack([b, jnp.sin(b), jnp.asarray(SHIFT)])
            final, ys = lax.scan(step, a, xs, reverse=node.kind == "reverse")
            return (final + jnp.mean(ys, axis=0)) / 2
        case "cond":
            return lax.cond(jnp.sum(a) > 0.1234567, *bodies, a, b)
        case "switch":
            return lax.switch(jnp.argmax((b + SHIFT)[0]) % 2, bodies, a, b)
        case kind if kind in UNARY:
            return UNARY[kind](a)
        case kind:
            return BINARY[kind](a, b)


@st.composite
def programs(draw):
    """A scalar function of three parameters and data, of up to 20 nodes beside those in bodies."""
    block = draw(blocks(3, 20, 2))
    tap = draw(st.integers(0, len(block) + 2))

    def f(params, data):
        values = evaluate(block, [params["a"], params["b"], data], params["w"])
        return jnp.sum(values[-1] * SHIFT) + 0.1 * jnp.mean(values[tap])

    f.program = block
    return f


@given(programs(), st.integers(0, 2**32 - 1))
def test_random_program(f, seed):
    generator = np.random.default_rng(seed)
    with jax.enable_x64(True):
        draws = {"a": SHAPE, "b": SHAPE, "w": (3, 3), "data": SHAPE}
        values = {k: jnp.asarray(generator.uniform(-1, 1, shape)) for k, shape in draws.items()}
        data = values.pop("data")
        value, gradients = jax.jit(lg.value_and_grad(f))(values, data)
        wanted_value, wanted = jax.jit(jax.value_and_grad(f))(values, data)
        np.testing.assert_allclose(value, wanted_value, RELATIVE, ABSOLUTE)
        for name, gradient in gradients.items():
            largest = float(jnp.max(jnp.abs(wanted[name])))
            np.testing.assert_allclose(
                gradient, wanted[name], rtol=0, atol=RELATIVE * largest + ABSOLUTE, err_msg=name
            )
