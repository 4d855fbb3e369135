"""The models: what they map, which value nodes they have, and that the rules are exact on them."""

import doctest
import functools
import linecache
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import localgrad as lg
from localgrad.experiments.losses import LOSSES
from localgrad.experiments.models import MODELS, build
from localgrad.experiments.training import Config, Devices, Run, Trainer, Watch

CLASSES, BATCH = 4, 3


class Case(NamedTuple):
    """A model at a tiny size: its value nodes, how far the first is from the loss, its groups."""

    hidden: tuple[int, ...]
    shape: tuple[int, ...]
    values: list[str]
    depth: int
    groups: frozenset[str] = frozenset()


def attention(block):
    return [
        *(f"{block}.{part}" for part in ("query", "key", "value", "attention", "expand")),
        block,
    ]


LAYERS = [f"layers[{k}]" for k in range(2)]
CONVOLUTIONS = [f"convolutions[{k}]" for k in range(5)]
DENSE = [f"dense[{k}]" for k in range(2)]
RESNET = [name for k in range(8) for name in (f"blocks[{k}].convolutions[0]", f"blocks[{k}]")]
PUBLISHED = Case((2, 3, 5, 4), (1, 14, 14), [*CONVOLUTIONS[:2], *DENSE], 4)
CASES = {
    "mlp": Case((6, 5), (3, 4, 2), LAYERS, 2),
    "mlp-ar": Case((6, 5), (1, 4, 4), LAYERS, 2),
    "mlp-ar-tanh": Case((6, 5), (1, 4, 4), LAYERS, 2),
    "cnn": Case((3, 2), (2, 4, 5), CONVOLUTIONS[:2], 2),
    "cnn-ar": PUBLISHED,
    "cnn-pc": PUBLISHED,
    "alexnet": Case((4,) * 7, (1, 8, 8), CONVOLUTIONS + DENSE, 7, {"convolutions", "dense"}),
    "rnn": Case((5,), (1, 4, 3), ["cells[0]"], 4, {"scan x 4"}),
    "gru": Case((5,), (2, 4, 3), ["cells[0]"], 4, {"scan x 4"}),
    "lstm": Case((5,), (1, 4, 3), ["cells[0]", "cells[0].memory"], 4, {"scan x 4"}),
    "residual": Case(
        (4, 5),
        (1, 4, 4),
        [
            f"{name}[{k}]{part}"
            for k in range(2)
            for name, part in (("entries", ""), ("blocks", ".convolutions[0]"), ("blocks", ""))
        ],
        6,
        {"block 1", "block 2"},
    ),
    "resnet18": Case(
        (4, 4, 4, 4), (1, 8, 8), ["stem", *RESNET], 17, {f"block {k}" for k in range(1, 9)}
    ),
    "transformer": Case((16,), (1, 4, 8), ["embed", *attention("blocks[0]")], 5, {"block 1"}),
    "decoder": Case((16,), (5,), ["embed", *attention("blocks[0]")], 5, {"block 1"}),
}
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (50,)]


def always(*names):
    """All models for pytest: these are always run, the others in the full matrix only."""
    return [
        pytest.param(name, marks=[] if name in names else pytest.mark.matrix) for name in MODELS
    ]


@functools.cache
def problem(name, loss="cross-entropy", is_text=False):
    """A loss and its arguments, in single precision: parameters, three inputs, their labels."""
    hidden, shape, *_ = CASES[name]
    shape = (5,) if is_text else shape
    with jax.enable_x64(False):  # the same numbers whoever asks first
        model = build(name, hidden, 0, shape=shape, classes=CLASSES)
    generator = np.random.default_rng(0)
    if len(shape) == 1:
        inputs, labels = generator.integers(0, CLASSES, (2, BATCH, *shape), np.int32)
    else:
        inputs = generator.random((BATCH, *shape), np.float32)
        labels = np.arange(BATCH, dtype=np.int32)

    def function(params, inputs, labels):
        return LOSSES[loss](model.apply(params, inputs), labels)

    return function, (model.params, inputs, labels)


def miss(got, want):
    """The worst leaf's largest difference, over its largest entry."""
    return max(
        float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    )


def test_every_model_has_a_case():
    assert list(CASES) == list(MODELS)


@pytest.mark.rows(2)
@pytest.mark.parametrize("name", MODELS)
def test_value_nodes(name):
    function, args = problem(name)
    view = lg.graph(function)(*args)
    assert [vertex.name for vertex in view.vertices] == [*CASES[name].values, "loss"]
    assert view.depth == CASES[name].depth
    found = {labels[0] for labels in view.groups.values() if labels}
    assert found == CASES[name].groups


def test_vertices_of_models_and_losses_have_source_lines():
    trainer = Trainer(Config(hidden=(8,)))
    view = lg.graph(trainer.loss)(trainer.model.params, *trainer.batch(0))
    sources = [vertex.source.rpartition(":") for vertex in view.vertices]
    assert [Path(file).name for file, _, _ in sources] == ["perceptron.py", "losses.py"]
    code = [linecache.getline(file, int(number)) for file, _, number in sources]
    assert "lg.vertex(" in code[0]
    assert ".mean()" in code[1]


@pytest.mark.rows(10)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_models_map_the_data_sets_or_say_what_they_need(name, shape):
    is_text = len(shape) == 1
    is_fit = {
        "decoder": is_text,
        "rnn": True,
        "gru": True,
        "lstm": True,
        "cnn-ar": not is_text and shape[1] >= 14,
        "cnn-pc": not is_text and shape[1] >= 14,
    }.get(name, not is_text)
    if not is_fit:
        with pytest.raises(ValueError, match=r"inputs of shape .* choose (other )?data"):
            build(name, CASES[name].hidden, 0, shape=shape, classes=7)
        return

    def outputs_of(inputs):
        model = build(name, CASES[name].hidden, 0, shape=shape, classes=7)
        return model.apply(model.params, inputs)

    inputs = jax.ShapeDtypeStruct((5, *shape), jnp.int32 if is_text else jnp.uint8)
    outputs = jax.eval_shape(outputs_of, inputs)
    assert outputs.shape == ((5, *shape, 7) if is_text else (5, 7))
    assert outputs.dtype == jnp.float32


@pytest.mark.parametrize("name", MODELS)
def test_usual_sizes(name):
    """Not drawn: ResNet-18 has 11 million parameters."""
    shape = (50,) if name == "decoder" else (3, 32, 32)
    params = jax.eval_shape(lambda: build(name, (), 0, shape=shape, classes=10).params)
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert 10_000 < count < 12_000_000


@pytest.mark.parametrize(
    ("name", "count"),
    # Weights and biases by hand, from the published sizes.
    [
        ("mlp-ar", 3073 * 300 + 301 * 300 + 301 * 100 + 101 * 10),
        ("cnn-ar", 76 * 6 + 151 * 16 + 1601 * 120 + 121 * 120 + 121 * 10),
        ("cnn-pc", 76 * 6 + 151 * 16 + 1601 * 200 + 201 * 150 + 151 * 10),
        # The published count for ten classes is 11,173,962, with batch normalisation's.
        ("resnet18", 11_173_962),
    ],
)
def test_published_sizes(name, count):
    params = jax.eval_shape(lambda: build(name, (), 0, shape=(3, 32, 32), classes=10).params)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.long
def test_the_published_perceptron_is_drawn_as_published():
    layer, _ = build("mlp-ar", (300,), 0, shape=(1, 10, 10)).params.layers
    assert abs(float(jnp.std(layer.weight)) - 0.05) < 1e-3
    assert not layer.bias.any()


def test_images_of_bytes_are_scaled():
    model = build("mlp", (8,), 0)
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8), np.uint8)
    outputs = model.apply(model.params, images)
    scaled = images.astype(np.float32) / 255
    np.testing.assert_allclose(outputs, model.apply(model.params, scaled), rtol=1e-4)


def test_parameters_follow_from_the_seed():
    first, again, other = (build("gru", (8,), seed).params for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert any(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), first, other)))


@pytest.mark.long
def test_the_decoder_does_not_look_ahead():
    model = build("decoder", (16,), 0, shape=(6,), classes=CLASSES)
    text = jnp.array([[0, 1, 2, 3, 0, 1]])
    first, second = (model.apply(model.params, t) for t in (text, text.at[0, 4].set(3)))
    np.testing.assert_array_equal(first[0, :4], second[0, :4])
    assert (first[0, 4:] != second[0, 4:]).all()


@pytest.mark.parametrize(
    ("name", "hidden", "shape", "message"),
    [
        ("perceptron", (), (1, 8, 8), "no model 'perceptron'"),
        ("mlp", (8, 0), (1, 8, 8), "must be positive"),
        ("alexnet", (8, 8), (1, 8, 8), "five numbers of channels and two widths"),
        ("resnet18", (8, 8), (1, 8, 8), "four numbers of channels"),
        ("cnn-ar", (8,), (1, 28, 28), "two numbers of channels at least"),
        ("resnet18", (), (1, 1, 30), "images of 8 x 8 pixels at least"),
        ("transformer", (), (1, 9, 8), "patches of 4 x 4 pixels, which do not fill 9 x 8"),
        ("gru", (), (8, 8), r"images, .*, or text, .*\(8, 8\)"),
    ],
)
def test_models_that_cannot_be_built(name, hidden, shape, message):
    with pytest.raises(ValueError, match=message):
        build(name, hidden, seed=0, shape=shape)


# --- Models of one's own --------------------------------------------------------------------------

OWN = """
import equinox as eqx
import jax
import jax.numpy as jnp
from flax import linen, nnx

import localgrad.equinox
import localgrad.flax


def equinox(shape, classes, key):
    layers = eqx.nn.MLP(64, classes, width_size=32, depth=1, key=key)
    marked = localgrad.equinox.mark(layers, "layers[0]")
    return eqx.nn.Sequential([eqx.nn.Lambda(jnp.ravel), marked])


def flax_linen(shape, classes, key):
    class Network(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(classes)(linen.relu(linen.Dense(32)(x.reshape(len(x), -1))))

    network = Network()
    variables = network.init(key, jnp.zeros((1, *shape)))
    return variables, localgrad.flax.mark(network.apply, "Dense_0")


def flax_nnx(*, key, classes, shape):
    class Network(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(key)
            self.hidden = nnx.Linear(64, 32, rngs=rngs)
            self.out = nnx.Linear(32, classes, rngs=rngs)

        def __call__(self, x):
            return self.out(nnx.relu(self.hidden(x.reshape(len(x), -1))))

    graph, params = nnx.split(localgrad.flax.mark(Network(), "hidden"))
    return params, lambda params, x: nnx.merge(graph, params)(x)


def plain(shape, classes, key):
    w = jax.random.normal(key, (64, classes)) / 8
    return {"w": w}, lambda params, x: x.reshape(len(x), -1) @ params["w"]


def folded(shape, classes, key):
    w = jnp.zeros((*shape, classes))
    return {"w": w}, lambda params, x: jnp.tensordot(x, params["w"], 3)


def text(shape, classes, key):
    return jnp.ones((classes, classes)), lambda table, tokens: table[tokens]


class Masked(eqx.Module):
    layer: eqx.nn.Linear
    mask: jax.Array

    def __init__(self, classes, key):
        self.layer = eqx.nn.Linear(64, classes, key=key)
        self.mask = jax.random.bernoulli(key, 0.5, (64,))

    def __call__(self, image):
        return self.layer(self.mask * image.ravel())


def masked(shape, classes, key):
    return Masked(classes, key)


def enclosed(shape, classes, key):
    mask = jax.random.bernoulli(key, 0.5, (64,))
    return jnp.zeros((64, classes)), lambda w, x: x.reshape(len(x), -1) * mask @ w


def scaled(shape, classes, key):
    scale = float(jax.random.uniform(key))
    return jnp.ones((64, classes)), lambda w, x: scale * x.reshape(len(x), -1) @ w


def resized(shape, classes, key):
    width = int(jax.random.randint(key, (), 8, 99))
    w = jnp.ones((64, width)), jnp.ones((width, classes))
    return w, lambda w, x: x.reshape(len(x), -1) @ w[0] @ w[1]


number = lambda shape, classes, key: 3
counting = lambda shape, classes, key: ({"w": jnp.ones(3), "n": [jnp.arange(2)]}, lambda p, x: x)
fixed = lambda shape, classes, key: jnp.ravel
wide = lambda shape, classes, key: (jnp.ones(64), lambda p, x: x.reshape(len(x), -1) * p)
several = lambda shape, classes, key: (jnp.ones(10), lambda p, x: (p, x))
without_key = lambda shape, classes: None
"""
MARKED = {"equinox": "layers[0]", "flax_linen": "Dense_0", "flax_nnx": "hidden"}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Models in a module of the user's own."""
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_models", None)


@pytest.mark.long
@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", [*MARKED, "plain"])
def test_models_of_ones_own_train_as_they_are(name):
    config = Config(model=f"own_models:{name}", epochs=3, seeds=2, learning_rate=1e-2)
    trainer = Trainer(config, Devices(jax.devices()[:1]))
    *_, last = Run(trainer, Watch()).progress()
    assert (last.accuracy > 0.8).all()
    first, second = (trainer.of_seed(trainer.start().params, k) for k in range(2))
    assert any(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), first, second)))
    assert trainer.compare(last.state.params).max_rel <= 5e-6
    if name in MARKED:
        view = lg.graph(trainer.loss)(first, *trainer.batch(0))
        assert [vertex.name for vertex in view.vertices] == [MARKED[name], "loss"]


@pytest.mark.rows(1)
@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "met"),
    [
        ("masked", "is another function with seed 4 than with 3, though its parameters"),
        ("enclosed", "is another function with seed 4"),
        ("scaled", "is another function with seed 4"),
        ("resized", "parameters of own_models:resized have other shapes with seed 4 than with 3"),
    ],
)
def test_seeds_that_change_more_than_the_parameters_are_not_trained_as_one(name, met):
    config = Config(model=f"own_models:{name}", seed=3)
    assert len(Trainer(config).seeds) == 1
    with pytest.raises(ValueError, match=f"{met}.*; let nothing but .* depend on key"):
        Trainer(replace(config, seeds=2))


@pytest.mark.long
@pytest.mark.usefixtures("own")
def test_a_run_is_not_resumed_with_a_model_that_has_changed(tmp_path, monkeypatch):
    def run(**watch):
        trainer = Trainer(Config(model="own_models:plain", epochs=1, batch_size=256))
        return Run(trainer, Watch(tmp_path / "run", **watch))

    begun = run()
    assert all(progress.step for progress in begun.progress())
    begun.close()
    own_models = sys.modules["own_models"]
    for other in (own_models.equinox, own_models.folded):
        monkeypatch.setattr(own_models, "plain", other)
        with pytest.raises(ValueError, match=r"another run: its .* is .*; give the model"):
            run(resume=True)


@pytest.mark.usefixtures("own")
def test_a_model_of_ones_own_reads_text_and_bytes():
    model = build("own_models:text", (), 0, shape=(5,), classes=3)
    assert model.apply(model.params, np.zeros((2, 5), np.int32)).shape == (2, 5, 3)
    model = build("own_models:plain", (), 0)
    images = np.full((2, 1, 8, 8), 255, np.uint8)
    white = model.apply(model.params, np.ones(images.shape))
    np.testing.assert_array_equal(model.apply(model.params, images), white)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "hidden", "message"),
    [
        ("number", (), "own_models:number returned a value of type int; return a callable model"),
        ("counting", (), r"must be floating point arrays, met int32 at params\['n'\]\[0\]; "),
        ("fixed", (), "nothing in own_models:fixed learns; give it"),
        ("wide", (), r"outputs of shape \(2, 64\); make them \(2, 10\)"),
        ("several", (), "outputs of shape tuple; make them"),
        (
            "without_key",
            (),
            r"unexpected keyword .*'key'; define it as without_key\(shape, c",
        ),
        ("plain", (8,), "the sizes of own_models:plain are its function's business"),
    ],
)
def test_models_of_ones_own_that_cannot_be_trained(name, hidden, message):
    with pytest.raises(ValueError, match=message):
        build(f"own_models:{name}", hidden, 0)


# --- Exactness ------------------------------------------------------------------------------------

TOLERANCE = {"float32": 5e-6, "float64": 1e-13}

DEEP = 1e-5
"""Of ResNet-18 in float32, where `jax.grad` itself is 7.8e-6 off the gradient in float64."""


@functools.cache
def backpropagation(name, dtype, is_text=False):
    """The loss, its arguments in ``dtype``, and its gradient, no leaf of which is zero."""
    function, (params, *data) = problem(name, is_text=is_text)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    gradient = jax.jit(jax.grad(function))(params, *data)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(gradient)} == {dtype}
    assert all(leaf.any() for leaf in jax.tree.leaves(gradient))
    return function, (params, *data), gradient


def assert_exact(name, dtype, rule, is_text=False):
    with jax.enable_x64(dtype == "float64"):
        function, args, want = backpropagation(name, dtype, is_text)
        got = jax.jit(lg.grad(function, rule=rule))(*args)
        is_deep = (name, dtype) == ("resnet18", "float32")
        assert miss(got, want) <= (DEEP if is_deep else TOLERANCE[dtype])


@pytest.mark.rows(2)
@pytest.mark.parametrize("name", MODELS)
def test_zil_is_backpropagation(name):
    assert_exact(name, "float32", lg.ZIL())


@pytest.mark.long
@pytest.mark.parametrize("name", always("mlp-ar", "cnn", "lstm", "transformer"))
def test_zil_is_backpropagation_in_double_precision(name):
    assert_exact(name, "float64", lg.ZIL())


@pytest.mark.rows(2)
@pytest.mark.parametrize(
    "name",
    always("mlp", "mlp-ar", "cnn", "cnn-ar", "rnn", "gru", "lstm", "residual", "transformer"),
)
def test_zil_by_the_clock_is_backpropagation(name):
    assert_exact(name, "float32", lg.ZIL(clock=True))


@pytest.mark.matrix
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rule", [lg.ZIL(clock=True), lg.FaZIL()], ids=str)
def test_every_model_under_every_exact_rule(name, dtype, rule):
    assert_exact(name, dtype, rule)


@pytest.mark.long
def test_a_recurrent_network_on_text():
    assert_exact("gru", "float32", lg.ZIL(), is_text=True)


# --- Losses ---------------------------------------------------------------------------------------


def test_losses_are_those_of_the_papers():
    outputs = np.random.default_rng(0).standard_normal((5, CLASSES))
    labels = np.array([0, 3, 1, 1, 2])
    targets = np.eye(CLASSES)[labels]
    softmax = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    expected = {
        "cross-entropy": -np.log(softmax[np.arange(5), labels]).mean(),
        "squared": 0.5 * ((outputs - targets) ** 2).sum(axis=1).mean(),
        "squared-softmax": 0.5 * ((softmax - targets) ** 2).sum(axis=1).mean(),
        "squared-sum": ((outputs - targets) ** 2).sum(),
    }
    found = {name: float(loss(jnp.asarray(outputs), labels)) for name, loss in LOSSES.items()}
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.rows(1)
@pytest.mark.parametrize("loss", LOSSES)
def test_zil_is_backpropagation_of_every_loss(loss):
    function, args = problem("mlp", loss)
    got, want = jax.jit(lg.grad(function))(*args), jax.jit(jax.grad(function))(*args)
    assert miss(got, want) <= TOLERANCE["float32"]


def test_the_example_in_the_documentation():
    (example,) = doctest.DocTestFinder(recurse=False).find(build, "build", globs={})
    assert doctest.DocTestRunner().run(example) == (0, 4)
