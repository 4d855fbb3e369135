"""`audit`: what is local is found to be local, and what cheats is caught."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import localgrad as lg
from localgrad._engine import Clocked, Simulation, Synchronous
from localgrad._graph import each, entries
from localgrad._jaxpr import flatten
from localgrad._jaxpr.dependence import Dependence, Flow

KEYS = jax.random.split(jax.random.key(0), 4)
WS = [jax.random.normal(key, (3, 3)) for key in KEYS]
X = jnp.ones(3)


def chain(ws, x):
    for k, w in enumerate(ws):
        x = lg.vertex(jnp.tanh(x @ w), f"h{k}")
    return jnp.sum(x**2)


def linear_chain(ws, x):
    for k, w in enumerate(ws):
        x = lg.vertex(x @ w, f"h{k}")
    return jnp.sum(x**2)


def recurrent(w, xs):
    def body(h, x):
        h = lg.vertex(jnp.tanh(h @ w + x), "h")
        return h, h

    _, hs = lax.scan(body, jnp.zeros(3), xs)
    return jnp.sum(hs**2)


def audited(rule, f=chain, args=(WS, X), **options):
    return lg.audit(f, rule=rule, **options)(*args).rules[0]


def reads(audited, name, kind="state"):
    return {read.of: read.relation for read in audited.vertices[name].of(kind)}


LOCAL = {
    "il": lg.InferenceLearning(),
    "fixed-prediction": lg.FixedPrediction(),
    "ar": lg.ActivationRelaxation(),
    "ar from the activity": lg.ActivationRelaxation(start="activity"),
    "zil": lg.ZIL(),
    "zil without relays": lg.ZIL(clock=True, levelled=False),
    "fa-zil, token": lg.FaZIL(),
    "fa-zil, value": lg.FaZIL(phi=lg.ValuePhi(), settle="relaxation"),
}
SWEEPS = {
    "ar, top-down": lg.ActivationRelaxation(schedule="top-down", rate=1.0, steps=1),
    "backprop": lg.Backprop(),
}


# What is true of the rules.


@pytest.mark.parametrize("f", [chain, linear_chain], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", LOCAL)
def test_local_rules_are_local(name, f):
    result = audited(LOCAL[name], f)
    assert result.is_local
    assert result.is_unrolled
    assert not result.mixing
    assert not result.opaque


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps_are_not_local(name):
    result = audited(SWEEPS[name])
    assert not result.is_local
    assert result.vertices["h3"].is_local  # its child is the loss
    assert reads(result, "h0") == {"h0": "own", "h1": "child"} | dict.fromkeys(
        ["h2", "h3", "loss"], "other"
    )
    assert result.clocks == ()


def test_what_a_vertex_reads():
    result = audited(lg.InferenceLearning())
    assert reads(result, "h1") == {"h0": "parent", "h1": "own", "h2": "child"}
    assert reads(result, "h1", "parameter") == {"args[0][1]": "own", "args[0][2]": "child"}
    assert reads(result, "h1", "stored") == {}
    assert reads(result, "h0", "data") == {"args[1]": "own"}
    parameter = result.parameters["args[0][2]"]
    assert {read.of: read.relation for read in parameter.of("state")} == {
        "h1": "co-parent",
        "h2": "child",
    }
    frozen = audited(lg.FixedPrediction())
    assert reads(frozen, "h1") == {"h1": "own", "h2": "child"}
    assert reads(frozen, "h1", "stored") == {"h1": "own"}


def test_co_parents_are_read_through_their_child():
    def f(ws, x):
        a, b = lg.vertex(x @ ws[0], "a"), lg.vertex(x @ ws[1], "b")
        c = lg.vertex(a * b, "c")
        return jnp.sum(lg.vertex(c @ ws[2], "d") ** 2)

    result = audited(lg.InferenceLearning(), f)
    assert reads(result, "a") == {"a": "own", "b": "co-parent", "c": "child"}
    assert result.is_local
    assert not result.vertices["a"].bends  # a product is linear in each of its factors


CLOCKS = {"zil": ("level", "time"), "zil without relays": ("level", "time")}
PHASES = {
    "fa-zil, token": ("forward pass", "steps"),
    "fa-zil, value": ("steps",),
    "backprop": ("forward pass", "steps"),
}
STORED = {"fixed-prediction", "ar", "ar from the activity", "zil", "zil without relays", *SWEEPS}


@pytest.mark.parametrize("f", [chain, recurrent], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", LOCAL | SWEEPS)
def test_clock_phases_and_stored_values(name, f):
    args = (WS, X) if f is chain else (WS[0], jnp.ones((3, 3)))
    result = audited((LOCAL | SWEEPS)[name], f, args)
    assert result.clocks == CLOCKS.get(name, ())
    assert result.phases == PHASES.get(name, ("forward pass", "steps", "read-out"))
    assert result.uses_stored == (name in STORED)


@pytest.mark.parametrize("name", LOCAL | SWEEPS)
def test_weights_and_derivatives(name):
    bent, linear = (audited((LOCAL | SWEEPS)[name], f) for f in (chain, linear_chain))
    for result in (bent, linear):
        assert result.needs_symmetric_weights
        assert [v.weights for v in result.vertices.values() if "relays" not in v.name] == [
            ("args[0][1]",), ("args[0][2]",), ("args[0][3]",), ()
        ]  # fmt: skip
    assert (bent.messages_bend, linear.messages_bend) == (True, False)
    assert (bent.plasticity_bends, linear.plasticity_bends) == (True, False)
    assert not bent.vertices["h3"].bends  # the loss has its derivative in any case


@pytest.mark.parametrize("name", LOCAL | SWEEPS)
def test_feedback_weights_free_of_weight_transport(name):
    synapses = lg.Synapses.random(jax.random.key(1), WS)
    result = audited((LOCAL | SWEEPS)[name], args=(synapses, X))
    assert result.needs_symmetric_weights == (name == "backprop")  # it has no use for them
    if name == "backprop":
        return
    assert result.messages_bend
    assert result.is_local == (name in LOCAL)
    twins = {r.of: r.relation for r in result.vertices["h0"].of("twin")}
    assert twins["args[0].forward[1]"] == "child"
    some = lg.Synapses(WS, [None, WS[0], None, WS[0]])
    result = audited((LOCAL | SWEEPS)[name], args=(some, X))
    assert {w for v in result.vertices.values() for w in v.weights} == {"args[0].forward[2]"}


DROPPED = {
    "everywhere": (True, True),
    "messages": (True, False),
    "parameters": (False, True),
    "nowhere": (False, False),
}


@pytest.mark.parametrize("where", DROPPED)
@pytest.mark.parametrize("rule", [lg.ActivationRelaxation, lg.InferenceLearning])
def test_dropped_derivatives(rule, where):
    def f(ws, x):
        for k, w in enumerate(ws[:-1]):
            x = lg.vertex(jax.nn.silu(x @ w), f"h{k}")
        return jnp.sum((x @ ws[-1]) ** 2)

    result = audited(rule(derivatives=where), f)
    assert (result.messages_bend, result.plasticity_bends) == DROPPED[where]


# Rules and simulations that cheat are caught.


class GlobalMean(Simulation):
    """Adds the mean of all errors to every value."""

    def step(self, state, outside=None):
        new = super().step(state, outside)
        total = sum(jnp.mean(neuron.error) for neuron in entries(state))
        return each(lambda neuron: neuron._replace(value=neuron.value + 0.0 * total), new)


class Informed(Simulation):
    """Has the true gradient up its sleeve."""

    def __init__(self, rule, problem):
        super().__init__(rule, problem)
        self.exact = jax.grad(lambda leaves: problem.f(*leaves)[0])(list(problem.leaves))

    def step(self, state, outside=None):
        hint = sum(jnp.sum(g) for g in self.exact)
        return each(lambda n: n._replace(error=n.error + hint), super().step(state))


class Ordered(Simulation):
    """Tells every vertex what to do."""

    @property
    def outside(self):
        return jnp.arange(self.steps) > 2

    def step(self, state, outside=None):
        new = super().step(state)
        return each(
            lambda a, b: jax.tree.map(lambda x, y: jnp.where(outside, x, y), a, b), new, state
        )


class InTwoPhases(Simulation):
    """Relaxes in two ways, one after the other."""

    def run(self, state):
        half = lax.fori_loop(
            0, 3, lambda _, s: each(lambda n: n._replace(error=-n.error), s), state
        )
        return super().run(half)


class Remembering(NamedTuple):
    neurons: object
    total: object


class Blackboard(Simulation):
    """All vertices write to and read from one number."""

    def begin(self):
        return Remembering(super().begin(), jnp.zeros(()))

    def neurons(self, state):
        return state.neurons

    def step(self, state, outside=None):
        values = each(self.rule.update, state.neurons, *self.signals(state))
        values = each(lambda n: n._replace(value=n.value + state.total), values)
        return Remembering(values, sum(jnp.sum(n.value) for n in entries(values)))


def cheating(simulation):
    @lg.learning_rule
    class Cheating(lg.InferenceLearning):
        engine: ClassVar[Synchronous] = Synchronous(simulation)

    return Cheating()


@pytest.mark.parametrize("simulation", [GlobalMean, Informed, Blackboard])
@pytest.mark.parametrize("f", [chain, recurrent], ids=lambda f: f.__name__)
def test_what_is_not_local_is_caught(simulation, f):
    args = (WS, X) if f is chain else (WS[0], jnp.ones((6, 3)))
    if simulation is Informed and f is recurrent:
        pytest.skip("all that the true gradient reads, its one parameter, is read by every vertex")
    result = audited(cheating(simulation), f, args)
    assert not result.is_local
    assert result.clocks == ()
    for vertex in result.vertices.values():
        assert not vertex.is_local


def test_an_order_from_outside_is_caught():
    result = audited(cheating(Ordered))
    assert result.clocks == ("outside",)
    assert result.phases == ("forward pass", "steps", "order from outside", "read-out")


def test_two_different_loops_are_two_phases():
    result = audited(cheating(InTwoPhases))
    assert result.phases == ("forward pass", "steps", "steps 2", "read-out")


def test_a_rule_that_peeks_at_the_clock_is_caught():
    @lg.learning_rule
    class Peeking(lg.InferenceLearning):
        engine: ClassVar[Synchronous] = Synchronous(Clocked)

        def error(self, state, prediction, level, time):
            return super().error(state, prediction)

        def update(self, state, prediction, error, feedback, level, time):
            new = super().update(state, prediction, error, feedback)
            return new._replace(value=new.value / (1 + time))

    class Blind(Peeking):
        def update(self, state, prediction, error, feedback, level, time):
            return lg.InferenceLearning.update(self, state, prediction, error, feedback)

    class Levelling(Peeking):
        def update(self, state, prediction, error, feedback, level, time):
            new = lg.InferenceLearning.update(self, state, prediction, error, feedback)
            return new._replace(value=new.value * level)

    assert audited(Peeking()).clocks == ("time",)
    assert audited(lg.learning_rule(Blind)()).clocks == ()
    assert audited(lg.learning_rule(Levelling)()).clocks == ("level",)


class Counting(NamedTuple):
    error: object
    age: object


def test_a_clock_of_ones_own_is_a_clock():
    @lg.learning_rule
    class Aging(lg.FixedPrediction):
        def initial(self, value):
            return Counting(jnp.zeros_like(value), jnp.zeros(value.shape, jnp.int32))

        def error(self, state, prediction):
            return state.error

        def update(self, state, prediction, error, feedback):
            return Counting(jnp.where(state.age < 3, feedback, error), state.age + 1)

    assert audited(Aging()).clocks == ("h0", "h1", "h2", "h3")


def test_iterations_that_see_each_other_are_caught():
    @lg.learning_rule
    class Averaging(lg.InferenceLearning):
        def update(self, state, prediction, error, feedback):
            return super().update(state, prediction, error, feedback - jnp.mean(feedback, 0))

    result = audited(Averaging())
    assert result.mixing == ("update",)
    assert result.is_local  # one layer is one vertex
    assert not audited(Averaging(), recurrent, (WS[0], jnp.ones((3, 3)))).is_local


def test_no_step_no_audit():
    class Own(Simulation):
        def derivative(self):
            return super().derivative()

    for rule in (cheating(Own),):
        with pytest.raises(TypeError, match="what to do: replace begin, step"):
            audited(rule)


# Scans, opaque vertices, options, printing.


def test_every_iteration_of_a_scan_is_a_vertex():
    result = audited(lg.InferenceLearning(), recurrent, (WS[0], jnp.ones((4, 3))))
    assert list(result.vertices) == ["h", "h.2", "h.3", "h.4"]
    assert reads(result, "h.2") == {
        "h": "parent", "h.2": "own", "h.3": "child", "h.4": "co-parent", "loss": "child"
    }  # fmt: skip
    assert result.is_local


def test_very_long_scans_stay_stacked():
    result = audited(lg.InferenceLearning(), recurrent, (WS[0], jnp.ones((2000, 3))))
    assert not result.is_unrolled
    assert result.is_local
    assert list(result.vertices) == ["h"]
    cheat = audited(cheating(GlobalMean), recurrent, (WS[0], jnp.ones((2000, 3))))
    assert cheat.is_local  # there is only one vertex: said by is_unrolled


def test_relays_are_vertices():
    def f(w, x):
        a = lg.vertex(jnp.tanh(x @ w), "a")
        b = lg.vertex(jnp.tanh(a @ w), "b")
        return jnp.sum(lg.vertex(a + b, "c") ** 2)

    result = audited(lg.FaZIL(), f, (WS[0], X))
    assert set(result.vertices) == {"a", "b", "c", "a.relays"}
    assert result.is_local
    assert reads(result, "a") == {"a": "own", "a.relays": "child", "b": "child"}


def test_opaque_vertices_are_named_with_their_lines():
    @jax.custom_vjp
    def odd(x):
        return jnp.tanh(jnp.sin(x))

    odd.defvjp(lambda x: (odd(x), x), lambda x, g: (g,))
    result = lg.audit(lambda w, x: jnp.sum(odd(x @ w) ** 2), rule=lg.FaZIL())(WS[0], X)
    (opaque,) = result.rules[0].opaque
    assert opaque.startswith("custom_vjp_call (")
    assert "test_audit.py:" in opaque
    assert f"opaque: {opaque}" in str(result)


def test_branches_and_options():
    def f(w, x, flag, *, scale):
        h = lax.cond(flag, jnp.tanh, jnp.sin, x @ w)
        return scale * jnp.sum(h**2), "aux"

    audit = lg.audit(f, has_aux=True, rule=lg.InferenceLearning(), vertices="elementary")
    assert audit(WS[0], X, True, scale=2.0).rules[0].is_local
    assert audit(WS[0], X, jnp.array(True), scale=2.0).rules[0].is_local


def test_scorecard():
    result = lg.audit(chain)(WS, X)
    assert {a.rule.name for a in result.rules} >= {"ar", "backprop", "fa-zil", "il", "zil"}
    text = str(result)
    assert max(map(len, text.splitlines())) <= 80
    rows = {line.split()[0]: line.split() for line in text.splitlines()[2:] if line}
    assert rows["fa-zil"] == ["fa-zil", "yes", "yes", "yes", "yes", "no", "2", "no"]
    assert rows["zil"] == ["zil", "yes", "yes", "yes", "yes", "yes", "3", "yes"]
    assert rows["backprop"] == ["backprop", "no", "yes", "yes", "yes", "no", "2", "yes"]
    assert "zil: audited by the clock" in text
    assert result["zil"].rule == lg.ZIL()
    assert max(map(len, str(result["zil"]).splitlines())) <= 80
    top_down = lg.audit(chain, rule=[lg.ActivationRelaxation(schedule="top-down", steps=3)])
    assert max(map(len, str(top_down(WS, X)).splitlines())) <= 80


# No true dependence is dropped.


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("f", [chain, recurrent], ids=lambda f: f.__name__)
def test_what_moves_a_vertex_is_among_its_reads(name, f):
    """Shake the state of one vertex, and see which others it moves in one step."""
    from localgrad._call import Signature
    from localgrad._inspect.labelled import _places, _unrolled

    args = (WS, X) if f is chain else (WS[0], jnp.ones((3, 3)))
    rule = lg.ZIL(clock=True) if name == "zil" else LOCAL[name]
    result = audited(rule, f, args)
    call = Signature.of(f, 0, False, False, False, rule, None).bind(args, {})
    simulation = rule.engine.simulation(rule, _unrolled(call.problem)[0])
    places = _places(simulation.network)
    state, outside = simulation.begin(), jax.tree.map(lambda x: x[-1], simulation.outside)
    for _ in range(2):  # past the silence of the beginning
        state = simulation.step(state, outside)
    after = simulation.neurons(simulation.step(state, outside))

    def other_than(x):
        return ~x if x.dtype == bool else x + 1 if x.dtype == jnp.int32 else x + 0.3

    moved = 0
    for path, other in places.items():
        if not path:
            continue
        neurons = dict(simulation.neurons(state))
        neurons[path[0]] = jax.tree.map(other_than, neurons[path[0]])
        new = neurons if state is simulation.neurons(state) else state._replace(neurons=neurons)
        new = simulation.neurons(simulation.step(new, outside))
        for (key,), vertex in ((p, v) for p, v in places.items() if p):
            pairs = zip(jax.tree.leaves(new[key]), jax.tree.leaves(after[key]), strict=True)
            if any(not np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs):
                moved += 1
                assert other in reads(result, vertex)
    assert moved >= 2 * len(result.vertices) - 1


def dependence(f, *args):
    """Which arguments each result reads."""
    program = flatten(jax.make_jaxpr(f)(*args))
    flows = [Flow(1 << k) for k, _ in enumerate(program.inputs)]
    results = Dependence(lambda name, flow: flow).run(program, flows)
    return [{k for k in range(len(flows)) if flow.reads >> k & 1} for flow in results]


@jax.custom_jvp
def first_of(a, b):
    return jnp.sin(a)


first_of.defjvp(lambda primals, tangents: (first_of(*primals), tangents[1]))


@jax.custom_vjp
def second_of(a, b):
    return jnp.sin(b)


second_of.defvjp(lambda a, b: (second_of(a, b), None), lambda _, g: (g, g))


def rotated(a, b, c, d):
    """A scan whose carries go round."""
    return lax.scan(
        lambda now, x: ((now[1], now[2], now[0]), now[0] + x), (a, b, c), jnp.stack([d] * 5)
    )


def counted(a, b, c, d):
    """A while loop of which the second carry decides how often it runs."""
    return lax.while_loop(lambda s: s[1] < c, lambda s: (s[0] * 2, s[1] + 1, s[2] - d), (a, b, d))


def chosen(a, b, c, d):
    return lax.cond(a > 0, lambda: (b, d), lambda: (c, -d))


@pytest.mark.parametrize(
    ("f", "want"),
    [
        (lambda a, b, c, d: (a + 0.0 * b, jnp.zeros_like(c), d), [{0, 1}, set(), {3}]),
        (lambda a, b, c, d: first_of(a, b) + jax.checkpoint(jnp.sin)(c), [{0, 2}]),
        (lambda a, b, c, d: second_of(a, b), [{1}]),
        (lambda a, b, c, d: jax.grad(second_of)(a, b), [set()]),
        (lambda a, b, c, d: jax.jit(lambda x, y: (y, x))(a, b), [{1}, {0}]),
        (rotated, [{0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {0, 1, 2, 3}]),
        (counted, [{0, 1, 2}, {1, 2}, {1, 2, 3}]),
        (chosen, [{0, 1, 2}, {0, 3}]),
        (lambda a, b, c, d: lax.cond(np.bool_(True), lambda: a, lambda: b), [{0}]),
        (lambda a, b, c, d: jnp.where(np.bool_(True), a, b), [{0}]),
        (lambda a, b, c, d: jnp.where(a > 0, b, c), [{0, 1, 2}]),
        (lambda a, b, c, d: lax.scan(lambda s, _: (d, s), a, None, 3), [{0, 3}, {0, 3}]),
    ],
)  # fmt: skip
def test_dependence(f, want):
    args = [jnp.float32(k) for k in range(4)]
    assert dependence(f, *args) == want
