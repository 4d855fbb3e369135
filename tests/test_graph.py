"""The graph: what is a vertex, its level, its parents, the relays it would need."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import localgrad as lg
from simulated import Simulated

X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)
W = jnp.linspace(-0.5, 0.7, 9).reshape(3, 3)


def residual_net(ws, x):
    for w in ws:
        x = x + jnp.tanh(x @ w)
    return -jnp.mean(jax.nn.log_softmax(x)[:, 0])


def marked_net(ws, x):
    for k, w in enumerate(ws):
        x = lg.vertex(x + lg.vertex(jnp.tanh(x @ w), f"h{k}"), f"x{k}")
    return jnp.sum(jnp.sin(x))


def test_worked_example_of_computational_graphs():
    def f(z, s):
        z1, z2, z3 = z
        g = s * z3 + s * z3 * z2 * z1
        return 0.5 * (g - 1.0) ** 2

    view = lg.graph(f)((0.8, -0.3, 0.5), 2.0)
    assert [(v.operation, v.level) for v in view.vertices] == [
        ("mul", 4),  # s z3 on the short path
        ("mul", 6),  # s z3 on the long path
        ("mul", 5),
        ("mul", 4),
        ("add", 3),
        ("sub", 2),
        ("integer_pow", 1),
        ("mul", 0),
    ]
    assert view.relays == 0  # a parameter needs none: its contributions are added up
    assert view.leaves == ("args[0][0]", "args[0][1]", "args[0][2]")


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_levels_are_longest_paths_and_relays_fill_the_gaps(depth):
    view = lg.graph(residual_net)([W] * depth, X)
    children = {
        v.name: [c.name for c in view.vertices if v.name in c.parents] for v in view.vertices
    }

    @functools.cache
    def longest(name):
        return max((1 + longest(child) for child in children[name]), default=0)

    assert {v.name: v.level for v in view.vertices} == {name: longest(name) for name in children}
    gaps = {(p, c): longest(p) - longest(c) - 1 for p in children for c in children[p]}
    assert {(e.parent, e.child): e.relays for e in view.edges} == gaps
    chains = {p: max((gaps[p, c] for c in children[p]), default=0) for p in children}
    assert {v.name: sum(v.relays) for v in view.vertices} == chains
    assert view.relays == sum(chains.values()) > 0
    assert view.depth == max(map(longest, children))


def test_masks_count_in_levels_but_need_no_relays():
    def f(w):
        h = jnp.tanh(w)
        mask = jnp.sin(h) > 0
        return jnp.sum(jnp.where(mask, jnp.exp(w), w))

    view = lg.graph(f)(jnp.ones(3))
    assert "sin" not in [v.operation for v in view.vertices]  # no error passes a mask
    assert view["exp"].level == 2
    gap = lg.graph(lambda w: jnp.sum(jnp.where(jnp.exp(jnp.tanh(w)) > 1, jnp.tanh(w) * 2, 0.0)))
    tanh = gap(jnp.ones(3))["tanh"]
    assert tanh.relays == (0,)


def scanned(w, x):
    def step(h, x):
        h = jnp.tanh(h @ w + x)
        return h, jnp.sin(h)

    h, ys = lax.scan(step, jnp.zeros(3), x)
    return jnp.sum(h * h) + jnp.sum(ys)


def unrolled(w, x):
    h, ys = jnp.zeros(3), []
    for t in range(x.shape[0]):
        h = jnp.tanh(h @ w + x[t])
        ys.append(jnp.sin(h))
    return jnp.sum(h * h) + jnp.sum(jnp.stack(ys))


def test_a_scan_has_the_levels_and_relays_of_the_unrolled_program():
    def places(view):
        return sorted(
            (v.operation, level, relays)
            for v in view.vertices
            for level, relays in zip(v.levels, v.relays, strict=True)
        )

    stacked, flat = lg.graph(scanned)(W, X), lg.graph(unrolled)(W, X)
    assert places(stacked) == places(flat)
    assert (stacked.depth, stacked.relays) == (flat.depth, flat.relays)
    assert stacked["tanh"].group == ("scan x 4",)
    assert len(stacked) < len(flat)


def test_a_nested_reversed_scan_has_the_depth_of_the_unrolled_program():
    def nested(w):
        def outer(h, _):
            return lax.scan(lambda h, _: (jnp.tanh(h @ w), None), h, None, length=3)[0], None

        return jnp.sum(lax.scan(outer, X[0], None, length=2, reverse=True)[0])

    view = lg.graph(nested)(W)
    assert view["tanh"].levels == tuple(range(11, 0, -2))
    assert view["tanh"].group == ("scan x 2", "scan x 3")


def test_parents_name_vertices_leaves_and_the_iteration_before():
    view = lg.graph(scanned)(W, X)
    assert view["dot_general"].parents == ("args[0]", "tanh@-1")
    assert view["sin"].parents == ("tanh",)


def test_a_cond_has_both_branches_and_its_choice_stands_until_they_have_fired():
    def f(w, x):
        chosen = jnp.sum(jnp.exp(w)) > 0
        return lax.cond(chosen, lambda: jnp.sum(jnp.tanh(w @ x)), lambda: jnp.sum(w))

    view = lg.graph(f)(W, X.T)
    assert [v.operation for v in view.vertices if v.group == ("branch 0",)] == []
    assert [v.operation for v in view.vertices if v.group == ("branch 1",)] == [
        "dot_general",
        "tanh",
    ]
    # The sum is the loss in either branch, as it would be without the choice.
    assert view["loss"].parents == ("args[0]", "tanh")


def test_wiring_is_folded_and_data_left_out():
    def f(w, x):
        data = jnp.sin(x) @ jnp.ones((3, 3))
        h = jnp.transpose(jnp.reshape(w, (3, 3)).astype(jnp.float32)) * data[:3]
        unused = jnp.exp(h)
        return jnp.sum(jnp.concatenate([h[:1], h[1:]])), jnp.sum(unused)

    view = lg.graph(f, has_aux=True)(W.ravel(), X)
    assert [(v.name, v.parents) for v in view.vertices] == [
        ("mul", ("args[0]",)),
        ("loss", ("mul",)),
    ]


def test_the_inside_is_local_or_opaque():
    @jax.custom_vjp
    def block(x):
        return jnp.tanh(jnp.sin(x))

    block.defvjp(lambda x: (block(x), x), lambda x, g: (g * x,))

    def f(w):
        y = jnp.linalg.solve(jnp.eye(3) + 0.1 * w, block(w))
        return jnp.sum(jax.nn.relu(y))

    inside = {v.operation: v.inside for v in lg.graph(f)(W).vertices}
    assert inside["custom_vjp_call"] == "opaque"
    assert inside["custom_jvp_call"] == "local"  # relu: one computing equation
    assert inside["add"] == inside["reduce_sum"] == "local"
    assert inside["custom_linear_solve"] == "opaque"
    assert "opaque" in str(lg.graph(f)(W))


def marked(ws, x):
    for k, w in enumerate(ws):
        x = lg.vertex(x @ w + 0.1, f"h{k + 1}")
        x = jnp.tanh(x)
    return jnp.sum(x**2)


def test_marked_vertices_are_the_networks_of_song():
    view = lg.graph(marked)([W, W], X)
    assert [(v.name, v.level, v.inside) for v in view.vertices] == [
        ("h1", 2, "2 equations"),
        ("h2", 1, "3 equations"),
        ("loss", 0, "3 equations"),
    ]
    assert view["h2"].parents == ("args[0][1]", "h1")
    assert view.relays == 0
    fine = lg.graph(marked, vertices="elementary")([W, W], X)
    assert len(fine) == 8
    a, b = (lg.grad(marked, vertices=v)([W, W], X) for v in ("marked", "elementary"))
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_names_sources_and_scopes():
    def f(w):
        with jax.named_scope("encoder"):
            h = jnp.tanh(w)
        return jnp.sum(jnp.tanh(h))

    view = lg.graph(f)(W)
    assert [v.name for v in view.vertices] == ["tanh", "tanh.2", "loss"]
    assert view["tanh"].scope == "encoder"
    assert view["tanh"].type == "float32[3,3]"
    line = f.__code__.co_firstlineno
    assert view["tanh"].source == f"{__file__}:{line + 2}"
    assert view["loss"].source == f"{__file__}:{line + 3}"


def test_library_functions_are_located_where_the_user_calls_them():
    def first(w):
        return jnp.sum(jax.nn.log_softmax(w))

    def second(w):
        return jnp.sum(jax.nn.log_softmax(w))

    for f in (first, second):
        view = lg.graph(f)(W)
        assert view["exp"].source == f"{__file__}:{f.__code__.co_firstlineno + 1}"


def test_shapes_are_enough_and_the_table_prints():
    view = lg.graph(residual_net)([jax.ShapeDtypeStruct((3, 3), jnp.float32)] * 2, X)
    text = str(view)
    assert text.splitlines()[0] == (
        f"{len(view)} vertices, depth {view.depth}, {view.relays} relays if levelled, "
        "2 leaves that learn"
    )
    assert len(text.splitlines()) == 3 + len(view)
    assert max(map(len, text.splitlines())) < 140


def test_groups_are_runs_of_neighbours_under_one_scope():
    def block(x, w):
        with jax.named_scope("block"):
            with jax.named_scope("inner"):
                x = jnp.tanh(x @ w)
            return jax.vmap(jnp.sin)(x)

    def f(w, xs):
        def body(x, shift):
            with jax.named_scope("cell"):
                x = jnp.tanh(x @ w)
            return x + shift, None

        x, _ = jax.lax.scan(body, xs[0], xs)
        return jnp.sum(block(jnp.exp(block(x, w)), w))

    view = lg.graph(jax.checkpoint(f))(W, jnp.ones((4, len(W))))
    *groups, of_loss = view.groups.values()
    assert of_loss == ()
    assert {path[0] for path in groups} == {"checkpoint"}
    assert [path[1:] for path in groups] == [
        ("scan x 4", "cell"),
        ("scan x 4", "cell"),
        ("scan x 4",),
        ("block", "inner"),
        ("block", "inner"),
        ("block",),
        (),
        ("block 2", "inner"),
        ("block 2", "inner"),
        ("block 2",),
    ]


@pytest.mark.rows(1)
@pytest.mark.parametrize(("f", "args"), [(residual_net, ([W] * 3, X)), (marked_net, ([W] * 3, X))])
def test_no_derivative_crosses_a_vertex(f, args):
    """The cut: a prediction depends on the values of its parents in the graph, and on no others."""
    simulated = Simulated(f, args, lg.InferenceLearning())
    network, values = simulated.network, simulated.forward.stored
    before, rest = simulated.inputs
    named = [v.name for v in jax.tree.leaves(network.vertices)]
    view = lg.graph(f)(*args)

    def predictions(held):
        inputs = [*before, *simulated.leaves, *rest]
        return network.predict(inputs, held, simulated.forward.kept)[1]

    slopes = jax.jacrev(predictions)(values)
    rows = simulated.entries(slopes)
    for child, row in zip(named, rows, strict=True):
        found = {
            parent
            for parent, slope in zip(named, jax.tree.leaves(row), strict=True)
            if np.any(slope != 0)
        }
        assert found == set(view[child].parents) & set(named), child
