"""Programs that a tracer gets wrong in silence: each kind once, on every rule."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.custom_derivatives import SymbolicZero
from jax.experimental import io_callback
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import localgrad as lg

EXACT = (
    lg.ZIL(),
    lg.ZIL(clock=True),
    lg.FaZIL(),
    lg.FixedPrediction(steps=40, rate=1.0),
    lg.ActivationRelaxation(steps=40, rate=1.0),
)
STEPPING = EXACT[1:]
each_rule = pytest.mark.parametrize("rule", EXACT, ids=repr)

PROGRAMS = {}


def program(refused_by=()):
    """A row: a function without arguments that makes `f` and its arguments."""

    def register(make):
        PROGRAMS[make.__name__] = make, refused_by
        return make

    return register


# Backward passes of one's own ---------------------------------------------------------------------


@jax.custom_vjp
def auxiliary(x, loss):
    return x


auxiliary.defvjp(
    lambda x, loss: (x, loss.shape), lambda shape, g: (g, jnp.ones(shape))
)  # whatever arrives


@jax.custom_jvp
def gate(y, w):
    return y * 1.0


def gated(primals, tangents):
    (y, _), (dy, dw) = primals, tangents
    passes = isinstance(dw, SymbolicZero) and not isinstance(dy, SymbolicZero)
    return y * 1.0, dy if passes else jnp.zeros_like(y)


gate.defjvp(gated, symbolic_zeros=True)


@program(refused_by=(lg.FaZIL,))
def backward_pass_without_its_cotangent():
    return lambda w: jnp.sum(auxiliary(w, jnp.sum(w**2)) * 3), (jnp.arange(3.0),)


@program()
def symbolic_zeros():
    return lambda x, w: jnp.sum(gate(jnp.sin(x), w) * 2), (jnp.arange(3.0), jnp.ones(3))


# Mutable references -------------------------------------------------------------------------------


@program()
def reference_that_is_written():
    def f(x):
        r = jax.new_ref(0.0)
        r[...] = jnp.sin(x)
        return r[...] * 2

    return f, (1.0,)


@program()
def reference_that_starts_with_a_value():
    return lambda x: jnp.sin(jax.new_ref(x)[...]), (1.0,)


@program()
def reference_in_a_loop():
    def f(x):
        r = jax.new_ref(jnp.zeros(()))

        def body(i, carry):
            r[...] = r[...] + jnp.sin(x * i)
            return carry

        lax.fori_loop(0, 3, body, 0)
        return r[...] ** 2

    return f, (1.0,)


@program()
def reference_in_a_checkpoint():
    @jax.checkpoint
    def f(x):
        r = jax.new_ref(jnp.sin(x))
        r[...] = r[...] * x
        return r[...]

    return f, (1.5,)


@program()
def reference_that_is_read_at_several_depths():
    """What was written last for one reader is too new for another."""

    def f(w, x):
        h = jnp.tanh(x @ w)
        r = jax.new_ref(h)
        for _ in range(2):
            r[...] = jnp.tanh(r[...] @ w) + h
        return jnp.sum(r[...] ** 2)

    return f, (jnp.linspace(-1, 1, 9).reshape(3, 3), jnp.linspace(0, 1, 6).reshape(2, 3))


@program()
def reference_that_gathers_the_states_of_a_scan():
    def f(w, x):
        r = jax.new_ref(jnp.zeros((4, 2, 3)))

        def step(h, k):
            r[k] = jnp.tanh(h @ w)
            return jnp.tanh(h @ w + x), None

        h, _ = lax.scan(step, jnp.tanh(x @ w), jnp.arange(4))
        return jnp.sum(jnp.sum(jax.freeze(r), 0) * h)

    return f, (jnp.linspace(-1, 1, 9).reshape(3, 3), jnp.linspace(0, 1, 6).reshape(2, 3))


@program()
def reference_in_a_branch_and_a_call():
    def f(x):
        r = jax.new_ref(jnp.sin(x))

        @jax.jit
        def add(y):
            r[...] += jnp.cos(y)
            return r[0] * y

        def other(y):
            r[0] = y[1]
            return y

        y = lax.cond(x[0] > 0, add, other, x * 2)
        return jnp.sum(y * r[...] ** 2)

    return f, (jnp.asarray([0.3, 0.7]),)


# Loops, branches, masks, settings -----------------------------------------------------------------


@program()
def loops_in_loops():
    def f(x):
        def inner(j, b):
            return jnp.sin(b) + x

        return lax.fori_loop(0, 2, lambda i, a: lax.fori_loop(0, 2, inner, a), x)

    return f, (0.3,)


@program()
def loop_that_starts_from_a_literal():
    def f(x):
        def body(c, _):
            return c * x + lax.fori_loop(0, 2, lambda j, b: jnp.sin(b + c), 0.0), None

        return lax.scan(body, x, None, length=3)[0]

    return f, (0.3,)


@program()
def endless_loop_in_a_branch_not_taken():
    def f(x):
        def endless(x):
            return lax.stop_gradient(lax.while_loop(lambda c: c != 1.0, lambda c: c, x)) * x

        return lax.cond(x > 0, jnp.sin, endless, x)

    return f, (0.3,)


@program()
def error_in_a_branch_not_taken():
    def f(x):
        def fails(x):
            jax.debug.callback(refuse, x)
            return x * 2

        return lax.cond(x > 0, jnp.sin, fails, x)

    return f, (0.3,)


def refuse(x):
    raise AssertionError(f"the branch was not taken, and got {x}")


@program()
def masked_infinities():
    def f(w, mask):
        scores = lg.vertex(jnp.where(mask, w, -jnp.inf), "scores")
        return jnp.sum(jax.nn.softmax(scores)[0] * jnp.arange(3.0))

    return f, (jnp.arange(3.0)[None], jnp.array([[True, True, False]]))


@program()
def weak_types():
    return lambda s: s * 2.0, (0.5,)


@program()
def settings_of_its_own():
    def f(x):
        with jax.enable_x64(True):
            y = jnp.sin(x.astype(jnp.float64)) * 2
        return y.astype(jnp.float32).sum()

    return f, (jnp.arange(3.0),)


@pytest.mark.rows(33)
@each_rule
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name, rule):
    make, refused_by = PROGRAMS[name]
    f, args = make()
    if isinstance(rule, refused_by):
        with pytest.raises(ValueError, match=r"(?s)FaZIL met.*where:.*what to do:"):
            lg.grad(f, rule=rule)(*args)
        return
    got, want = lg.grad(f, rule=rule)(*args), jax.grad(f)(*args)
    assert (got.dtype, got.sharding) == (want.dtype, want.sharding)
    # Since JAX 0.12 its own derivative of a reference is strong.
    assert got.weak_type == want.weak_type or name.startswith("reference")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", [*EXACT, lg.InferenceLearning(steps=3)], ids=repr)
def test_references_from_outside_are_read_and_written_once(rule):
    """The state is read before it is written, however often the engine looks at the program."""

    def run(grad):
        count, state = jax.new_ref(0), jax.new_ref(jnp.full(3, 2.0))

        def f(w):
            count[...] += 1
            h = jnp.tanh(w * state[...])
            state[...] = lax.stop_gradient(h)
            return jnp.sum(jnp.sin(h * w))

        gradient = grad(f)(jnp.arange(3.0))
        return gradient, count[...], state[...]

    gradient, *after = run(partial(lg.grad, rule=rule))
    want, *once = run(jax.grad)
    for got, expected in zip(after, once, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    if rule in EXACT:
        np.testing.assert_allclose(gradient, want, rtol=1e-5)


def test_a_reference_that_a_backward_pass_writes_is_refused():
    sent = jax.new_ref(jnp.zeros(3))

    @jax.custom_vjp
    def spied(x, sent):
        return x

    def backward(sent, g):
        sent[...] = g
        return g, None

    spied.defvjp(lambda x, sent: (x, sent), backward)

    def f(w):
        return jnp.sum(jnp.sin(spied(w * 2, sent)))

    w = jnp.arange(3.0)
    np.testing.assert_allclose(lg.grad(f)(w), jax.grad(f)(w), rtol=1e-6)
    with pytest.raises(NotImplementedError, match="reference from outside"):
        lg.grad(f, rule=lg.InferenceLearning(steps=3))(w)


def test_the_value_that_chooses_a_branch_stands_until_those_inside_have_fired():
    def f(w, x):
        p = jnp.sin(w * 0.01)  # positive, until it has moved

        def taken(y):
            return jnp.sin(jnp.sin(jnp.sin(y)))

        return lax.cond(p > 0, taken, lambda y: jnp.cos(y) * 5, w * x) + 100 * p

    got = lg.grad(f, rule=lg.ZIL(clock=True))(0.7, 0.9)
    np.testing.assert_allclose(got, jax.grad(f)(0.7, 0.9), rtol=1e-6)


@pytest.mark.rows(2)
@pytest.mark.parametrize("rule", STEPPING, ids=repr)
def test_what_is_seen_from_outside_happens_once(rule):
    """However many steps are taken: with vertices beside it in a program, and without."""
    seen = []

    def answer(x):
        seen.append(x)
        return np.float32(0.1)

    def told(x):
        jax.debug.callback(seen.append, x)
        return x + io_callback(answer, x, lax.stop_gradient(x))

    def loss(x):
        h = lg.vertex(told(jnp.sin(x)), "h")
        h = lax.cond(h > 0, lambda h: told(jnp.cos(h)), lambda h: told(told(h)), h)
        h, _ = lax.scan(lambda h, _: (lg.vertex(jnp.tanh(told(h)), "s"), None), h, None, 3)
        h, _ = lax.scan(lambda h, _: (told(jnp.sin(h)), None), h, None, 2)
        lax.cond(h > 0, told, jnp.sin, h)
        return jax.jit(told)(h) ** 2

    x, counts = jnp.float32(0.4), []
    for transform in (jax.grad(loss), lg.grad(loss, rule=rule)):
        seen.clear()
        gradient = transform(x)
        jax.effects_barrier()
        counts.append(len(seen))
    assert gradient == pytest.approx(float(jax.grad(loss)(x)), rel=1e-5)
    assert counts == [18, 18]


@pytest.mark.rows(2)
@each_rule
def test_functions_that_differ_in_a_number_alone(rule):
    """They stand at one line, and are traced one after the other."""
    x = jnp.float32(0.3)
    for number in (2.0, 3.0):

        def loss(x):
            return jnp.sum(lg.vertex(number * jnp.sin(x), "h") ** 2)  # noqa: B023

        assert lg.grad(loss, rule=rule)(x) == pytest.approx(float(jax.grad(loss)(x)), rel=1e-5)


def test_every_value_of_an_equation_is_a_vertex():
    def loss(x):
        q, r = jnp.linalg.qr(x)
        return jnp.sum(jnp.sin(q)) + jnp.sum(jnp.cos(r))

    names = lg.record(loss, rule=lg.InferenceLearning(steps=2))(jnp.eye(2) + 0.1).names
    assert {"qr", "qr:1"} <= set(names)


@lg.learning_rule
class Halving(lg.Rule):
    """A rule on events of which the gradient tells how many vertices an error has passed."""

    engine = "events"

    def arrival(self, feedback):
        return 0.5 * feedback


def branched(cell):
    return lambda c, x: lax.cond(c > 0, cell, lambda c, x: c * x, c, x)


def looped(cell):
    return lambda c, x: lax.scan(lambda x, c: (cell(c, x), None), x, c[None])[0]


INSIDE = {"jit": jax.jit, "checkpoint": jax.checkpoint, "cond": branched, "scan": looped}


@pytest.mark.parametrize("inside", [*INSIDE.values(), lambda f: jax.jit(looped(jax.jit(f)))])
def test_a_vertex_answers_wherever_it_stands(inside):
    """Data come before the activity among the operands."""

    def cell(c, x):
        return lg.vertex(jnp.tanh(c * lg.vertex(jnp.sin(x), "a")), "b")

    def loss(x):
        return jnp.sum(inside(cell)(jnp.float32(0.7), lg.vertex(2 * x, "before")))

    x = jnp.float32(0.3)
    assert lg.grad(loss, rule=Halving())(x) == pytest.approx(jax.grad(loss)(x) / 8)


@pytest.mark.parametrize("reverse", [True, False])
def test_a_scan_has_the_levels_of_its_direction(reverse):
    w, xs = jnp.linspace(-1, 1, 9).reshape(3, 3) / 4, jnp.linspace(0, 1, 12).reshape(4, 3)

    def f(w, xs):
        def step(h, x):
            return lg.vertex(jnp.tanh(h @ w + x), "h"), None

        return jnp.sum(lax.scan(step, jnp.ones(3), xs, reverse=reverse)[0] ** 2)

    got = lg.grad(f, rule=lg.ZIL(clock=True, levelled=False))(w, xs)
    np.testing.assert_allclose(got, jax.grad(f)(w, xs), rtol=1e-5, atol=1e-6)


@pytest.mark.rows(2)
@pytest.mark.parametrize("rule", EXACT[:4], ids=repr)
def test_what_is_seen_keeps_settings_of_the_function(rule):
    f, args = PROGRAMS["settings_of_its_own"][0]()
    assert lg.compare(f, rule=rule)(*args).max_rel < 1e-5
    recording = lg.record(f, rule=rule)(*args)
    np.testing.assert_allclose(recording.gradients, jax.grad(f)(*args), rtol=1e-5)


def test_inference_with_masked_infinities_is_finite():
    f, args = PROGRAMS["masked_infinities"][0]()
    got = lg.grad(f, rule=lg.InferenceLearning(steps=30, rate=0.1, nudge=0.01))(*args)
    np.testing.assert_allclose(got, jax.grad(f)(*args), rtol=0.1, atol=0.01)


@pytest.mark.parametrize("nudge", [0.5, -0.5])
def test_a_branch_taken_is_the_code_inline(nudge):
    """Inference, at every step: a choice is no vertex."""
    w, x = jnp.linspace(-1, 1, 9).reshape(3, 3), jnp.linspace(0, 1, 6).reshape(2, 3)

    def net(way):
        def f(w, x):
            h = jnp.tanh(x @ w)
            return jnp.sum(way(h, lambda h: jnp.tanh(h @ w) ** 2) ** 2)

        return f

    def branch(h, f):
        return lax.cond(h[0, 0] > -2, f, lambda h: h, h)

    rule = lg.InferenceLearning(steps=6, rate=0.1, nudge=nudge)
    inline, chosen = (lg.grad(net(way), rule=rule)(w, x) for way in (lambda h, f: f(h), branch))
    np.testing.assert_allclose(chosen, inline, rtol=2e-6, atol=1e-7)


def test_there_and_back_between_devices():
    here, there = jax.devices()[:2]

    def f(x):
        return jnp.sum(jax.device_put(jnp.sin(jax.device_put(x, there)), here))

    x = jax.device_put(jnp.arange(3.0), here)
    got, want = lg.grad(f)(x), jax.grad(f)(x)
    np.testing.assert_array_equal(got, want)
    assert got.sharding == want.sharding


def convolution(k, x):
    return jnp.sum(lg.vertex(lax.conv_general_dilated(x, k, (1, 1), "SAME"), "c") ** 2)


@pytest.mark.rows(2)
@each_rule
def test_forward_mode_through_a_rule(rule):
    k, x = jnp.ones((2, 1, 3, 3)), jnp.arange(25.0).reshape(1, 1, 5, 5)
    got = jax.jvp(lambda k: lg.grad(convolution, rule=rule)(k, x), (k,), (k,))
    want = jax.jvp(lambda k: jax.grad(convolution)(k, x), (k,), (k,))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def perceptron(w, x):
    return jnp.mean(jnp.tanh(x @ w) ** 2)


@each_rule
def test_symbolic_batches(rule):
    (batch,) = export.symbolic_shape("b,")
    kinds = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((3, 2), (batch, 3))]
    exported = export.export(jax.jit(lg.grad(perceptron, rule=rule)))(*kinds)
    w, x = jnp.ones((3, 2)), jnp.arange(12.0).reshape(4, 3) / 10
    np.testing.assert_allclose(exported.call(w, x), jax.grad(perceptron)(w, x), rtol=1e-5)


@pytest.mark.parametrize("rule", [*EXACT, lg.FixedPrediction(steps=9, tolerance=1e-3)], ids=repr)
def test_strict_promotion(rule):
    def mixed(w, x):
        a = lg.vertex(x @ w, "a")
        return jnp.sum(lg.vertex(a.astype(jnp.bfloat16), "b").astype(jnp.float32) ** 2)

    with jax.numpy_dtype_promotion("strict"):
        assert lg.grad(mixed, rule=rule)(jnp.ones((3, 2)), jnp.ones((4, 3))).shape == (3, 2)


@pytest.mark.rows(2)
@each_rule
def test_explicit_meshes(rule):
    mesh = jax.make_mesh((8,), ("b",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.arange(24.0).reshape(8, 3) / 10, P("b"))
        w = jax.device_put(jnp.ones((3, 2)), P())
        got, want = lg.grad(perceptron, rule=rule)(w, x), jax.grad(perceptron)(w, x)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.rows(2)
@each_rule
def test_a_predicate_that_varies_over_a_mesh(rule):
    mesh = jax.make_mesh((8,), ("b",), axis_types=(AxisType.Auto,))

    def loss(w, x):
        y = lax.cond(lax.axis_index("b") > 2, jnp.sin, jnp.cos, x @ w)
        return lax.psum(jnp.sum(y), "b")

    def run(grad):
        specs = {"mesh": mesh, "in_specs": (P(), P("b")), "out_specs": P()}
        args = 0.3 * jnp.ones((3, 2)), jnp.arange(24.0).reshape(8, 3) / 10
        return jax.jit(jax.shard_map(grad(loss), **specs))(*args)

    np.testing.assert_allclose(
        run(lambda f: lg.grad(f, rule=rule)), run(jax.grad), rtol=1e-5, atol=1e-6
    )


@pytest.mark.rows(2)
@pytest.mark.parametrize("rule", [*EXACT, lg.InferenceLearning(steps=3)], ids=repr)
def test_nothing_is_compiled_twice(rule):
    """A loop of one's own, without `jit`: the second call finds all that the first has compiled."""
    w, x = jnp.ones((3, 3)), jnp.ones((2, 3))

    def loss(w, x):
        h, _ = lax.scan(lambda h, _: (jax.nn.gelu(h @ w), None), x, length=3)
        return -jnp.mean(jax.nn.log_softmax(h))

    def both():
        lg.grad(loss, rule=rule)(w, x)
        lg.compare(loss, rule=rule)(w, x)

    found = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: found.append(name) if "backend_compile" in name else None
    )
    counts = []
    for _ in range(3):
        both()
        counts.append(len(found))
    jax.monitoring.clear_event_listeners()
    assert 0 < counts[0] == counts[1] == counts[2]


# Values reduced over an axis of a mesh -----------------------------------------------------------


def gathered(mesh, end):
    """A loss of values that are reduced: their errors are unreduced, of another type."""
    out = P(reduced={"i"})

    def f(x):
        gather = partial(lax.all_gather, axis_name="i", tiled=True, to="reduced")
        y = jax.shard_map(lambda x: gather(jnp.sin(x)), in_specs=P("i"), out_specs=out, mesh=mesh)
        return end(jnp.sum(jnp.sin(y(x) * 2.0)))

    return f, jax.device_put(jnp.arange(8.0), jax.NamedSharding(mesh, P("i")))


@pytest.mark.skipif(jax.__version_info__ < (0, 10), reason="jax.grad itself is wrong there")
def test_errors_of_another_type_than_their_values():
    mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        f, x = gathered(mesh, lambda loss: loss)
        for grad in (lg.grad(f), jax.jit(lg.grad(f))):
            np.testing.assert_array_equal(grad(x), jax.grad(f)(x))
        for rule in STEPPING:
            with pytest.raises(ValueError, match="reduced over an axis of a mesh"):
                lg.grad(f, rule=rule)(x)
        f, x = gathered(mesh, lambda loss: jax.reshard(loss, P()))
        for rule in EXACT:
            np.testing.assert_allclose(lg.grad(f, rule=rule)(x), jax.grad(f)(x), rtol=1e-6)
