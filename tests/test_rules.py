"""All rules and all properties that a rule has to have: a new one joins with a row of `RULES`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import localgrad as lg
from oracle import assert_close, assert_equal, differences

IL, FP, AR = lg.InferenceLearning, lg.FixedPrediction, lg.ActivationRelaxation


class Row(NamedTuple):
    """A rule, what equals backpropagation with it, and within which relative difference."""

    rule: lg.Rule
    exact: lg.Rule | None
    within: float = 1e-13


RULES = {
    "backprop": Row(lg.Backprop(), lg.Backprop()),
    "zil": Row(lg.ZIL(), lg.ZIL()),
    "zil by the clock": Row(lg.ZIL(clock=True, rate=0.5), lg.ZIL(clock=True)),
    "fa-zil": Row(lg.FaZIL(), lg.FaZIL()),
    "il": Row(IL(steps=6, rate=0.2, nudge=0.1), IL(steps=30_000, rate=0.2, nudge=1e-6), 1e-4),
    "fixed-prediction": Row(FP(steps=6, rate=0.3), FP(steps=12, rate=1.0)),
    "ar": Row(AR(steps=6, rate=0.3), AR(steps=12, rate=1.0)),
    "ar, top-down": Row(
        AR(steps=2, rate=0.5, schedule="top-down"), AR(steps=1, rate=1.0, schedule="top-down")
    ),
    "ar, unfrozen": Row(AR(steps=4, rate=0.5, start="activity", unfrozen="both"), None),
}
STEPPING = {name: row for name, row in RULES.items() if row.rule.engine == "steps"}
EXACT = {name: row[1:] for name, row in RULES.items() if row.exact}
RELAXING = {
    name: row[1:] for name, row in STEPPING.items() if row.exact and "derivatives" in vars(row.rule)
}

each_rule = pytest.mark.parametrize("rule", [row.rule for row in RULES.values()], ids=RULES)
each_exact = pytest.mark.parametrize(("rule", "within"), EXACT.values(), ids=EXACT)


def test_every_rule_is_here():
    public = {x for x in vars(lg).values() if isinstance(x, type) and issubclass(x, lg.Rule)}
    assert {type(row.rule) for row in RULES.values()} == public - {lg.Rule}


def network(params, x, labels):
    """A residual net with a scan, a cond, a checkpoint, shared and unused parameters."""

    def layer(h, w):
        return jnp.tanh(lg.vertex(h @ w, "layer")) + 0.1 * h, None

    h, _ = lax.scan(layer, lg.vertex(x @ params["in"], "in"), params["layers"])
    h = jax.checkpoint(lambda h: lg.vertex(h @ params["layers"][0], "again"))(h)
    h = lax.cond(labels[0] > 1, lambda h: lg.vertex(jnp.sin(h), "left"), lambda h: h, h)
    logits = jax.nn.log_softmax(h @ params["out"])
    loss = -jnp.mean(jnp.take_along_axis(logits, labels[:, None], 1))
    return loss, {"logits": logits, "text": "kept"}


def draw(dtype="float64", batch=5):
    generator = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(0.5 * generator.standard_normal(shape), dtype)

    params = {"in": normal(3, 4), "layers": normal(3, 4, 4), "out": normal(4, 3), "no": normal(2)}
    return params, normal(batch, 3), jnp.asarray(generator.integers(0, 3, batch))


def gradient(rule, vertices="marked"):
    """The gradient as a function of arrays alone, to be compiled."""
    return lambda *args: lg.grad(network, has_aux=True, rule=rule, vertices=vertices)(*args)[0]


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.rows(2)
@each_rule
def test_value_and_aux_are_those_of_the_function_and_jit_changes_nothing(rule):
    args = draw()
    transform = lg.value_and_grad(network, has_aux=True, rule=rule)
    (value, aux), gradients = transform(*args)
    want, wanted_aux = network(*args)
    assert_close((value, aux["logits"]), (want, wanted_aux["logits"]), 1e-13)
    assert aux["text"] == "kept"
    assert jax.tree.structure(gradients) == jax.tree.structure(args[0])
    np.testing.assert_array_equal(gradients["no"], 0.0)
    assert all(float(jnp.max(jnp.abs(gradients[name]))) > 0 for name in ("in", "layers", "out"))
    assert_close(jax.jit(gradient(rule))(*args), gradients, 1e-12)


@pytest.mark.rows(1)
@pytest.mark.leaks
@each_rule
def test_vmap_over_the_parameters_in_a_scan_of_training_steps(rule):
    params, x, labels = draw()

    def trained(params):
        def step(params, _):
            gradients = gradient(rule)(params, x, labels)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), None

        return lax.scan(step, params, length=2)[0]

    many = jax.tree.map(lambda p: jnp.stack([p, -p]), params)
    got = jax.jit(jax.vmap(trained))(many)
    once = jax.jit(gradient(rule))
    for k in range(2):
        looped = jax.tree.map(lambda p, k=k: p[k], many)
        for _ in range(2):
            gradients = once(looped, x, labels)
            looped = jax.tree.map(lambda p, g: p - 0.1 * g, looped, gradients)
        assert_close(jax.tree.map(lambda p, k=k: p[k], got), looped, 1e-12)


@pytest.mark.long
@pytest.mark.parametrize("name", ["il", "fixed-prediction"])
def test_rates_are_leaves(name):
    """A rule may be an argument of a compiled function, its rate swept and differentiated."""
    args, rule = draw(), RULES[name].rule

    @jax.jit
    def norm(rule):
        gradients = gradient(rule)(*args)
        return sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients))

    def at(rate):
        return norm(type(rule)(**(vars(rule) | {"rate": rate})))

    rates = jnp.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(jax.vmap(at)(rates), [at(float(r)) for r in rates], rtol=1e-12)
    slope = (at(0.2 + 1e-5) - at(0.2 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(at)(0.2), slope, rtol=1e-5)


@pytest.mark.rows(4)
@each_rule
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_dtypes_are_kept(rule, dtype):
    with jax.enable_x64(False):
        args = draw(dtype)
        gradients = jax.jit(gradient(rule))(*args)
        assert {g.dtype for g in jax.tree.leaves(gradients)} == {jnp.dtype(dtype)}
        assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(gradients))


@pytest.mark.rows(3)
@each_rule
def test_functions_with_hardly_any_graph(rule):
    w = jnp.array([0.3, -0.2])
    assert_close(lg.grad(lambda w: w[0], rule=rule)(w), jnp.array([1.0, 0.0]), 1e-14)
    assert_close(lg.grad(lambda w: w, rule=rule)(2.0), jnp.float64(1.0), 1e-14)
    assert_equal(lg.grad(lambda w: 3.0, rule=rule)(w), jnp.zeros(2))
    assert_equal(lg.grad(lambda p: jnp.float64(1.0), rule=rule)({}), {})
    marked = lg.grad(lambda w: jnp.sum(w**2), rule=rule, vertices="elementary")(w)
    assert marked.shape == (2,)


@pytest.mark.rows(3)
@each_exact
@pytest.mark.parametrize("vertices", ["marked", "elementary"])
def test_what_is_exact(rule, within, vertices):
    """On the network, with some marks and without; relaxations take as many steps as it is deep."""
    if hasattr(rule, "steps") and vertices == "elementary" and not rule.sweeps:
        rule = type(rule)(**(vars(rule) | {"steps": max(rule.steps, 100)}))
    args = draw()
    got = jax.jit(gradient(rule, vertices))(*args)
    assert_close(got, jax.jit(gradient(lg.Backprop()))(*args), within)


@pytest.mark.rows(2)
@each_rule
def test_a_sharded_batch(rule):
    """What is computed does not depend on which device computes it."""
    params, x, labels = draw(batch=8)
    want = jax.jit(gradient(rule))(params, x, labels)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    placed = jax.device_put((x, labels), NamedSharding(mesh, P("data")))
    everywhere = jax.device_put(params, NamedSharding(mesh, P()))
    assert_close(jax.jit(gradient(rule))(everywhere, *placed), want, 1e-11)


def loss_of_a_scan(w, x):
    return lax.scan(lambda c, x: (c + jnp.sum(jnp.tanh(w * x)), None), 0.0 * w[0], x)[0]


def loss_of_a_cond(w, x):
    return lax.cond(x[0, 0] > 0, lambda: jnp.sum(jnp.tanh(w)), lambda: jnp.sum(w**3))


def loss_of_a_checkpoint(w, x):
    return jax.checkpoint(lambda w: jnp.sum(jnp.sin(w) * x))(w)


@pytest.mark.rows(4)
@each_exact
@pytest.mark.parametrize("loss", [loss_of_a_scan, loss_of_a_cond, loss_of_a_checkpoint])
def test_a_loss_from_inside(rule, within, loss):
    """The root is given its error also where a scan, a cond or a checkpoint computes it."""
    args = jnp.array([0.3, -0.2]), jnp.array([[1.0, 2.0], [0.5, -1.0], [0.2, 0.1]])
    assert_close(lg.grad(loss, rule=rule)(*args), jax.grad(loss)(*args), within)


@pytest.mark.long
@pytest.mark.parametrize("make", [lg.FixedPrediction, lg.ActivationRelaxation])
def test_a_tolerance_stops_the_relaxation(make):
    """Where 10,000 steps and few of them differ: at rest, and never later than `steps`."""
    args = draw()
    want, _ = jax.jit(jax.grad(lambda *args: (network(*args)[0], 0), has_aux=True))(*args)
    stopped = make(steps=10_000, rate=0.5, tolerance=1e-3)
    got = jax.jit(gradient(stopped))(*args)
    assert_close(got, want, 1e-2)
    assert max(differences(got, want).values()) > 1e-8
    few = jax.jit(gradient(make(steps=3, rate=0.5, tolerance=1e-3)))(*args)
    assert_close(few, jax.jit(gradient(make(steps=3, rate=0.5)))(*args), 1e-13)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: lg.InferenceLearning(steps=0), "steps=0"),
        (lambda: lg.InferenceLearning(steps=2.5), "steps=2.5"),
        (lambda: lg.FixedPrediction(rate=0.0), "rate=0.0"),
        (lambda: lg.FixedPrediction(nudge=0.0), "nudge=0.0"),
        (lambda: lg.ActivationRelaxation(start="one"), "'zero' or 'activity'"),
        (lambda: lg.ActivationRelaxation(schedule="top-down", levelled=True), "together"),
        (lambda: lg.ZIL(rate=-1.0), "rate=-1.0"),
        (lambda: lg.FaZIL(wait_before=-1), "wait_before=-1"),
        (lambda: lg.FaZIL(phi=lg.ValuePhi(quiet=3), wait_before=2), "wait_before=2"),
        (lambda: lg.FaZIL(settle="never"), "settle='never'"),
    ],
)
def test_fields_out_of_range(make, told):
    with pytest.raises(ValueError, match=told) as raised:
        make()
    assert __file__ in str(raised.value)


def test_a_rule_prints_what_is_not_usual():
    assert repr(lg.InferenceLearning()) == "InferenceLearning()"
    assert repr(lg.FaZIL(wait_before=7)) == "FaZIL(wait_before=7)"


@pytest.mark.rows(1)
@pytest.mark.parametrize("loop", [lg.Loop(unroll=3), lg.Loop(convolutions="direct")], ids=repr)
def test_how_the_loop_is_compiled_does_not_matter(loop):
    def loss(kernel, image):
        h = lg.vertex(lax.conv(image, kernel, (1, 1), "SAME"), "h1")
        h = lg.vertex(lax.conv(jnp.tanh(h), kernel, (2, 2), "VALID"), "h2")
        return jnp.sum(h**2)

    generator = np.random.default_rng(1)
    kernel, image = (
        jnp.asarray(generator.standard_normal(s)) for s in [(2, 2, 3, 3), (2, 2, 8, 8)]
    )
    rule = lg.InferenceLearning(steps=7, rate=0.05, nudge=0.1)
    usual = jax.jit(lg.grad(loss, rule=rule))(kernel, image)
    other = lg.InferenceLearning(steps=7, rate=0.05, nudge=0.1, loop=loop)
    assert_close(jax.jit(lg.grad(loss, rule=other))(kernel, image), usual, 1e-11)


def perceptron(weights, x, y):
    """Value nodes after the activation: messages and updates both have its derivative."""
    for k, w in enumerate(weights[:-1]):
        x = lg.vertex(jnp.tanh(x @ w), f"h{k}")
    return 0.5 * jnp.sum((x @ weights[-1] - y) ** 2)


def by_hand(weights, backward, x, y, in_messages, in_updates):
    """Backpropagation with other weights on the way back, and with or without derivatives."""
    values = [x]
    for w in weights[:-1]:
        values.append(jnp.tanh(values[-1] @ w))
    error = values[-1] @ weights[-1] - y
    gradients = [values[-1].T @ error]
    message = error @ backward[-1].T
    for k in reversed(range(len(weights) - 1)):
        slope = 1 - values[k + 1] ** 2
        gradients.insert(0, values[k].T @ (message * slope if in_updates else message))
        message = (message * slope if in_messages else message) @ backward[k].T
    return gradients


def weights_and_data():
    generator = np.random.default_rng(3)
    sizes = [(4, 5), (5, 6), (6, 3)]
    forward, backward = (
        [jnp.asarray(0.5 * generator.standard_normal(s)) for s in sizes] for _ in range(2)
    )
    x, y = (jnp.asarray(generator.standard_normal(s)) for s in [(7, 4), (7, 3)])
    return forward, backward, x, y


@pytest.mark.rows(2)
@each_exact
def test_feedback_weights_of_their_own(rule, within):
    """`Backprop` alone has no use for them."""
    forward, backward, x, y = weights_and_data()
    synapses = lg.Synapses(forward, backward)
    got = jax.jit(lg.grad(perceptron, rule=rule))(synapses, x, y)
    used = forward if isinstance(rule, lg.Backprop) else backward
    assert_close(got.forward, by_hand(forward, used, x, y, True, True), within)
    assert_equal(got.backward, got.forward)


@pytest.mark.rows(6)
@pytest.mark.parametrize("where", ["parameters", "messages", "nowhere", "everywhere"])
@pytest.mark.parametrize(("rule", "within"), RELAXING.values(), ids=RELAXING)
def test_where_the_derivatives_of_units_are_used(rule, within, where):
    forward, backward, x, y = weights_and_data()
    rule = type(rule)(**(vars(rule) | {"derivatives": where}))
    used = (where in ("everywhere", "messages"), where in ("everywhere", "parameters"))
    got = jax.jit(lg.grad(perceptron, rule=rule))(forward, x, y)
    assert_close(got, by_hand(forward, forward, x, y, *used), within)
    got = jax.jit(lg.grad(perceptron, rule=rule))(lg.Synapses(forward, backward), x, y)
    assert_close(got.forward, by_hand(forward, backward, x, y, *used), within)
