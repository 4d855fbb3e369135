"""Marks on the layers of Equinox and Flax models: same gradients, chosen vertices, same trees."""

import copy
import doctest
import io
import pickle
import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

import localgrad as lg
import localgrad.equinox
import localgrad.flax

KEY = jax.random.key(0)
EXACT = 1e-13


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def draw(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape, jnp.float64)


def doubled(tree):
    """Parameters in float64, away from zero biases."""

    def leaf(x):
        is_float = eqx.is_array(x) and jnp.issubdtype(x.dtype, jnp.floating)
        return x.astype(jnp.float64) + 0.1 if is_float else x

    return jax.tree.map(leaf, tree)


def names(loss, *args):
    return [vertex.name for vertex in lg.graph(loss)(*args).vertices]


def assert_same_gradients(marked_loss, loss, args, marked_args=None, batched=None):
    """Z-IL on the marked function is backpropagation on the unmarked one, compiled.

    `batched` tells where to find the examples: then under ``vmap`` as well.
    """
    got, want = lg.grad(marked_loss, rule=lg.ZIL()), jax.grad(loss)
    if batched is not None:
        got, want = jax.vmap(got, batched), jax.vmap(want, batched)
    got, want = jax.jit(got)(*(marked_args or args)), jax.jit(want)(*args)
    assert_same_numbers(got, want)
    return got


def assert_same_numbers(got, want):
    """The same leaves at the same paths, whatever the classes of the modules are."""
    got, want = jax.tree.leaves_with_path(got), jax.tree.leaves_with_path(want)
    assert [jax.tree_util.keystr(p) for p, _ in got] == [jax.tree_util.keystr(p) for p, _ in want]
    for (_, g), (_, w) in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=0, atol=EXACT * (1.0 + np.max(np.abs(w))))


# Equinox ------------------------------------------------------------------------------------------


class ConvNet(eqx.Module):
    convolutions: list
    pool: eqx.nn.MaxPool2d
    readout: eqx.nn.Linear

    def __call__(self, image):
        for convolution in self.convolutions:
            image = self.pool(jax.nn.relu(convolution(image)))
        return self.readout(image.ravel())


def conv_net():
    return ConvNet(
        [
            eqx.nn.Conv2d(1, 2, 3, padding=1, key=KEY),
            eqx.nn.Conv2d(2, 3, 3, padding=1, key=KEY),
        ],
        eqx.nn.MaxPool2d(2, 2),
        eqx.nn.Linear(12, 2, key=KEY),
    )


class Recurrent(eqx.Module):
    cell: eqx.Module
    readout: eqx.nn.Linear

    def __call__(self, sequence):
        size = self.cell.hidden_size
        start = jnp.zeros(size, sequence.dtype)
        if isinstance(self.cell, eqx.nn.LSTMCell):
            start = (start, start)
        final, _ = lax.scan(lambda state, x: (self.cell(x, state), None), start, sequence)
        return self.readout(jax.tree.leaves(final)[0])


class Residual(eqx.Module):
    norm: eqx.nn.LayerNorm
    inner: dict
    shared: eqx.nn.Linear

    def __call__(self, x):
        y = self.inner["out"](jnp.tanh(self.inner["in"](self.norm(x))))
        return self.shared(jnp.tanh(self.shared(x + y)))


def residual():
    layers = {"in": eqx.nn.Linear(3, 4, key=KEY), "out": eqx.nn.Linear(4, 3, key=KEY)}
    return Residual(eqx.nn.LayerNorm(3), layers, eqx.nn.Linear(3, 3, key=KEY))


class Stacked(eqx.Module):
    layers: eqx.nn.Linear

    def __call__(self, x):
        arrays, rest = eqx.partition(self.layers, eqx.is_array)

        def apply(x, layer):
            return jnp.tanh(eqx.combine(layer, rest)(x)), None

        return lax.scan(apply, x, arrays)[0]


def stacked():
    make = eqx.filter_vmap(lambda key: eqx.nn.Linear(3, 3, key=key))
    return Stacked(make(jax.random.split(KEY, 4)))


def recurrent(cell):
    return lambda: Recurrent(cell(3, 4, key=KEY), eqx.nn.Linear(4, 2, key=KEY))


EQUINOX = {
    "mlp": (
        lambda: eqx.nn.MLP(3, 2, 5, 2, jnp.tanh, key=KEY),
        eqx.nn.Linear,
        (3,),
        ["layers[0]", "layers[1]", "layers[2]"],
    ),
    "some layers": (
        lambda: eqx.nn.MLP(3, 2, 5, 3, jnp.tanh, key=KEY),
        ["layers[2]", "layers[0]"],
        (3,),
        ["layers[0]", "layers[2]"],
    ),
    "cnn": (
        conv_net,
        ["convolutions[*]", "readout"],
        (1, 8, 8),
        ["convolutions[0]", "convolutions[1]", "readout"],
    ),
    "cnn, and pooling": (
        conv_net,
        lambda name, module: not isinstance(module, eqx.nn.Linear) and name != "ConvNet",
        (1, 8, 8),
        ["convolutions[0]", "pool", "convolutions[1]", "pool.2"],
    ),
    "gru": (recurrent(eqx.nn.GRUCell), eqx.nn.GRUCell, (5, 3), ["cell"]),
    "lstm": (recurrent(eqx.nn.LSTMCell), ["cell", "Recurrent"], (5, 3), None),
    "residual": (
        residual,
        eqx.nn.Linear,
        (3,),
        ["inner['in']", "inner['out']", "shared", "shared.2"],
    ),
    "residual, nested": (
        residual,
        ["**.norm", "**['out']", "inner[*]", Residual],
        (3,),
        ["norm", "inner['in']", "inner['out']", "Residual"],
    ),
    "residual, all": (
        residual,
        "**",
        (3,),
        ["norm", "inner['in']", "inner['out']", "shared", "shared.2"],
    ),
    "stacked": (stacked, eqx.nn.Linear, (3,), ["layers"]),
    "sequential": (
        lambda: eqx.nn.Sequential(
            [eqx.nn.Linear(3, 4, key=KEY), eqx.nn.Lambda(jnp.tanh), eqx.nn.Linear(4, 2, key=KEY)]
        ),
        "layers[1]",
        (3,),
        ["layers[1]"],
    ),
}


def loss_of(model):
    weights, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(weights, x):
        return jnp.mean(jnp.sin(jax.vmap(eqx.combine(weights, rest))(x)) ** 2)

    return weights, loss


@pytest.mark.rows(2)
@pytest.mark.parametrize("row", EQUINOX)
def test_equinox(row):
    make, where, shape, vertices = EQUINOX[row]
    model, x = doubled(make()), draw(4, *shape)
    weights, loss = loss_of(model)
    marked_weights, marked_loss = loss_of(localgrad.equinox.mark(model, where))
    if vertices is not None:
        assert names(marked_loss, marked_weights, x) == [*vertices, "loss"]
    assert {v.operation for v in lg.graph(marked_loss)(marked_weights, x).vertices[:-1]} == {"name"}

    got = assert_same_gradients(marked_loss, loss, (weights, x), (marked_weights, x))
    assert jax.tree.structure(got) == jax.tree.structure(marked_weights)


@pytest.mark.long
def test_equinox_eager_batched_and_by_jax():
    model, x = doubled(residual()), draw(4, 3)
    weights, loss = loss_of(model)
    marked_weights, marked_loss = loss_of(localgrad.equinox.mark(model, eqx.nn.Linear))
    want = jax.grad(loss)(weights, x)
    assert_same_numbers(lg.grad(marked_loss, rule=lg.ZIL())(marked_weights, x), want)
    assert_same_numbers(jax.grad(marked_loss)(marked_weights, x), want)
    each = x[:, None]
    args = (weights, each), (marked_weights, each)
    assert_same_gradients(marked_loss, loss, *args, batched=(None, 0))


@pytest.mark.rows(1)
@pytest.mark.parametrize("row", ["mlp", "gru", "residual, nested"])
def test_equinox_marked_inside_the_loss(row):
    """The parameters' tree is then the unmarked model's in every respect."""
    make, where, shape, vertices = EQUINOX[row]
    weights, rest = eqx.partition(doubled(make()), eqx.is_inexact_array)

    def loss(weights, x, model=lambda m: localgrad.equinox.mark(m, where)):
        return jnp.mean(jax.vmap(model(eqx.combine(weights, rest)))(x) ** 2)

    x = draw(4, *shape)
    assert names(loss, weights, x) == [*vertices, "loss"]
    got = assert_same_gradients(loss, lambda w, x: loss(w, x, lambda m: m), (weights, x))
    assert jax.tree.structure(got) == jax.tree.structure(weights)


def test_equinox_vertices_are_before_the_activation():
    """The network of Song et al.: a vertex predicts the next from its activation."""
    make, where, _, vertices = EQUINOX["mlp"]
    weights, loss = loss_of(localgrad.equinox.mark(make(), where))
    view = lg.graph(loss)(weights, draw(4, 3))
    for number, name in enumerate(vertices):
        own = {f"args[0].{name}.weight", f"args[0].{name}.bias"}
        assert set(view[name].parents) == own | set(vertices[:number][-1:])


@pytest.mark.long
def test_the_classical_predictive_coding_network():
    """Marked hidden layers, by inference learning: descent on the energy, written by hand."""
    steps, rate, x, y = 12, 0.1, draw(4, 3), draw(4, 2, seed=2)
    model = doubled(eqx.nn.MLP(3, 2, 5, 2, jnp.tanh, key=KEY))
    marked = localgrad.equinox.mark(model, ["layers[0]", "layers[1]"])
    weights, rest = eqx.partition(marked, eqx.is_inexact_array)

    def loss(weights):
        return 0.5 * jnp.sum((jax.vmap(eqx.combine(weights, rest))(x) - y) ** 2)

    rule = lg.InferenceLearning(steps=steps, rate=rate, nudge=1.0)
    got = jax.jit(lg.grad(loss, rule=rule))(weights)

    def predict(layer, value):
        return value @ layer[0].T + layer[1]

    def energy(layers, values):
        sources = [x, *map(jnp.tanh, values)]
        errors = [p - v for p, v in zip(map(predict, layers, sources), [*values, y], strict=True)]
        return 0.5 * sum(jnp.sum(error**2) for error in errors)

    layers = [(layer.weight, layer.bias) for layer in model.layers]
    first = predict(layers[0], x)
    values = [first, predict(layers[1], jnp.tanh(first))]
    for _ in range(steps):
        slopes = jax.grad(energy, 1)(layers, values)
        values = [value - rate * slope for value, slope in zip(values, slopes, strict=True)]
    want = jax.grad(energy)(layers, values)
    for layer, (weight, bias) in zip(got.layers, want, strict=True):
        np.testing.assert_allclose(layer.weight, weight, rtol=0, atol=1e-12)
        np.testing.assert_allclose(layer.bias, bias, rtol=0, atol=1e-12)


def test_equinox_leaves_and_attributes_stay():
    model = eqx.nn.MLP(3, 2, 5, 2, key=KEY)
    marked = localgrad.equinox.mark(model, eqx.nn.Linear)
    assert isinstance(marked.layers[0], eqx.nn.Linear)
    assert type(model.layers[0]) is eqx.nn.Linear
    assert marked.layers[0].weight is model.layers[0].weight
    assert marked.layers[0].out_features == 5
    assert type(marked) is eqx.nn.MLP
    got, want = jax.tree.leaves_with_path(marked), jax.tree.leaves_with_path(model)
    assert [path for path, _ in got] == [path for path, _ in want]
    assert all(g is w for (_, g), (_, w) in zip(got, want, strict=True))
    assert "Linear<layers[0]>(" in repr(marked)
    doubled_bias = eqx.tree_at(lambda m: m.layers[0].bias, marked, 2 * marked.layers[0].bias)
    assert jax.tree.structure(doubled_bias) == jax.tree.structure(marked)


def test_equinox_serialization_stays():
    model = eqx.nn.MLP(3, 2, 5, 2, key=KEY)
    marked = localgrad.equinox.mark(model, eqx.nn.Linear)
    ours, theirs = io.BytesIO(), io.BytesIO()
    eqx.tree_serialise_leaves(ours, marked)
    eqx.tree_serialise_leaves(theirs, model)
    assert ours.getvalue() == theirs.getvalue()
    ours.seek(0)
    assert eqx.tree_equal(eqx.tree_deserialise_leaves(ours, model), model)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_equinox_copies_and_pickles(copied):
    layer = localgrad.equinox.mark(eqx.nn.Linear(3, 2, key=KEY), "Linear")
    other = copied(layer)
    assert type(other) is type(layer)
    assert eqx.tree_equal(other, layer)


def test_equinox_same_marks_are_the_same_structure():
    model, traces = eqx.nn.MLP(3, 2, 5, 2, key=KEY), []
    first, second = (localgrad.equinox.mark(model, where) for where in (eqx.nn.Linear, "layers[*]"))
    other = localgrad.equinox.mark(model, "layers[0]")
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert hash(jax.tree.structure(first)) == hash(jax.tree.structure(second))
    assert jax.tree.structure(first) != jax.tree.structure(other) != jax.tree.structure(model)

    @eqx.filter_jit
    def run(model, x):
        traces.append(None)
        return model(x)

    for marked in (first, second, eqx.tree_at(lambda m: m.layers[0].bias, second, jnp.ones(5))):
        run(marked, jnp.ones(3))
    assert len(traces) == 1


def test_equinox_marked_twice():
    model = eqx.nn.MLP(3, 2, 5, 2, key=KEY)
    both = localgrad.equinox.mark(model, ["layers[0]", "layers[2]"])
    again = localgrad.equinox.mark(localgrad.equinox.mark(model, "layers[2]"), "layers[0]")
    assert jax.tree.structure(both) == jax.tree.structure(again)
    weights, loss = loss_of(localgrad.equinox.mark({"net": both}, "['net'].layers[0]")["net"])
    assert names(loss, weights, jnp.ones((2, 3))) == ["['net'].layers[0]", "layers[2]", "loss"]


def test_equinox_state_and_several_outputs():
    class Net(eqx.Module):
        dense: eqx.nn.Linear
        norm: eqx.nn.BatchNorm

        def __call__(self, x, state):
            return self.norm(self.dense(x), state)

    model, state = eqx.nn.make_with_state(
        lambda: Net(eqx.nn.Linear(3, 4, key=KEY), eqx.nn.BatchNorm(4, "batch", mode="batch"))
    )()
    x, state = draw(5, 3), doubled(state)

    def loss_and_weights(model):
        weights, rest = eqx.partition(doubled(model), eqx.is_inexact_array)

        def loss(weights, state, x):
            run = jax.vmap(eqx.combine(weights, rest), (0, None), (0, None), axis_name="batch")
            y, state = run(x, state)
            return jnp.mean(jnp.sin(y)), state

        return loss, weights

    loss, weights = loss_and_weights(localgrad.equinox.mark(model, ["dense", "norm"]))
    got, got_state = lg.grad(loss, has_aux=True, rule=lg.ZIL())(weights, state, x)
    assert [v.name for v in lg.graph(loss, has_aux=True)(weights, state, x).vertices][:-1] == [
        "dense",
        "norm",
    ]
    loss, weights = loss_and_weights(model)
    want, want_state = jax.grad(loss, has_aux=True)(weights, state, x)
    assert_same_numbers(got, want)
    assert_same_numbers(got_state, want_state)


def test_equinox_methods_of_the_layer_stay():
    class Layer(eqx.nn.Linear):
        @eqx.filter_jit
        def __call__(self, x, scale=1.0):
            return scale * super().__call__(x)

        def twice(self, x):
            return self(x, scale=2.0)

    layer = Layer(3, 2, key=KEY)
    marked = localgrad.equinox.mark(layer, Layer)
    x = jnp.ones(3)
    np.testing.assert_array_equal(marked(x, scale=3.0), layer(x, scale=3.0))
    np.testing.assert_array_equal(eqx.filter_jit(marked.twice)(x), layer.twice(x))
    assert names(lambda w: jnp.sum(marked(w)), x) == ["Layer", "loss"]


def test_equinox_training():
    model = eqx.nn.MLP(3, 1, 8, 2, jnp.tanh, key=KEY)
    weights, loss = loss_of(localgrad.equinox.mark(model, eqx.nn.Linear))
    optimiser, x = optax.adam(1e-2), draw(16, 3)
    state = optimiser.init(weights)

    @jax.jit
    def step(weights, state):
        value, gradient = lg.value_and_grad(loss, rule=lg.ZIL())(weights, x)
        updates, state = optimiser.update(gradient, state, weights)
        return eqx.apply_updates(weights, updates), state, value

    values = []
    for _ in range(20):
        weights, state, value = step(weights, state)
        values.append(float(value))
    assert values[-1] < 0.5 * values[0]


# Flax nnx -----------------------------------------------------------------------------------------


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)])
        self.again = self.layers[1]
        self.norm = nnx.BatchNorm(4, use_running_average=False, rngs=rngs)
        self.head = nnx.Sequential(
            nnx.Linear(4, 4, rngs=rngs), nnx.tanh, nnx.Linear(4, 2, rngs=rngs)
        )

    def __call__(self, x):
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return self.head(self.norm(self.again(x)))


NNX = {
    "mlp": (
        nnx.Linear,
        ["layers[0]", "again", "again.2", "head.layers[0]", "head.layers[2]"],
    ),
    "blocks": (["head", nnx.BatchNorm], ["norm", "head"]),
    "pattern": ("head.layers[*]", ["head.layers[0]", "head.layers[2]"]),
    "predicate": (
        lambda name, module: isinstance(module, nnx.Linear) and module.out_features == 2,
        ["head.layers[2]"],
    ),
}


def nnx_loss(model):
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, rest, x):
        return jnp.mean(jnp.sin(nnx.merge(graphdef, params, rest, copy=True)(x)) ** 2)

    return loss, params, rest


def in_double(model):
    graphdef, state = nnx.split(model)
    return nnx.merge(graphdef, doubled(state))


@pytest.mark.rows(1)
@pytest.mark.parametrize("row", NNX)
def test_nnx(row):
    where, vertices = NNX[row]
    model, x = in_double(Net(nnx.Rngs(0))), draw(5, 3)
    loss, params, rest = nnx_loss(model)
    marked_loss, marked_params, marked_rest = nnx_loss(localgrad.flax.mark(model, where))
    assert jax.tree.structure(marked_params) == jax.tree.structure(params)
    assert names(marked_loss, marked_params, marked_rest, x) == [*vertices, "loss"]
    assert_same_gradients(marked_loss, loss, (params, rest, x))


def test_nnx_batched():
    model, x = in_double(Net(nnx.Rngs(0))), draw(5, 2, 3)
    loss, params, rest = nnx_loss(model)
    marked_loss, _, _ = nnx_loss(localgrad.flax.mark(model, nnx.Linear))
    assert_same_gradients(marked_loss, loss, (params, rest, x), batched=(None, None, 0))


def test_nnx_marked_inside_the_loss():
    graphdef, params, rest = nnx.split(in_double(Net(nnx.Rngs(0))), nnx.Param, ...)

    def loss(params, x):
        model = localgrad.flax.mark(nnx.merge(graphdef, params, rest, copy=True), nnx.BatchNorm)
        return jnp.mean(model(x) ** 2)

    assert names(loss, params, draw(5, 3)) == ["norm", "loss"]


def test_nnx_shares_the_variables_and_leaves_the_model():
    model = in_double(Net(nnx.Rngs(0)))
    marked = localgrad.flax.mark(model, nnx.Linear)
    assert type(model.layers[0]) is nnx.Linear
    assert type(marked) is Net
    assert isinstance(marked.layers[0], nnx.Linear)
    assert marked.again is marked.layers[1]
    assert marked.layers[0].kernel is model.layers[0].kernel
    assert marked.layers[0].out_features == 4
    marked.norm(jnp.ones((2, 4)))
    np.testing.assert_array_equal(marked.norm.mean[...], model.norm.mean[...])
    assert nnx.graphdef(marked) == nnx.graphdef(localgrad.flax.mark(model, nnx.Linear))
    assert nnx.graphdef(marked) != nnx.graphdef(model)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_nnx_copies_and_pickles(copied):
    layer = localgrad.flax.mark(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear)
    assert type(copied(layer)) is type(layer)
    np.testing.assert_array_equal(copied(layer).kernel[...], layer.kernel[...])


def test_nnx_jit_and_optimizer():
    model, x, traces = in_double(Net(nnx.Rngs(0))), draw(5, 3), []
    marked = localgrad.flax.mark(model, nnx.Linear)
    optimizer = nnx.Optimizer(marked, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        traces.append(None)
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params):
            return jnp.mean(nnx.merge(graphdef, params, rest, copy=True)(x) ** 2)

        value, gradient = lg.value_and_grad(loss, rule=lg.ZIL())(params)
        optimizer.update(model, gradient)
        return value

    values = [float(step(marked, optimizer, x)) for _ in range(10)]
    assert values[-1] < 0.9 * values[0]
    assert len(traces) == 1
    np.testing.assert_array_equal(marked(x), model(x))


@pytest.mark.long
def test_nnx_scan():
    class Recurrent(nnx.Module):
        def __init__(self, rngs):
            self.rnn = nnx.RNN(nnx.GRUCell(2, 3, param_dtype=jnp.float64, rngs=rngs))
            self.head = nnx.Linear(3, 1, rngs=rngs)

        def __call__(self, x):
            return self.head(self.rnn(x))

    model, x = in_double(Recurrent(nnx.Rngs(0))), draw(2, 4, 2)
    loss, params, rest = nnx_loss(model)
    marked_loss, _, _ = nnx_loss(localgrad.flax.mark(model, ["rnn.cell", "head"]))
    assert names(marked_loss, params, rest, x)[-2:] == ["head", "loss"]
    assert "rnn.cell" in names(marked_loss, params, rest, x)
    assert_same_gradients(marked_loss, loss, (params, rest, x))


# Flax linen ---------------------------------------------------------------------------------------


class LinenMLP(linen.Module):
    @linen.compact
    def __call__(self, x):
        for size in (4, 4, 2):
            x = linen.Dense(size, param_dtype=jnp.float64)(jnp.tanh(x))
        return x


class Rectified(linen.Dense):
    def __call__(self, x):
        return linen.relu(super().__call__(x))


class LinenCNN(linen.Module):
    def setup(self):
        self.convolutions = [linen.Conv(size, (3, 3), param_dtype=jnp.float64) for size in (2, 3)]
        self.dense = Rectified(4, param_dtype=jnp.float64)
        self.head = linen.Dense(2, param_dtype=jnp.float64)

    def __call__(self, x):
        for convolution in self.convolutions:
            x = linen.max_pool(linen.relu(convolution(x)), (2, 2), (2, 2))
        return self.head(self.dense(x.reshape(len(x), -1)))


class Block(linen.Module):
    @linen.compact
    def __call__(self, x, _):
        return x + linen.Dense(3, param_dtype=jnp.float64)(jnp.tanh(x)), None


class LinenStack(linen.Module):
    @linen.compact
    def __call__(self, x):
        lifted = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        x, _ = linen.scan(Block, length=4, **lifted)()(x, None)
        x = linen.remat(linen.Dense)(3, param_dtype=jnp.float64)(x)
        return LinenMLP(name="inner")(x)


class LinenRNN(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(linen.RNN(linen.GRUCell(3, param_dtype=x.dtype))(x))


LINEN = {
    "mlp": (LinenMLP, linen.Dense, (3,), ["Dense_0", "Dense_1", "Dense_2"]),
    "cnn": (
        LinenCNN,
        ["convolutions_*", linen.Dense],
        (8, 8, 1),
        ["convolutions_0", "convolutions_1", "dense", "head"],
    ),
    "predicate": (LinenCNN, lambda name, m: name[0] == "d", (8, 8, 1), ["dense"]),
    "stack": (
        LinenStack,
        [Block, "*Dense_*", "inner/*"],
        (3,),
        ["ScanBlock_0", "CheckpointDense_0", "inner/Dense_0", "inner/Dense_1", "inner/Dense_2"],
    ),
    "everywhere": (
        LinenStack,
        ["**/Dense_0", "Check**", LinenStack],
        (3,),
        ["ScanBlock_0/Dense_0", "CheckpointDense_0", "inner/Dense_0", "LinenStack"],
    ),
    "one step": (LinenStack, "*", (3,), ["ScanBlock_0", "CheckpointDense_0", "inner"]),
    "rnn": (LinenRNN, linen.GRUCell, (4, 2), None),
}


def linen_loss(model, wrapped=lambda apply: apply):
    apply = wrapped(model.apply)
    return lambda variables, x: jnp.mean(jnp.sin(apply(variables, x)) ** 2)


@pytest.mark.rows(1)
@pytest.mark.parametrize("row", LINEN)
def test_linen(row):
    make, where, shape, vertices = LINEN[row]
    model, x = make(), draw(5, *shape)
    variables = doubled(model.init(KEY, x))
    loss = linen_loss(model)
    in_apply = linen_loss(model, lambda apply: localgrad.flax.mark(apply, where))
    outside = localgrad.flax.mark(loss, where)
    if vertices is not None:
        assert names(in_apply, variables, x) == [*vertices, "loss"]
        assert names(outside, variables, x) == [*vertices, "loss"]
    assert_same_gradients(in_apply, loss, (variables, x))


def test_linen_eager_and_batched():
    model, x = LinenMLP(), draw(5, 3)
    variables = doubled(model.init(KEY, x))
    loss = linen_loss(model)
    marked = localgrad.flax.mark(loss, linen.Dense)
    got = lg.grad(marked, rule=lg.ZIL())(variables, x)
    assert_same_numbers(got, jax.grad(loss)(variables, x))
    assert_same_gradients(marked, loss, (variables, x[:, None]), batched=(None, 0))


def test_linen_initialises_as_before():
    model, x = LinenMLP(), draw(5, 3)
    marked = localgrad.flax.mark(model.init, linen.Dense)(KEY, x)
    assert_same_numbers(marked, model.init(KEY, x))


def test_linen_bound_modules_and_methods():
    model, x = LinenMLP(), draw(5, 3)
    variables = model.init(KEY, x)
    run = localgrad.flax.mark(lambda v, x: jnp.sum(model.bind(v)(x)), "Dense_1")
    assert names(run, variables, x) == ["Dense_1", "loss"]
    with_state = localgrad.flax.mark(model.apply, linen.Dense)
    y, intermediates = with_state(variables, x, capture_intermediates=True)
    assert len(jax.tree.leaves(intermediates)) == 4
    np.testing.assert_array_equal(y, model.apply(variables, x))


def test_linen_marks_end_with_the_call():
    model, x = LinenMLP(), draw(5, 3)
    variables = model.init(KEY, x)
    loss = linen_loss(model)
    localgrad.flax.mark(loss, linen.Dense)(variables, x)
    with pytest.raises(ValueError, match="picks none"):
        localgrad.flax.mark(loss, linen.Conv)(variables, x)
    assert "Dense_0" not in names(loss, variables, x)


# Errors -------------------------------------------------------------------------------------------

ERRORS = [
    ("layer[0]", ValueError, r"did you mean 'layers\[0\]'\? choose from layers\[0\] \(Linear\), "),
    ("layers[9]", ValueError, r"met where='layers\[9\]', which picks none of .* this MLP"),
    ("layers.*", ValueError, "picks none"),
    ("layers*", ValueError, "picks none"),
    (eqx.nn.Conv2d, ValueError, "met where=Conv2d, which picks none"),
    (lambda name, module: False, ValueError, "met where=<lambda>, which picks none"),
    (["layers[0]", "heads"], ValueError, "met where='heads', which picks none"),
    ([], ValueError, "met an empty where"),
    (3, TypeError, "met 3 in where"),
    (["layers[0]", None], TypeError, "met None in where"),
]


@pytest.mark.parametrize(("where", "kind", "text"), ERRORS)
def test_errors(where, kind, text):
    with pytest.raises(kind, match=text) as caught:
        localgrad.equinox.mark(eqx.nn.MLP(3, 2, 5, 2, key=KEY), where)
    assert len(str(caught.value).split("\n")) == 3
    assert f"\n  where: {__file__}:" in str(caught.value)
    assert "\n  what to do: " in str(caught.value)


def test_errors_of_flax():
    model, x = LinenMLP(), draw(5, 3)
    variables = model.init(KEY, x)
    line = r"(?s)did you mean 'Dense_0'\? choose from Dense_0 \(Dense\), Dense_1"
    with pytest.raises(ValueError, match=line) as caught:
        localgrad.flax.mark(model.apply, "dense_0")(variables, x)
    assert f"\n  where: {__file__}:" in str(caught.value)
    with pytest.raises(TypeError, match=r"mark what runs it: mark\(model.apply, where\)"):
        localgrad.flax.mark(model, linen.Dense)
    with pytest.raises(ValueError, match=r"did you mean 'layers\[0\]'\?"):
        localgrad.flax.mark(Net(nnx.Rngs(0)), "layers[3]")
    jitted = jax.jit(model.apply)
    jitted(variables, x)
    with pytest.raises(ValueError, match=r"there is none.*mark first, then jit"):
        localgrad.flax.mark(jitted, linen.Dense)(variables, x)


def test_what_is_no_model():
    with pytest.raises(ValueError, match=r"choose from nothing: there is none"):
        localgrad.equinox.mark(jnp.ones(3), eqx.nn.Linear)
    with pytest.raises(TypeError, match=r"met 3, which is no nnx module and no function"):
        localgrad.flax.mark(3, linen.Dense)


def test_long_models_are_listed_in_part():
    layers = [eqx.nn.Identity() for _ in range(30)]
    with pytest.raises(ValueError, match=r"layers\[19\] \(Identity\), and 11 more\."):
        localgrad.equinox.mark(eqx.nn.Sequential(layers), "x")


# Documentation and packaging ----------------------------------------------------------------------


def test_importing_localgrad_imports_no_model_library():
    program = "import sys, localgrad; print(*{'equinox', 'flax'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("module", [localgrad.equinox, localgrad.flax])
def test_examples_in_docstrings(module):
    with jax.enable_x64(False):
        results = doctest.testmod(module)
    assert results.attempted >= 5
    assert results.failed == 0


@pytest.mark.long
def test_the_page_runs():
    """The blocks build on each other, as a reader would type them."""
    page = Path(__file__).parent.parent / "docs" / "marks.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    assert len(blocks) >= 4
    scope = {}
    with jax.enable_x64(False):
        for block in blocks:
            exec(compile(block, "marks.md", "exec"), scope)
