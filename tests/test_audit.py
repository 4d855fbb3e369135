"""`audit`: what is local is found to be local, and what cheats is caught."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import localgrad as lg
from localgrad._call import Signature
from localgrad._inspect.labelled import name_of, subject
from localgrad._jaxpr.dependence import Flow, dependence

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


def remembering(w, xs):
    """Only the last iteration is read by the loss."""
    h, _ = lax.scan(lambda h, x: (lg.vertex(jnp.tanh(h @ w + x), "h"), None), jnp.zeros(3), xs)
    return jnp.sum(h**2)


def audited(rule, f=chain, args=(WS, X), **options):
    return lg.audit(f, rule=rule, **options)(*args).rules[0]


def reads(audited, name, kind="state"):
    return {read.of: read.relation for read in audited.vertices[name].of(kind)}


LOCAL = {
    "il": lg.InferenceLearning(),
    "fixed-prediction": lg.FixedPrediction(),
    "ar": lg.ActivationRelaxation(),
    "ar from the activity": lg.ActivationRelaxation(start="activity"),
    "ar, unfrozen": lg.ActivationRelaxation(unfrozen="both"),
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
    near, far = {"h0": "own", "h1": "child"}, dict.fromkeys(["h2", "h3"], "other")
    held = near | far if name != "backprop" else {}  # it has no state before the sweep
    assert reads(result, "h0") == held | {"loss": "other"}
    assert reads(result, "h0", "stored") == near | far
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
    "zil without relays": ("forward pass", "steps"),  # synapses are told by the clock alone
    "fa-zil, token": ("forward pass", "steps"),
    "fa-zil, value": ("steps",),
    "backprop": ("forward pass", "steps"),
}
STORED = {"fixed-prediction", "ar", "ar from the activity", "ar, unfrozen", "zil", *SWEEPS}


@pytest.mark.rows(8)
@pytest.mark.parametrize("f", [chain, recurrent], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", LOCAL | SWEEPS)
def test_clock_phases_and_stored_values(name, f):
    args = (WS, X) if f is chain else (WS[0], jnp.ones((3, 3)))
    result = audited((LOCAL | SWEEPS)[name], f, args)
    assert result.clocks == CLOCKS.get(name, ())
    assert result.phases == PHASES.get(name, ("forward pass", "steps", "read-out"))
    assert result.uses_stored == (name in STORED)


@pytest.mark.rows(5)
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


@pytest.mark.rows(4)
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


# Rules that cheat are caught, and rules that other people write are told apart.


@lg.learning_rule
class Gossip(lg.InferenceLearning):
    """Every vertex adds to its value what the others have written on one blackboard."""

    blackboard: ClassVar[list] = []

    def init(self, mu):
        self.blackboard.clear()
        return super().init(mu)

    def step(self, s, inbox):
        heard = sum(self.blackboard, jnp.zeros(()))
        self.blackboard.append(jnp.mean(s.error))
        new = super().step(s, inbox)
        return new._replace(value=new.value + 0.0 * heard)


@lg.learning_rule
class Flowing(lg.Rule):
    """Errors are added to predictions that flow through, so every vertex sees all before it."""

    flows: ClassVar[bool] = True

    def init(self, mu):
        return jnp.zeros_like(mu)

    def error(self, s, mu):
        return mu * s

    def step(self, s, inbox):
        return s - 0.1 * inbox.error


@pytest.mark.parametrize("rule", [Gossip(), Flowing()], ids=lambda rule: rule.name)
@pytest.mark.parametrize("f", [chain, remembering], ids=lambda f: f.__name__)
def test_what_is_not_local_is_caught(rule, f):
    args = (WS, X) if f is chain else (WS[0], jnp.ones((4, 3)))
    result = audited(rule, f, args)
    assert not result.is_local
    assert result.clocks == ()
    first, second, _, last = result.vertices.values()
    assert reads(result, last.name).items() >= {(first.name, "other"), (second.name, "other")}
    assert first.is_local  # nobody has written yet, and nothing flows into it


@lg.learning_rule
class Deaf(lg.Rule):
    """It never listens to its children."""

    def step(self, s, inbox):
        return s + 0.1 * inbox.error


def test_errors_that_are_not_read_use_no_weights():
    result = audited(Deaf())
    assert reads(result, "h1") == {"h0": "parent", "h1": "own"}
    assert reads(result, "h1", "parameter") == {"args[0][1]": "own"}
    assert not result.needs_symmetric_weights
    assert (result.messages_bend, result.plasticity_bends) == (False, True)


@lg.learning_rule
class Broadcast(lg.Rule):
    """It reads the derivative of the loss, as it was in the forward pass."""

    asks: ClassVar[tuple[str, ...]] = ("top",)

    def step(self, s, inbox):
        return s - inbox.top


def test_the_derivative_of_the_loss_is_its_value_of_the_forward_pass():
    result = audited(Broadcast())
    assert reads(result, "h3", "stored") == {"loss": "child"}
    assert reads(result, "h1", "stored") == {}  # zero, for the loss does not read it
    assert reads(result, "h1") == {"h1": "own"}
    assert result.uses_stored
    assert result.is_local


@lg.learning_rule
class Driven(lg.InferenceLearning):
    """Its phases are a field."""

    stretches: tuple[lg.Phase, ...] = ()

    def phases(self, depth):
        return self.stretches


@pytest.mark.parametrize(
    ("stretches", "want"),
    [
        ([lg.Phase(3), lg.Phase(3, -1.0, -1.0)], ("steps", "steps 2", "read-out")),
        ([lg.Phase(3, 0, 0), *[lg.Phase(3)] * 2], ("steps", "steps 2", "steps 3", "read-out")),
        ([lg.Phase(3, 0, every=True), lg.Phase(3, every=True)], ("steps",)),
        ([lg.Phase(3, 0, 0, True), lg.Phase(3, every=True)], ("steps", "order from outside")),
    ],
)  # fmt: skip
def test_phases_are_what_more_than_the_loss_is_told(stretches, want):
    assert audited(Driven(stretches=tuple(stretches))).phases == ("forward pass", *want)


def test_a_rule_that_peeks_at_the_clock_is_caught():
    class Asking(lg.InferenceLearning):
        asks: ClassVar[tuple[str, ...]] = ("time", "level")

    class Peeking(Asking):
        def step(self, s, inbox):
            new = super().step(s, inbox)
            return new._replace(value=new.value / (1 + inbox.time))

    class Levelling(Asking):
        def step(self, s, inbox):
            new = super().step(s, inbox)
            return new._replace(value=new.value * inbox.level)

    class Timed(Asking):
        def phases(self, depth):
            return (lg.Phase(depth, every=True),)

        def plastic(self, s, inbox):
            return inbox.time == 3

    assert audited(lg.learning_rule(Asking)()).clocks == ()  # it does not look
    assert audited(lg.learning_rule(Peeking)()).clocks == ("time",)
    timed = audited(lg.learning_rule(Timed)())
    assert timed.clocks == ("time",)
    assert timed.phases == ("forward pass", "steps")
    assert {r.of for p in timed.parameters.values() for r in p.of("clock")} == {"time"}
    levelling = audited(lg.learning_rule(Levelling)())
    assert levelling.clocks == ("level",)
    assert reads(levelling, "h1", "level") == {"h1": "own"}


class Counting(NamedTuple):
    error: object
    age: object


def test_a_clock_of_ones_own_is_a_clock():
    @lg.learning_rule
    class Aging(lg.FixedPrediction):
        def init(self, mu):
            return Counting(jnp.zeros_like(mu), jnp.zeros(mu.shape, jnp.int32))

        def error(self, s, mu):
            return s.error

        def step(self, s, inbox):
            return Counting(jnp.where(s.age < 3, inbox.feedback, s.error), s.age + 1)

    @lg.learning_rule
    class Ageless(Aging):
        def step(self, s, inbox):
            return super().step(s, inbox)._replace(age=s.age)

    assert audited(Aging()).clocks == ("h0", "h1", "h2", "h3")
    assert audited(Ageless()).clocks == ()


def test_iterations_that_see_each_other_are_caught():
    @lg.learning_rule
    class Averaging(lg.InferenceLearning):
        def step(self, s, inbox):
            return super().step(
                s, inbox._replace(feedback=inbox.feedback - jnp.mean(inbox.feedback, 0))
            )

    result = audited(Averaging())
    assert result.mixing == ("step",)
    assert result.is_local  # one layer is one vertex
    assert not audited(Averaging(), recurrent, (WS[0], jnp.ones((3, 3)))).is_local


def test_no_step_no_audit():
    @lg.learning_rule
    class Arriving(lg.Rule):
        engine: ClassVar[str] = "events"

        def arrival(self, feedback):
            return feedback

    with pytest.raises(TypeError, match="what to do: audit rules whose engine is 'steps'"):
        audited(Arriving())


# Scans, opaque vertices, options, printing.


def test_every_iteration_of_a_scan_is_a_vertex():
    result = audited(lg.InferenceLearning(), recurrent, (WS[0], jnp.ones((4, 3))))
    assert list(result.vertices) == ["h[0]", "h[1]", "h[2]", "h[3]"]
    assert reads(result, "h[1]") == {
        "h[0]": "parent", "h[1]": "own", "h[2]": "child", "h[3]": "co-parent", "loss": "child"
    }  # fmt: skip
    assert result.is_local


def test_very_long_scans_stay_stacked():
    result = audited(lg.InferenceLearning(), recurrent, (WS[0], jnp.ones((2000, 3))))
    assert not result.is_unrolled
    assert result.is_local
    assert list(result.vertices) == ["h"]
    cheat = audited(Gossip(), recurrent, (WS[0], jnp.ones((2000, 3))))
    assert all(vertex.is_local for vertex in cheat.vertices.values())  # there is only one
    assert cheat.mixing == ("step",)
    assert not cheat.is_local  # its iterations see each other


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


def two_branches(w, x, flag):
    def first(x):
        return lg.vertex(jnp.sin(lg.vertex(x @ w, "a")), "b")

    def second(x):
        return lg.vertex(jnp.tanh(lg.vertex(x @ w, "c")), "d")

    return jnp.sum(lax.cond(flag, first, second, lg.vertex(x * w[0], "in")) ** 2)


@pytest.mark.parametrize("name", LOCAL)
def test_branches_do_not_see_each_other(name):
    result = audited(LOCAL[name], two_branches, (WS[0], X, jnp.array(True)))
    assert result.is_local
    assert reads(result, "a").items() >= {("a", "own"), ("b", "child")}
    assert not {"c", "d"} & reads(result, "a").keys()
    assert reads(result, "in").items() >= {("a", "child"), ("c", "child")}


def test_a_program_with_constants_inside_is_unrolled():
    table = jax.jit(lambda x: x * np.arange(3.0, dtype=np.float32))

    def f(w, xs):
        h, _ = lax.scan(lambda h, x: (lg.vertex(table(h @ w + x), "h"), None), jnp.zeros(3), xs)
        return jnp.sum(h)

    result = audited(lg.InferenceLearning(), f, (WS[0], jnp.ones((2, 3))))
    assert list(result.vertices) == ["h[0]", "h[1]"]
    assert result.is_local


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


@pytest.mark.rows(6)
@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("f", [chain, recurrent], ids=lambda f: f.__name__)
def test_what_moves_a_vertex_is_among_its_reads(name, f):
    """Shake the state of one vertex, and see which others it moves in one step."""
    args = (WS, X) if f is chain else (WS[0], jnp.ones((3, 3)))
    rule = lg.ZIL(clock=True) if name == "zil" else LOCAL[name]
    result = audited(rule, f, args)
    call = Signature.of(f, 0, False, False, False, rule, None).bind(args, {})
    about = subject(rule, call.problem, call.names, "loss", {})
    leaves, dynamics = about.given[1], about.dynamics(about.given)
    names, tree = jax.tree.flatten(dynamics.network.vertices)
    names = [name_of(vertex) for vertex in names]
    forward = dynamics.forward(leaves)

    def stepped(now):
        return dynamics.step(leaves, forward, now, 1.0)

    now = stepped(stepped(dynamics.begin(forward)))  # past the silence of the beginning
    after = tree.flatten_up_to(stepped(now).neurons)

    def other_than(x):
        return ~x if x.dtype == bool else x + 1 if x.dtype == jnp.int32 else x + 0.3

    def shaken(state, k):
        entries = tree.flatten_up_to(state)
        entries[k] = jax.tree.map(other_than, entries[k])
        return tree.unflatten(entries)

    moved = 0
    for k, other in enumerate(names):
        new = now._replace(neurons=shaken(now.neurons, k))
        if now.moved is not None:
            new = new._replace(moved=shaken(now.moved, k), mu=shaken(now.mu, k))
        new = stepped(new)
        for vertex, *states in zip(names, tree.flatten_up_to(new.neurons), after, strict=True):
            pairs = zip(*map(jax.tree.leaves, states), strict=True)
            if any(not np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs):
                moved += 1
                assert other in reads(result, vertex)
    assert moved >= 2 * len(result.vertices) - 1


def reached(f, *args):
    """Which arguments each result reads."""
    sources = tuple(Flow(frozenset([k])) for k, _ in enumerate(args))
    return [set(flow.reads) for flow in jax.tree.leaves(dependence(f, args, sources))]


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
    assert reached(f, *args) == want
