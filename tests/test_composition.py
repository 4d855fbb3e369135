"""``lg.grad`` inside and around everything else that JAX has."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import localgrad as lg
from oracle import RULES, TOLERANCE, assert_close, assert_equal

F32 = TOLERANCE["float32"]

rules = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


def loss(params, x, y):
    """Two layers with a skip connection; the mean over the batch."""
    hidden = jnp.tanh(x @ params["w1"] + params["b1"])
    return jnp.mean((hidden @ params["w2"] + x - y) ** 2)


def recurrent_loss(params, x, y):
    """The same parameters in a scan, with a branch and a nested jit in its body."""

    @jax.jit
    def cell(h, scale):
        h = jnp.tanh(x @ params["w1"] + params["b1"] + h * scale)
        return lax.cond(scale > 0, lambda h: jnp.sin(h), lambda h: h @ params["w1"], h), h

    final, hidden = lax.scan(cell, jnp.zeros_like(x @ params["w1"]), jnp.asarray([1.0, -0.5, 0.5]))
    return jnp.mean((final @ params["w2"] - y) ** 2) + 0.1 * jnp.mean(hidden**2)


def arguments(batch=8, seed=0):
    generator = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(generator.standard_normal(shape), jnp.float32)

    params = {"w1": draw(3, 3), "b1": draw(3), "w2": draw(3, 3)}
    return params, draw(batch, 3), draw(batch, 3)


def stacked(count):
    return jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(arguments(seed=s) for s in range(count))
    )


def descend(params, gradients):
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients)


functions = pytest.mark.parametrize("f", [loss, recurrent_loss], ids=["straight_line", "recurrent"])


# vmap ---------------------------------------------------------------------------------------------


@pytest.mark.rows(1)
@pytest.mark.leaks
@rules
@functions
def test_vmap_over_everything(f, rule):
    args = stacked(3)
    got = jax.vmap(lg.value_and_grad(f, rule=rule))(*args)
    assert_close(got, jax.vmap(jax.value_and_grad(f))(*args), F32)


@functions
def test_vmap_over_parameters(f):
    (params, _, _), (_, x, y) = stacked(3), arguments()
    got = jax.vmap(lg.grad(f), in_axes=(0, None, None))(params, x, y)
    assert_close(got, jax.vmap(jax.grad(f), in_axes=(0, None, None))(params, x, y), F32)


@functions
def test_gradients_per_sample(f):
    params, x, y = arguments()

    def per_sample(transform):
        single = transform(lambda p, x, y: f(p, x[None], y[None]))
        return jax.jit(jax.vmap(single, in_axes=(None, 0, 0)))(params, x, y)

    assert_close(per_sample(lg.grad), per_sample(jax.grad), F32)


@pytest.mark.long
def test_vmap_over_keys():
    def noisy(params, x, y, key):
        return loss(params, x + jax.random.normal(key, x.shape), y)

    args = (*arguments(), jax.random.split(jax.random.key(0), 4))
    axes = (None, None, None, 0)
    got = jax.vmap(lg.grad(noisy), in_axes=axes)(*args)
    assert_close(got, jax.vmap(jax.grad(noisy), in_axes=axes)(*args), F32)


def test_vmap_with_an_axis_name():
    def normalised(params, x, y):
        hidden = x @ params["w1"]
        return jnp.sum(((hidden - lax.pmean(hidden, "batch")) @ params["w2"] - y) ** 2)

    def mean_gradient(transform):
        def one(x, y):
            return lax.pmean(transform(normalised)(params, x, y), "batch")

        return jax.vmap(one, axis_name="batch")(x, y)

    params, x, y = arguments()
    assert_close(mean_gradient(lg.grad), mean_gradient(jax.grad), F32)


# Training loops -----------------------------------------------------------------------------------


@pytest.mark.leaks
@rules
def test_scan_over_training_steps(rule):
    def train(transform):
        def step(params, _):
            value, gradients = transform(loss)(params, x, y)
            return descend(params, gradients), value

        return jax.jit(lambda params: lax.scan(step, params, length=20))(params)

    params, x, y = arguments()
    assert_equal(train(partial(lg.value_and_grad, rule=rule)), train(jax.value_and_grad))


@pytest.mark.long
def test_optax_loop():
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01))

    def train(transform):
        @jax.jit
        def step(params, state, x, y):
            value, gradients = transform(recurrent_loss)(params, x, y)
            updates, state = optimiser.update(gradients, state, params)
            return optax.apply_updates(params, updates), state, value

        params, x, y = arguments()
        state = optimiser.init(params)
        for _ in range(10):
            params, state, value = step(params, state, x, y)
        return params, value

    assert_close(train(lg.value_and_grad), train(jax.value_and_grad), 1e-4)


@pytest.mark.long
def test_donated_parameters():
    @partial(jax.jit, donate_argnums=0)
    def step(params, x, y):
        return descend(params, lg.grad(loss)(params, x, y))

    params, x, y = arguments()
    wanted = descend(params, jax.grad(loss)(params, x, y))
    assert_close(step(params, x, y), wanted, F32)
    assert params["w1"].is_deleted()


def test_traced_once():
    traces = []

    @jax.jit
    @lg.grad
    def gradient(params, x, y):
        traces.append(None)
        return loss(params, x, y)

    gradient(*arguments())
    gradient(*arguments(seed=1))
    assert len(traces) == 1


def test_shapes_and_ahead_of_time_compilation():
    args = arguments()
    shapes = jax.eval_shape(lg.grad(recurrent_loss), *args)
    assert shapes == jax.eval_shape(jax.grad(recurrent_loss), *args)
    run = jax.jit(lg.grad(recurrent_loss)).lower(*args).compile()
    assert_close(run(*args), jax.grad(recurrent_loss)(*args), F32)


# lg.grad as part of a program ---------------------------------------------------------------------


@pytest.mark.leaks
@rules
def test_in_a_branch_and_in_a_loop(rule):
    def program(transform):
        def step(state):
            params, count = state
            gradient = transform(recurrent_loss)(params, x, y)
            moved = lax.cond(
                count % 2 == 0,
                lambda: descend(params, transform(loss)(params, x, y)),
                lambda: descend(params, gradient),
            )
            return moved, count + 1

        return lax.while_loop(lambda state: state[1] < 4, step, (params, 0))

    params, x, y = arguments()
    got = jax.jit(program, static_argnums=0)(partial(lg.grad, rule=rule))
    assert_close(got, jax.jit(program, static_argnums=0)(jax.grad), F32)


@functions
def test_checkpoint_of_the_call(f):
    args = arguments()
    got = jax.jit(jax.checkpoint(lg.grad(f)))(*args)
    assert_close(got, jax.jit(jax.checkpoint(jax.grad(f)))(*args), F32)


def test_inside_itself():
    """One gradient step on one half of the batch, judged on the other: a gradient of a gradient."""

    def after_a_step(inner):
        def outer(params, x, y):
            adapted = descend(params, inner(loss)(params, x[:4], y[:4]))
            return loss(adapted, x[4:], y[4:])

        return outer

    args = arguments()
    want = jax.grad(after_a_step(jax.grad))(*args)
    for outer, inner in [(lg.grad, lg.grad), (lg.grad, jax.grad), (jax.grad, lg.grad)]:
        assert_close(outer(after_a_step(inner))(*args), want, F32)


def test_in_the_backward_function_of_a_custom_vjp():
    def with_backward(transform):
        @jax.custom_vjp
        def learned(params, x):
            return jnp.sum(jnp.sin(x @ params["w1"]))

        def backward(residuals, g):
            params, x = residuals
            gradient = transform(lambda p: loss(p, x, x))(params)
            return jax.tree.map(lambda leaf: g * leaf, gradient), jnp.zeros_like(x)

        learned.defvjp(lambda params, x: (learned(params, x), (params, x)), backward)
        return lambda params, x, y: learned(params, x) ** 2 + loss(params, x, y)

    args = arguments()
    want = jax.grad(with_backward(jax.grad))(*args)
    assert_close(lg.grad(with_backward(lg.grad))(*args), want, F32)
    assert_close(jax.grad(with_backward(lg.grad))(*args), want, F32)


# Derivatives of lg.grad ---------------------------------------------------------------------------


@pytest.mark.rows(1)
@pytest.mark.leaks
@rules
@functions
def test_grad_of_grad(f, rule):
    def norm(transform):
        def g(params, x, y):
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(transform(f)(params, x, y)))

        return g

    args = arguments()
    got = jax.jit(jax.grad(norm(partial(lg.grad, rule=rule))))(*args)
    assert_close(got, jax.jit(jax.grad(norm(jax.grad)))(*args), F32)


@pytest.mark.rows(1)
@functions
def test_hessian_vector_products(f):
    params, x, y = arguments()
    direction, _, _ = arguments(seed=1)

    def forward_over_reverse(transform):
        return jax.jvp(lambda p: transform(f)(p, x, y), (params,), (direction,))

    def reverse_over_reverse(transform):
        return jax.vjp(lambda p: transform(f)(p, x, y), params)[1](direction)

    for product in (forward_over_reverse, reverse_over_reverse):
        got = jax.jit(product, static_argnums=0)(lg.grad)
        assert_close(got, jax.jit(product, static_argnums=0)(jax.grad), F32)


@pytest.mark.long
def test_hessian():
    def f(w):
        return jnp.sum(jnp.tanh(w @ w) ** 2)

    w = arguments()[0]["w1"]
    assert_close(jax.jacfwd(lg.grad(f))(w), jax.hessian(f)(w), F32)
    assert_close(jax.jacrev(lg.grad(f))(w), jax.hessian(f)(w), F32)


# Devices ------------------------------------------------------------------------------------------


def mesh_of(axis_type):
    return jax.make_mesh((8,), ("batch",), axis_types=(axis_type,))


def on_devices(mesh, args):
    params, x, y = args
    everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("batch"))
    return jax.device_put(params, everywhere), *jax.device_put((x, y), split)


def all_reduces(compiled):
    return len(re.findall(r"= .* all-reduce(?:-start)?\(", compiled.as_text()))


@functions
def test_sharded_batch(f):
    args = on_devices(mesh_of(AxisType.Auto), arguments())
    ours = jax.jit(lg.value_and_grad(f)).lower(*args).compile()
    theirs = jax.jit(jax.value_and_grad(f)).lower(*args).compile()
    assert 0 < all_reduces(ours) <= all_reduces(theirs)
    assert_close(ours(*args), theirs(*args), F32)
    assert_close(ours(*args), jax.value_and_grad(f)(*arguments()), F32)
    assert jax.tree.all(jax.tree.map(lambda g: g.sharding.is_fully_replicated, ours(*args)[1]))


def test_sharded_parameters():
    mesh = mesh_of(AxisType.Auto)
    params, x, y = arguments()
    specs = {"w1": P(None, "batch"), "b1": P("batch"), "w2": P("batch", None)}
    wide = {
        "w1": jnp.tile(params["w1"], (1, 8)),
        "b1": jnp.tile(params["b1"], 8),
        "w2": jnp.tile(params["w2"], (8, 1)) / 8,
    }
    sharded = {k: jax.device_put(wide[k], NamedSharding(mesh, specs[k])) for k in wide}
    got = jax.jit(lg.grad(loss))(sharded, x, y)
    assert_close(got, jax.jit(jax.grad(loss))(sharded, x, y), F32)
    assert_close(got, jax.grad(loss)(wide, x, y), F32)


@functions
def test_explicit_axes(f):
    mesh = mesh_of(AxisType.Explicit)
    args = on_devices(mesh, arguments())
    with jax.set_mesh(mesh):
        got, want = jax.jit(lg.grad(f))(*args), jax.jit(jax.grad(f))(*args)
        assert_close(got, want, F32)
        assert jax.tree.map(jax.typeof, got) == jax.tree.map(jax.typeof, want)


@pytest.mark.parametrize("check_vma", [True, False])
@functions
def test_shard_map_around(f, check_vma):
    mesh = mesh_of(AxisType.Auto)

    def gradient(transform):
        def local(params, x, y):
            gradients = transform(f)(params, x, y)
            # With check_vma, the gradient of what is the same everywhere is already a sum.
            return gradients if check_vma else lax.psum(gradients, "batch")

        specs = (P(), P("batch"), P("batch"))
        mapped = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=check_vma)
        return jax.jit(mapped)(*arguments())

    assert_close(gradient(lg.grad), gradient(jax.grad), F32)


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_inside(check_vma):
    mesh = mesh_of(AxisType.Auto)

    def f(params, x, y):
        def local(params, x, y):
            return lax.pmean(loss(params, x, y), "batch")

        specs = (P(), P("batch"), P("batch"))
        mapped = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=check_vma)
        return mapped(params, x, y)

    got, want = jax.jit(lg.grad(f))(*arguments()), jax.jit(jax.grad(f))(*arguments())
    assert_close(got, want, F32)
    assert_close(got, jax.grad(loss)(*arguments()), F32)


def test_sharding_constraint_inside():
    mesh = mesh_of(AxisType.Auto)

    def f(params, x, y):
        hidden = jnp.tanh(x @ params["w1"] + params["b1"])
        hidden = lax.with_sharding_constraint(hidden, NamedSharding(mesh, P("batch")))
        return jnp.mean((hidden @ params["w2"] - y) ** 2)

    args = on_devices(mesh, arguments())
    assert_close(jax.jit(lg.grad(f))(*args), jax.jit(jax.grad(f))(*args), F32)


# Settings of JAX ----------------------------------------------------------------------------------


def test_nan_checks_see_no_nan():
    def f(x):
        safe = jnp.where(x > 0, x, 1.0)
        return jnp.sum(jnp.where(x > 0, jnp.sqrt(safe), 0.0)) + jnp.sum(jax.nn.relu(x))

    with jax.debug_nans(True):
        got = lg.grad(f)(jnp.asarray([-1.0, 0.0, 4.0]))
    np.testing.assert_array_equal(got, [0.0, 0.0, 1.25])


@functions
def test_without_jit(f):
    args = arguments()
    with jax.disable_jit():
        got = lg.grad(f)(*args)
    assert_close(got, jax.grad(f)(*args), F32)


def test_matmul_precision_reaches_the_pulls():
    def products(transform):
        with jax.default_matmul_precision("float32"):
            return str(jax.make_jaxpr(transform(loss))(*arguments())).count("HIGHEST")

    assert products(lg.grad) == products(jax.grad) > 0
