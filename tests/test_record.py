"""`record`: what every vertex did, under the names and at the times that were promised."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import localgrad as lg

IL = lg.InferenceLearning


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def worked_example(theta, s_in, target):
    """Song et al.'s chain. Its output's error is what the loss sends, `nudge * (out - target)`."""
    theta1, theta2, theta3 = theta
    x2 = lg.vertex(theta3 * s_in, "x2")
    x1 = lg.vertex(theta2 * jnp.tanh(x2), "x1")
    return 0.5 * (theta1 * jnp.tanh(x1) - target) ** 2


THETA, S_IN, TARGET = (0.8, -0.5, 1.2), 0.7, 0.3
TABLE = {
    "out": (0.564054374765, 0.252712542821, 0.412404119199),
    "x1": (0.0, 0.402082838184, 0.171164743619),
    "x2": (0.0, 0.0, -0.106484790245),
}
"""`-e` at t = 0, 1, 2."""


def chain(ws, x):
    for k, w in enumerate(ws):
        x = lg.vertex(jnp.tanh(x @ w), f"h{k}")
    return 0.5 * jnp.sum(x**2)


def weights(depth, dtype="float64", size=4):
    keys = jax.random.split(jax.random.key(0), depth)
    return [jax.random.normal(key, (size, size), dtype) / 2 for key in keys]


def data(dtype="float64", size=4):
    return jax.random.normal(jax.random.key(1), (3, size), dtype)


def recurrent(w, x):
    """Levels differ by one from iteration to iteration: no relays, and the scan stays a stack."""
    h, _ = lax.scan(lambda h, x: (jnp.tanh(h @ w + x), None), x[0], x)
    return 0.5 * jnp.sum(h**2)


def residual(ws, x):
    """A scan with a skip connection: relays, and so an unrolled scan."""
    x, _ = lax.scan(lambda x, w: (x + jnp.tanh(x @ w), None), x, jnp.stack(ws))
    return jnp.sum(jnp.sin(x))


def opposite(ws, x):
    """Nested scans in opposite directions, of which the inner starts from a constant."""

    def inner(h, w):
        return jnp.tanh(h @ w + x) + h, None

    def outer(y, _):
        h, _ = lax.scan(inner, jnp.zeros_like(x), jnp.stack(ws), reverse=True)
        return y * jnp.cos(h), None

    y, _ = lax.scan(outer, x, jnp.arange(2.0))
    return jnp.sum(y**2)


def branched(ws, x):
    def yes(x):
        return jnp.tanh(x @ ws[0])

    def no(x):
        return jnp.sin(x)

    x = lax.cond(x[0, 0] > 0, yes, no, x @ ws[1])
    x = jax.checkpoint(lambda x: jnp.cos(x @ ws[2]))(x) + x
    return jnp.sum(x**2)


def test_the_table_of_the_worked_example():
    recording = lg.record(worked_example, rule=IL(steps=2, rate=1.0))(THETA, S_IN, TARGET)
    assert recording.times.tolist() == [0, 1, 2]
    out = THETA[0] * jnp.tanh(recording["x1"].value)
    assert recording["loss"].error.tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(TARGET - out, TABLE["out"], atol=1e-12)
    for name in ("x1", "x2"):
        np.testing.assert_allclose(-recording[name].error, TABLE[name], atol=1e-12)
    np.testing.assert_allclose(recording.loss, 0.5 * np.square(TABLE["out"]), rtol=1e-10)
    energies = [recording[name].energy for name in recording.names]
    np.testing.assert_allclose(recording.energy, sum(energies), rtol=1e-12)
    np.testing.assert_allclose(energies[1], 0.5 * np.square(TABLE["x1"]), atol=1e-12)


def test_its_diagonal_is_z_il():
    recording = lg.record(worked_example, rule=lg.ZIL(clock=True))(THETA, S_IN, TARGET)
    for level, name in enumerate(("loss", "x1", "x2")):
        assert recording[name].levels == (level,)
        assert recording[name].plastic.tolist() == [t == level for t in range(3)]
    assert -recording["x1"].error[1] == pytest.approx(TABLE["x1"][1], abs=1e-12)
    assert -recording["x2"].error[2] == pytest.approx(TABLE["x2"][2], abs=1e-12)
    learned = [0.186176281577, -0.275752054193, 0.074539353171]
    np.testing.assert_allclose(recording.gradients, learned, atol=1e-12)


def test_z_il_on_events_is_recorded_on_the_clock():
    events, clock = (
        lg.record(chain, rule=rule)(weights(3), data()) for rule in (lg.ZIL(), lg.ZIL(clock=True))
    )
    assert jax.tree.structure(events) == jax.tree.structure(clock)
    jax.tree.map(np.testing.assert_array_equal, events, clock)
    assert events.delivered == {}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
        events.gradients,
        lg.grad(chain)(weights(3), data()),
    )


FUNCTIONS = {
    f.__name__: (f, args)
    for f, args in (
        (chain, (weights(3, "float32"), data("float32"))),
        (recurrent, (weights(1, "float32")[0], jnp.ones((5, 3, 4), "float32"))),
        (residual, (weights(3, "float32"), data("float32"))),
        (opposite, (weights(2, "float32"), data("float32"))),
        (branched, (weights(3, "float32"), data("float32"))),
    )
}


@pytest.mark.rows(1)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_vertices_have_the_names_of_the_graph(name):
    """Opened branches, unrolled scans and all: each vertex has the error that belongs to it."""
    f, args = FUNCTIONS[name]
    args = jax.tree.map(lambda x: x.astype("float64"), args)
    view = lg.graph(f)(*args)
    relaxed = lg.FixedPrediction(steps=2 * view.depth, rate=1.0)
    exact = lg.record(f, rule=relaxed, every=1000)(*args)
    wave = lg.record(f, rule=lg.ZIL(), every=1000)(*args)
    relays = {n for n in wave.names if n.endswith(".relays")}
    names = {v.name for v in view.vertices}
    assert exact.graph == wave.graph == view
    assert set(exact.names) == set(wave.names) - relays == names
    assert bool(relays) == bool(view.relays) == (name in ("residual", "opposite", "branched"))
    for vertex in view.vertices:
        assert exact[vertex.name].value.shape[1:] == wave[vertex.name].value.shape[1:]
        assert math.prod(exact[vertex.name].copies) == len(vertex.levels)
        seen, known = wave[vertex.name], np.asarray(exact[vertex.name].error[-1])
        # Not there: copies that cannot reach the loss, or on the clock depend on no leaf.
        is_there = np.reshape(seen.levels, seen.copies) >= 0
        np.testing.assert_allclose(
            np.asarray(seen.error[-1])[is_there], known[is_there], atol=1e-12
        )
        assert np.mean(is_there) > 0.5
    for delivered in exact.delivered.values():
        received = delivered[-1][jnp.isfinite(delivered[-1])]  # none in a branch not taken
        np.testing.assert_allclose(received, 1.0, atol=1e-9)


def test_copies_stand_on_leading_axes():
    w, x = weights(1)[0], jnp.ones((5, 3, 4))
    recording = lg.record(recurrent, rule=lg.ZIL())(w, x)
    tanh = recording["tanh"]
    assert (tanh.copies, tanh.shape) == ((5,), (3, 4))
    assert tanh.value.shape == tanh.error.shape == (len(recording.times), 5, 3, 4)
    assert tanh.energy.shape == tanh.plastic.shape == (len(recording.times), 5)
    assert tanh.levels == lg.graph(recurrent)(w, x)["tanh"].levels
    assert jnp.argmax(tanh.plastic, 0).tolist() == list(tanh.levels)
    _, hidden = lax.scan(lambda h, x: (jnp.tanh(h @ w + x),) * 2, x[0], x)
    np.testing.assert_allclose(tanh.value[0], hidden, rtol=1e-12)


def test_relays_are_recorded():
    def skip(w, x):
        h = lg.vertex(x @ w, "h")
        g = lg.vertex(jnp.tanh(h), "g1")
        g = lg.vertex(jnp.tanh(g), "g2")
        return jnp.sum((h + g) ** 2)

    recording = lg.record(skip, rule=lg.ZIL())(weights(1)[0], data())
    assert recording.names == ("h", "h.relays", "g1", "g2", "loss")
    assert (recording["h"].levels, recording["h.relays"].levels) == ((3,), (2, 1))
    assert recording["h.relays"].value.shape == (4, 2, 3, 4)
    assert recording["h.relays"].plastic.tolist() == [
        [t == 2, t == 1] for t in range(4)
    ]  # a relay has no synapses that learn, but it answers to its error at its level all the same


@pytest.mark.long
@pytest.mark.parametrize(
    "rule", [IL(steps=7), lg.ZIL(clock=True), lg.FaZIL()], ids=lambda r: r.name
)
def test_every_so_many_steps(rule):
    args = weights(2), data()
    full = lg.record(chain, rule=rule)(*args)
    last = int(full.times[-1])
    for every in (3, 1000):
        some = lg.record(chain, rule=rule, every=every)(*args)
        assert some.times.tolist() == [*range(0, last, every), last]
        np.testing.assert_allclose(some.energy, full.energy[some.times], rtol=1e-12)
        for a, b in zip(some.vertices, full.vertices, strict=True):
            np.testing.assert_allclose(a.error, b.error[some.times], atol=1e-12)
            # No plasticity is lost: what was plastic since the time before is.
            ends = np.searchsorted(some.times, np.arange(last + 1))
            for k in range(len(some.times)):
                assert a.plastic[k] == b.plastic[ends == k].any()
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9),
            some.gradients,
            full.gradients,
        )


@pytest.mark.long
def test_memory_is_that_of_what_is_recorded():
    def bytes_of(steps, **options):
        record = jax.jit(lg.record(chain, rule=IL(steps=steps), **options))
        used = record.lower(weights(3, size=32), data(size=32)).compile().memory_analysis()
        return used.temp_size_in_bytes + used.output_size_in_bytes

    few = bytes_of(10)
    assert bytes_of(1000) > 50 * few
    assert bytes_of(1000, every=100) < 1.2 * few


def test_which_vertices():
    def names(only):
        recording = lg.record(chain, rule=IL(steps=2), only=only)(weights(3), data())
        assert len(recording) == len(recording.names) == len(recording.vertices)
        assert recording.energy[-1] == pytest.approx(float(full.energy[-1]))
        return recording.names

    full = lg.record(chain, rule=IL(steps=2))(weights(3), data())
    assert full.names == ("h0", "h1", "h2", "loss")
    assert names(["loss", "h[01]"]) == ("h0", "h1", "loss")
    assert names(lambda name: name > "h1") == ("h2", "loss")
    assert names([]) == ()
    with pytest.raises(ValueError, match=r"only='hh1'.*\n.*test_record.py.*\n.*mean 'h1'"):
        names(["h0", "hh1"])
    with pytest.raises(KeyError, match="did you mean 'h1'"):
        full["hh1"]


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jit_and_vmap(dtype):
    ws, x = weights(3, dtype), data(dtype)
    record = lg.record(chain, rule=IL(steps=4))
    one = record(ws, x)
    assert one["h0"].error.dtype == one.energy.dtype == dtype
    jitted = jax.jit(record)(ws, x)
    assert jax.tree.structure(jitted) == jax.tree.structure(one)
    close = 1e-5 if dtype == "float32" else 1e-12
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=close), one, jitted)

    batch = jax.vmap(record, in_axes=(None, 0))(ws, jnp.stack([x, 2 * x]))
    assert batch["h0"].value.shape == (2, 5, 3, 4)
    assert batch["h0"].levels == one["h0"].levels == (3,)
    first = jax.tree.map(lambda leaf: leaf[0], batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=close), one, first)
    assert "(2, 5)" in str(batch)


@pytest.mark.long
def test_swept_rates():
    def last_energy(rate):
        return lg.record(chain, rule=IL(steps=5, rate=rate))(weights(2), data()).energy[-1]

    rates = jnp.array([0.1, 0.2])
    energies = jax.vmap(last_energy)(rates)
    assert energies.tolist() == pytest.approx([float(last_energy(float(r))) for r in rates])


def test_options_of_grad():
    def f(w, x, label):
        y = x @ w
        return jnp.sum(y**2), {"y": y, "label": label}

    w, x = weights(1)[0], data()
    record = lg.record(f, argnums=(0, 1), has_aux=True, rule=IL(steps=3, nudge=0.5))
    recording = record(w, x, "a string")
    value_and_grad = lg.value_and_grad(f, (0, 1), has_aux=True, rule=IL(steps=3, nudge=0.5))
    (value, aux), gradients = value_and_grad(w, x, "a string")
    assert recording.aux["label"] == "a string"
    np.testing.assert_allclose(recording.aux["y"], aux["y"])
    assert recording.value == pytest.approx(float(value))
    assert recording.loss[0] == pytest.approx(0.5 * float(value))
    assert isinstance(recording.gradients, tuple)
    for a, b in zip(recording.gradients, gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


@pytest.mark.rows(1)
@pytest.mark.parametrize("f", [chain, residual])
def test_inference_learning_descends_the_energy(f):
    args = weights(2), data()
    recording = lg.record(f, rule=IL(steps=60, rate=0.02))(*args)
    assert recording.energy[0] == pytest.approx(float(f(*args)))
    assert np.all(np.diff(recording.energy) <= 1e-12)
    assert recording.energy[-1] < recording.energy[0]
    assert all(v.plastic[-1].all() and not v.plastic[:-1].any() for v in recording.vertices)


def test_fa_z_il_learns_in_a_diagonal_after_the_onset_of_the_target():
    rule = lg.FaZIL(wait_before=3, wait_after=2)
    recording = lg.record(chain, rule=rule)(weights(4), data())
    onset = 3
    pulls = recording["loss"].error.tolist()
    assert pulls == [float(t >= onset) for t in recording.times]
    assert recording.loss[:onset].tolist() == [0.0] * onset
    for level, name in enumerate(reversed(recording.names)):
        assert recording.times[recording[name].plastic].tolist() == [onset + level]


def test_the_part_that_is_delivered():
    """On a chain from zero it is the probability that a wave has come so far (section 6)."""
    rate, steps = 0.3, 12
    rule = lg.ActivationRelaxation(steps=steps, rate=rate)
    recording = lg.record(chain, rule=rule)(weights(4), data())
    for distance, name in enumerate(("h3", "h2", "h1", "h0"), 1):
        for t, part in enumerate(recording.delivered[name]):
            chances = (
                math.comb(t, k) * rate**k * (1 - rate) ** (t - k) for k in range(distance, t + 1)
            )
            assert part == pytest.approx(sum(chances), abs=1e-12)


def test_a_tolerance_ends_the_recording():
    rule = lg.FixedPrediction(steps=400, rate=0.5, tolerance=1e-3)
    recording = lg.record(chain, rule=rule, every=10)(weights(3), data())
    taken = lg.compare(chain, rule=rule)(weights(3), data()).steps
    assert taken < 100
    assert int(recording.times[-1]) == taken
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10),
        recording.gradients,
        lg.grad(chain, rule=rule)(weights(3), data()),
    )


def test_sweeps_from_the_top_down_are_backpropagation():
    """Also through a scan: nothing is cut there."""
    rule = lg.ActivationRelaxation(steps=1, rate=1.0, schedule="top-down")
    w, x = weights(1)[0], jnp.ones((5, 3, 4))
    recording = lg.record(recurrent, rule=rule)(w, x)
    for part in recording.delivered.values():
        np.testing.assert_allclose(part, [np.zeros_like(part[0]), np.ones_like(part[0])], atol=1e-9)
    np.testing.assert_allclose(recording.gradients, jax.grad(recurrent)(w, x), rtol=1e-9)


def test_what_is_not_finite_is_named():
    def stiff(w, x):
        h = lg.vertex(x @ w, "h")
        return jnp.sum(lg.vertex(h**2, "square") ** 2)

    recording = lg.record(stiff, rule=IL(steps=30, rate=2.0), only="h")(weights(1)[0], data())
    assert set(recording.not_finite) == {"h", "square", "loss"}
    first = recording.not_finite["h"]
    is_finite = np.isfinite(recording["h"].value) & np.isfinite(recording["h"].error)
    assert first == np.argmin(is_finite.all((1, 2))) > 2
    assert f"not finite from time {first} on: h" in str(recording)
    quiet = lg.record(stiff, rule=IL(steps=30, rate=0.01))(weights(1)[0], data())
    assert quiet.not_finite == {}


def test_infinities_of_the_forward_pass_are_not_blamed():
    def masked(w):
        scores = lg.vertex(jnp.where(jnp.arange(3) > 0, w, -jnp.inf), "scores")
        return -jax.nn.log_softmax(scores)[1]

    recording = lg.record(masked, rule=lg.FixedPrediction(steps=3, rate=1.0))(jnp.ones(3))
    assert recording.not_finite == {}


@pytest.mark.long
def test_prints_as_a_table():
    def f(ws, x):
        return chain(ws, lg.vertex(x @ ws[0], "a_vertex_with_a_name_that_is_much_too_long_for_it"))

    recording = lg.record(f, rule=lg.ZIL())(weights(3), data())
    lines = str(recording).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("zil, 4 steps, recorded at 5 times, loss ")
    assert lines[2].split()[:3] == ["level", "vertex", "shape"]
    assert [line.split()[0] for line in lines[4:]] == ["0", "1", "2", "3", "4"]
    assert [line.split()[-1] for line in lines[4:]] == ["0", "1", "2", "3", "4"]
    stacked = lg.record(recurrent, rule=lg.ZIL())(weights(1)[0], jnp.ones((5, 3, 4)))
    assert "5 of 3x4" in str(stacked)
    assert len(repr(stacked)) < 80
    assert repr(stacked["tanh"]).startswith("VertexRecording('tanh'")


@pytest.mark.parametrize("rule", [lg.Backprop()])
def test_rules_without_dynamics(rule):
    with pytest.raises(TypeError, match=r"no dynamics.*\n.*test_record.py.*\n.*ZIL\(\)"):
        lg.record(chain, rule=rule)


@pytest.mark.parametrize("every", [0, -1, 1.5, None])
def test_wrong_counts(every):
    with pytest.raises(ValueError, match="every="):
        lg.record(chain, rule=IL(), every=every)
