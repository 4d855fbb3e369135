"""Figures: what is drawn is what was recorded, and it can be read at any size."""

import doctest
import importlib
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import localgrad as lg
from localgrad import plot

pytestmark = pytest.mark.long

FIGURES = [getattr(plot, name) for name in plot.__all__]
PAGE = Path(__file__).parent.parent / "docs" / "figures.md"


@pytest.fixture(autouse=True, scope="module")
def headless():
    before = mpl.get_backend()
    mpl.use("Agg")
    yield
    mpl.use(before)


# What is drawn ------------------------------------------------------------------------------------


def chain(n):
    """`n` vertices in layers of ten, with the loss."""

    def loss(w, x):
        for k in range(n - 1):
            with jax.named_scope(f"layer {k // 10}"):
                x = jnp.tanh(x) if k % 2 else x @ w
        return jnp.sum(x)

    return loss


def skipping(w, x):
    """A skip connection, so that a clock needs relays."""
    h = lg.vertex(x @ w, "h")
    for name in "abc":
        x = lg.vertex(jnp.tanh(h @ w), name) if name == "a" else lg.vertex(jnp.tanh(x @ w), name)
    return 0.5 * jnp.sum((h + x) ** 2)


def scanned(w, x):
    """A vertex with four copies."""

    def body(h, u):
        h = lg.vertex(jnp.tanh(h @ w + u), "h")
        return h, None

    h, _ = jax.lax.scan(body, jnp.zeros(3), x)
    return 0.5 * jnp.sum(lg.vertex(h @ w, "y") ** 2)


W, X = jnp.eye(3) * 0.9 + 0.1, jnp.array([0.5, -0.2, 0.8])


def graph_of(n):
    view = lg.graph(chain(n), vertices="elementary")(W, X)
    assert len(view) == n
    return view


def wave_of(n):
    """A recording of `n` vertices as Z-IL would make it, without compiling them all."""
    view = graph_of(n)
    times = np.arange(view.depth + 1)
    vertices = []
    for vertex in view.vertices:
        (level,) = vertex.levels
        error = np.where(times >= level, 2.0**-level, 0.0)[:, None] * np.array([3.0, 4.0])
        energy, plastic = 0.5 * np.sum(error**2, -1), times == level
        values = (error, error, energy, plastic, None)
        vertices.append(lg.VertexRecording(*values, vertex.name, vertex.levels, ()))
    names = tuple(vertex.name for vertex in view.vertices)
    energy = np.sum([v.energy for v in vertices], axis=0)
    never = np.full(n, -1)
    arrays = (times, 0 * energy, energy, None, 0.0, None, tuple(vertices), never)
    return lg.Recording(*arrays, "zil", names, view, names)


@pytest.fixture(scope="module")
def levelled():
    return lg.record(skipping, rule=lg.ZIL())(W, X)


@pytest.fixture(scope="module")
def stacked():
    return lg.record(scanned, rule=lg.ZIL())(W, jnp.ones((4, 3)))


@pytest.fixture(scope="module")
def relaxed():
    return lg.record(skipping, rule=lg.ActivationRelaxation(steps=12, rate=0.4), every=5)(W, X)


@pytest.fixture(scope="module")
def diverging():
    rule = lg.InferenceLearning(steps=60, rate=1.9, nudge=1e3)
    return lg.record(skipping, rule=rule)(W * 3, X)


@pytest.fixture(scope="module")
def comparisons():
    """By relaxation steps; the network is four levels deep."""
    return {
        n: lg.compare(skipping, rule=lg.FixedPrediction(steps=n, rate=0.5))(W, X)
        for n in (1, 4, 16)
    }


def cells(ax):
    """The numbers of a heat map; what is blank is nan."""
    return ax.collections[0].get_array().filled(np.nan)


def names(axis):
    """The tick labels that are drawn, with their heights."""
    axis.get_figure(root=True).canvas.draw()
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    return {float(at): label for at, label in ticks if label.get_text() and low <= at <= high}


def texts(ax):
    """The texts in the axes that are drawn."""
    ax.figure.canvas.draw()
    return [text for text in ax.texts if text.get_visible()]


def overlapping(labels):
    renderer = plt.gcf().canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in labels]
    return [
        (a.get_text(), b.get_text())
        for k, a in enumerate(labels)
        for j, b in enumerate(labels)
        # Boxes have the height of a whole line: letters do not touch where they meet.
        if k < j and boxes[k].shrunk(1, 0.85).overlaps(boxes[j].shrunk(1, 0.85))
    ]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def beside(ax):
    """The axis of the levels."""
    return ax.child_axes[0].yaxis


# errors -------------------------------------------------------------------------------------------


def test_the_wave_of_z_il_is_a_diagonal(levelled):
    ax = plot.errors(levelled, rows=100)
    levels = [round(float(label.get_text())) for label in names(beside(ax)).values()]
    assert levels == sorted(levels)
    assert levels[0] == 0
    found = ~np.isnan(cells(ax))
    times = np.asarray(levelled.times)
    np.testing.assert_array_equal(found, times[None] >= np.array(levels)[:, None])
    dots = ax.collections[1].get_offsets()
    np.testing.assert_array_equal(dots, [(level, row) for row, level in enumerate(levels)])


def test_a_row_is_the_norm_of_its_vertex(levelled):
    ax = plot.errors(levelled)
    shown = {label.get_text(): cells(ax)[int(at)] for at, label in names(ax.yaxis).items()}
    for name in ("h", "a", "b", "c"):
        norm = np.linalg.norm(np.asarray(levelled[name].error), axis=-1)
        np.testing.assert_allclose(np.nan_to_num(shown[name]), norm, rtol=1e-6)


def test_relays_have_rows_and_are_marked(levelled):
    ax = plot.errors(levelled)
    relays = [k for k, label in names(ax.yaxis).items() if ".relays" in label.get_text()]
    assert len(relays) == len(levelled["h.relays"].levels) > 0
    strip = ax.collections[-1]
    assert [path.vertices[:, 1].tolist() for path in strip.get_paths()] == [
        [k - 0.5, k + 0.5] for k in relays
    ]
    assert legend(ax) == ["zero", "synapses learn", "relay"]


def test_copies_have_rows_of_their_own(stacked):
    ax = plot.errors(stacked)
    found = [label.get_text() for label in names(ax.yaxis).values()]
    assert found == ["loss", "y", "h[3]", "h[2]", "h[1]", "h[0]"]
    assert legend(ax) == ["zero", "synapses learn"]


def test_a_copy_that_is_not_simulated_has_no_row(stacked):
    h = stacked["h"]
    cut = replace(h, levels=(-1, *h.levels[1:]))
    fewer = replace(stacked, vertices=(cut, *stacked.vertices[1:]))
    assert "h[0]" not in [label.get_text() for label in names(plot.errors(fewer).yaxis).values()]


@pytest.mark.rows(1)
@pytest.mark.parametrize("n", [5, 50, 500])
def test_errors_can_be_read_at_any_size(n):
    ax = plot.errors(wave_of(n))
    rows = len(cells(ax))
    assert rows == n if n <= 50 else 5 <= rows <= 70
    for axis in (ax.yaxis, ax.xaxis, beside(ax)):
        labels = list(names(axis).values())
        assert len(labels) >= min(rows, 5)
        assert overlapping(labels) == []
    inside = ax.figure.bbox.extents
    for label in names(ax.yaxis).values():
        assert label.get_window_extent().x0 >= inside[0]
    assert names(ax.yaxis)[0.0].get_text() == "loss"


def test_too_many_rows_fold_by_group():
    recording = wave_of(50)
    ax = plot.errors(recording, rows=10)
    found = [label.get_text() for label in names(ax.yaxis).values()]
    assert found == ["loss", *(f"layer {k} ({9 if k == 4 else 10})" for k in (4, 3, 2, 1, 0))]
    layer = [name for name, path in recording.graph.groups.items() if path == ("layer 1",)]
    norms = [np.linalg.norm(recording[name].error, axis=-1) for name in layer]
    row = np.nan_to_num(cells(ax)[found.index("layer 1 (10)")])
    np.testing.assert_allclose(row, np.linalg.norm(norms, axis=0))
    assert {label.get_text() for label in names(beside(ax)).values()} >= {"0", "1-9", "10-19"}


def test_without_room_for_groups_neighbouring_levels_fold():
    ax = plot.errors(wave_of(50), rows=4)
    found = [label.get_text() for label in names(ax.yaxis).values()]
    assert found[0] == "levels 0 to 11 (12)"
    assert sum(int(re.search(r"\((\d+)\)", text)[1]) for text in found) == 50


def test_iterations_of_a_scan_fold_into_one_row_each(stacked):
    def two(w, x):
        def body(h, u):
            h = jnp.tanh(jnp.sin(h @ w + u))
            return h, None

        return jnp.sum(jax.lax.scan(body, jnp.zeros(3), x)[0] ** 2)

    record = lg.record(two, rule=lg.ActivationRelaxation(steps=3), vertices="elementary")
    ax = plot.errors(record(W, jnp.ones((3, 3))), rows=6)
    found = [label.get_text() for label in names(ax.yaxis).values()]
    assert [name for name in found if name.startswith("scan")] == [
        f"scan x 3[{k}] (4)" for k in (2, 1, 0)
    ]


def test_zero_is_blank_and_the_smallest_number_is_not(levelled):
    error = np.zeros((len(levelled.times), 3))
    error[1], error[2] = 1e-300, np.inf
    tiny = replace(levelled["h"], error=error)
    recording = replace(levelled, vertices=(tiny,), names=("h",))
    ax = plot.errors(recording)
    mask = np.ma.getmaskarray(ax.collections[0].get_array())[0]
    assert mask[:3].tolist() == [True, False, True]
    assert cells(ax)[0, 1] == pytest.approx(1e-300 * math.sqrt(3))


def test_what_is_not_finite_is_crossed(diverging):
    assert diverging.not_finite
    ax = plot.errors(diverging)
    assert legend(ax)[:2] == ["zero", "not finite"]
    marks = ax.collections[1].get_array()
    assert np.array_equal(~np.ma.getmaskarray(marks), ~np.isfinite(all_norms(ax, diverging)))
    assert np.isfinite(ax.collections[0].norm.vmax)
    crosses = ax.collections[2].get_offsets()
    assert len(crosses) == np.sum(~np.isfinite(all_norms(ax, diverging)))


def all_norms(ax, recording):
    order = [label.get_text() for label in names(ax.yaxis).values()]
    errors = [np.asarray(recording[name].error, float) for name in order]
    with np.errstate(invalid="ignore"):
        return np.array([np.sqrt(np.sum(e.reshape(len(e), -1) ** 2, -1)) for e in errors])


def test_changes_of_values_are_per_step(relaxed):
    ax = plot.errors(relaxed, "change", vertices=["a"])
    assert np.asarray(relaxed.times).tolist() == [0, 5, 10, 12]
    steps = np.diff(np.asarray(relaxed["a"].value), axis=0)
    expected = np.linalg.norm(steps, axis=-1) / np.array([5, 5, 2])
    np.testing.assert_allclose(np.nan_to_num(cells(ax))[0], [0, *expected], rtol=1e-5)


def test_cells_reach_half_way_to_the_next_time(relaxed):
    ax = plot.errors(relaxed)
    edges = ax.collections[0].get_coordinates()[0, :, 0]
    assert edges.tolist() == [-2.5, 2.5, 7.5, 11.0, 13.0]


def test_plasticity_alone(levelled):
    ax = plot.errors(levelled, "plastic")
    order = [label.get_text() for label in names(ax.yaxis).values()]
    assert np.nan_to_num(cells(ax))[order.index("b")].tolist() == levelled["b"].plastic.tolist()
    assert len(plt.gcf().axes) == 1  # a colour bar would say nothing


def test_delivered_parts(relaxed):
    ax = plot.errors(relaxed, "delivered")
    order = [label.get_text() for label in names(ax.yaxis).values()]
    assert "loss" not in order
    found = np.nan_to_num(cells(ax))[order.index("h")]
    np.testing.assert_allclose(found, relaxed["h"].delivered, rtol=1e-6)
    assert (ax.collections[0].norm.vmin, ax.collections[0].norm.vmax) == (0, 1)


def test_where_there_is_no_error_nothing_is_delivered(relaxed):
    nothing = replace(relaxed["h"], delivered=np.full(len(relaxed.times), np.nan))
    ax = plot.errors(replace(relaxed, vertices=(nothing,), names=("h",)), "delivered")
    assert "no error to deliver" in legend(ax)


def test_limits_are_those_of_the_colours(levelled):
    ax = plot.errors(levelled, limits=(1e-3, 10.0))
    norm = ax.collections[0].norm
    assert (norm.vmin, norm.vmax) == (1e-3, 10.0)


def test_a_recording_of_one_time():
    record = lg.record(skipping, rule=lg.ActivationRelaxation(steps=1))
    recording = jax.tree.map(lambda a: a, record(W, X))
    one = replace(
        recording,
        times=recording.times[:1],
        vertices=tuple(
            replace(
                v,
                value=v.value[:1],
                error=v.error[:1],
                energy=v.energy[:1],
                plastic=v.plastic[:1],
                delivered=None,
            )
            for v in recording.vertices
        ),
    )
    assert cells(plot.errors(one)).shape == (len(one), 1)


def test_half_precision_and_complex_numbers(levelled):
    for dtype in (jnp.bfloat16, jnp.complex64):
        vertices = tuple(replace(v, error=v.error.astype(dtype)) for v in levelled.vertices)
        ax = plot.errors(replace(levelled, vertices=vertices))
        assert np.nanmax(cells(ax)) > 0


# energy -------------------------------------------------------------------------------------------


def lines(ax):
    return {line.get_label(): np.asarray(line.get_ydata(), float) for line in ax.lines}


def test_energies_are_those_of_the_vertices_and_their_sum(relaxed):
    ax = plot.energy(relaxed)
    found = lines(ax)
    np.testing.assert_allclose(found["free energy"], relaxed.energy)
    for name in ("h", "a", "b", "c", "loss"):
        np.testing.assert_allclose(found[name], relaxed[name].energy)
    assert ax.get_xlabel() == "time (inference steps)"
    assert ax.get_ylabel() == "energy (units of the loss)"


def test_copies_share_a_line(stacked):
    found = lines(plot.energy(stacked, vertices="h"))
    np.testing.assert_allclose(found["h"], np.sum(np.asarray(stacked["h"].energy), 1))
    assert list(found) == ["h", "free energy"]


@pytest.mark.parametrize(("n", "groups"), [(5, []), (50, 5), (500, ["others (494)"])])
def test_the_largest_have_names_and_the_others_are_summed(n, groups):
    recording = wave_of(n)
    found = lines(plot.energy(recording))
    named = [name for name in found if name in recording.names]
    assert len(named) == min(n, 6)
    others = [name for name in found if name not in (*named, "free energy")]
    assert len(others) == groups if isinstance(groups, int) else others == groups
    total = np.sum([found[name] for name in (*named, *others)], axis=0)
    np.testing.assert_allclose(total, found["free energy"])


def test_zero_has_its_place_on_a_logarithmic_axis(levelled):
    ax = plot.energy(levelled, log=True)
    assert (lines(ax)["h"][:2] == 0).all()
    shown = names(ax.yaxis)
    assert shown[0.0].get_text() == "$\\mathdefault{0}$"
    assert ax.get_ylim()[0] < 0
    heights = ax.transData.transform([(0, 0), (0, min(h for h in shown if h > 0))])[:, 1]
    assert heights[1] - heights[0] > 10
    assert overlapping(list(shown.values())) == []


def test_negative_energies_on_a_logarithmic_axis(levelled):
    low = replace(levelled, energy=np.linspace(1, -2, len(levelled.times)))
    ax = plot.energy(low, log=True)
    assert ax.get_ylim()[0] < -2
    assert lines(ax)["free energy"][-1] == -2


def test_the_begin_of_divergence_is_marked(diverging):
    first = min(diverging.not_finite.values())
    assert f"not finite from time {first}" in legend(plot.energy(diverging))


# divergence and layers ----------------------------------------------------------------------------


def test_divergences_are_those_of_the_comparisons(comparisons):
    ax = plot.divergence(comparisons)
    (line,) = (line for line in ax.lines if line.get_label() == "args[0]")
    assert line.get_xdata().tolist() == [1, 4, 16]
    assert line.get_ydata().tolist() == [c.max_rel for c in comparisons.values()]
    assert legend(ax) == ["args[0]", f"depth {comparisons[1].depth}"]
    assert [label.get_text() for label in names(ax.xaxis).values()] == ["1", "4", "16"]


def leaf(name="w", **changes):
    zero = {"norm": 1.0, "max_abs": 0.0, "max_rel": 0.0, "cosine": 1.0, "delivered": 1.0}
    return lg.LeafComparison(name, (3,), "float32", **(zero | changes))


def compared(*leaves, **report):
    return lg.Comparison(lg.ZIL(), 0.0, leaves, **report)


@pytest.mark.parametrize(
    ("measure", "field", "given", "drawn"),
    [
        ("max_rel", "max_rel", [1e-3, 0.0, 1e-9], [1e-3, 0.0, 1e-9]),
        ("max_abs", "max_abs", [2.0, 0.0, 1e-9], [2.0, 0.0, 1e-9]),
        ("cosine", "cosine", [0.5, 1.0, 1 + 2e-16], [0.5, 0.0, 0.0]),
        ("delivered", "delivered", [0.25, 1.0, 1.5], [0.75, 0.0, 0.5]),
    ],
)
def test_an_exact_zero_stays_zero_and_is_seen(measure, field, given, drawn):
    found = {k: compared(leaf(**{field: number})) for k, number in enumerate(given)}
    ax = plot.divergence(found, measure, xlabel="training step", xscale="linear")
    assert ax.lines[0].get_ydata().tolist() == drawn
    assert ax.get_ylim()[0] < 0 < ax.get_ylim()[1]
    assert ax.get_xlabel() == "training step"
    floor = [line for line in ax.lines if set(np.asarray(line.get_ydata())) == {0}]
    assert floor[-1].get_linestyle() == ":"


def test_all_exact():
    ax = plot.divergence({n: compared(leaf()) for n in (1, 10, 100)})
    ax.figure.canvas.draw()
    assert ax.lines[0].get_ydata().tolist() == [0, 0, 0]
    assert ax.get_xscale() == "log"


def test_a_step_zero_survives_the_logarithmic_axis():
    ax = plot.divergence({n: compared(leaf(max_rel=1.0)) for n in (0, 1, 10)})
    assert [label.get_text() for label in names(ax.xaxis).values()] == ["0", "1", "10"]


def test_divergence_that_is_not_finite():
    found = {k: compared(leaf(max_rel=number)) for k, number in enumerate([1.0, math.inf, 0.5])}
    ax = plot.divergence(found, xscale="linear")
    assert np.isnan(ax.lines[0].get_ydata()[1])
    (marks,) = (line for line in ax.lines if line.get_label() == "not finite")
    assert marks.get_xdata() == [1]


@pytest.mark.parametrize("n", [5, 50, 500])
def test_the_farthest_parameters_have_lines(n):
    leaves = [[leaf(f"args[0].w{k}", max_rel=(k + 1) * s) for k in range(n)] for s in (1.0, 0.1)]
    ax = plot.divergence({s: compared(*inside) for s, inside in enumerate(leaves, 1)})
    found = legend(ax)
    named = [f"w{k}" for k in range(max(n - 8, 0), n)]
    assert found == named + ([f"{n - 8} others"] if n > 8 else [])
    if n > 8:
        low, high = ax.collections[0].get_paths()[0].get_extents().intervaly
        assert (low, high) == pytest.approx((0.1, n - 8))
    named = ax.lines[: min(n, 8)]
    assert len({(line.get_color(), line.get_marker()) for line in named}) == len(named)


def ratios_of(ax):
    return [line.get_xdata() for line in ax.figure.axes[-1].lines if line.get_marker() != "None"]


def test_cosines_and_ratios(comparisons):
    def gradients(rule):
        return jax.jit(lg.grad(skipping, rule=rule))(W, X)

    rule = lg.InferenceLearning(steps=8, rate=0.2)
    ax = plot.layers({"FP": comparisons[4], "IL": lg.compare(skipping, rule=rule)(W, X)})
    assert legend(ax) == ["FP", "IL"]
    assert ax.lines[0].get_xdata() == [comparisons[4].leaves[0].cosine]
    exact = jax.grad(skipping)(W, X)
    for ratio, r in zip(ratios_of(ax), (comparisons[4].rule, rule), strict=True):
        norms = jnp.linalg.norm(gradients(r)) / jnp.linalg.norm(exact)
        np.testing.assert_allclose(ratio, [norms], rtol=1e-4)


def test_without_a_gradient_there_is_no_mark():
    silent = leaf("args[0].a", norm=0.0, cosine=math.nan, delivered=math.nan)
    learns_nothing = leaf("args[0].b", cosine=math.nan, delivered=0.0)
    ax = plot.layers(compared(silent, learns_nothing, leaf("args[0].c")))
    assert [label.get_text() for label in names(ax.yaxis).values()] == ["a", "b", "c"]
    assert np.isnan(ax.lines[0].get_xdata()).tolist() == [True, True, False]
    np.testing.assert_array_equal(ratios_of(ax)[0], [np.nan, 0.0, 1.0])


@pytest.mark.rows(1)
@pytest.mark.parametrize("n", [5, 50, 500])
def test_layers_can_be_read_at_any_size(n):
    leaves = [leaf(f"args[0].layers[{k}].weight", cosine=1 - k / n) for k in range(n)]
    ax = plot.layers({"one": compared(*leaves), "two": compared(*leaves)})
    assert len(ax.lines[0].get_xdata()) == n
    labels = list(names(ax.yaxis).values())
    assert labels[0].get_text() == "layers[0].weight"
    assert len(labels) >= min(n, 10)
    for axis in (ax.yaxis, ax.xaxis, ax.figure.axes[-1].xaxis):
        assert overlapping(list(names(axis).values())) == []


def test_layers_take_half_of_any_axes():
    figure = plt.figure()
    for ax in (figure.add_subplot(2, 2, 1), figure.add_axes((0.6, 0.1, 0.3, 0.3))):
        before = ax.get_position()
        assert plot.layers(compared(leaf()), ax=ax) is ax
        right = figure.axes[-1].get_position()
        assert ax.get_position().x1 < right.x0
        assert right.x1 == pytest.approx(before.x1)


# learning curves ----------------------------------------------------------------------------------


def test_curves_are_means_in_bands_of_all_seeds():
    many, one = np.array([[1.0, 2.0, 6.0], [3.0, 4.0, 2.0]]), [1.0, 1.5, 2.0]
    ax = plot.learning_curves({"a": many, "b": one}, steps=[10, 20, 30], label="loss (nats)")
    assert ax.lines[0].get_ydata().tolist() == [2, 3, 4]
    assert ax.lines[1].get_ydata().tolist() == one
    assert ax.lines[0].get_xdata().tolist() == [10, 20, 30]
    (band,) = ax.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert corners >= {(10, 1), (10, 3), (20, 2), (20, 4), (30, 2), (30, 6)}
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("loss (nats)", "training step")


def test_seeds_at_one_step_are_a_stroke():
    ax = plot.learning_curves({"a": [[1.0], [3.0]]}, steps=[10])
    (stroke,) = ax.collections
    assert stroke.get_segments()[0].tolist() == [[10, 1], [10, 3]]


def test_a_diverged_seed_ends_its_line():
    ax = plot.learning_curves({"a": [[1.0, np.nan, np.nan], [1.0, 2.0, 3.0]]})
    assert np.isnan(ax.lines[0].get_ydata()).tolist() == [False, True, True]
    assert legend(ax) == ["a (1 of 2 not finite)"]


def test_many_rules_look_different():
    ax = plot.learning_curves({str(k): [0.0, 1.0] for k in range(30)})
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.lines}
    assert len(looks) == 30


# graph --------------------------------------------------------------------------------------------


KINDS = ("vertex", "several equations", "opaque", "loss")


def places(ax, *kinds):
    """The points of these kinds, ``(lane, height)``."""
    lines = [line for line in ax.lines if line.get_label() in kinds]
    return [tuple(point) for line in lines for point in line.get_xydata().tolist()]


@pytest.mark.rows(1)
@pytest.mark.parametrize("n", [5, 50, 500])
def test_the_graph_can_be_read_at_any_size(n):
    view = graph_of(n)
    ax = plot.graph(view, most=n)
    assert sorted(y for _, y in places(ax, *KINDS)) == list(range(n))
    assert places(ax, "loss") == [(0, 0)]
    shown = texts(ax)
    assert "loss" in [text.get_text() for text in shown]
    assert len(shown) >= min(n, 15)
    assert overlapping(shown) == []
    for text in shown:
        assert text.get_window_extent().x1 <= ax.figure.bbox.x1


def test_a_large_graph_folds_by_group():
    ax = plot.graph(graph_of(500))
    assert len(ax.collections[-1].get_segments()) == 50
    shown = [text.get_text() for text in texts(ax)]
    assert "layer 7 (10)" in [text.get_text() for text in ax.texts]
    assert len(shown) >= 15
    assert "group" in legend(ax)


def test_level_is_the_height_and_no_two_share_a_place():
    view = lg.graph(skipping)(W, X)
    ax = plot.graph(view)
    points = places(ax, *KINDS, "relay")
    assert len(points) == len(set(points)) == len(view) + view.relays
    assert sorted(y for _, y in places(ax, *KINDS)) == sorted(v.level for v in view.vertices)


def test_relays_stand_on_the_lane_of_their_vertex():
    view = lg.graph(skipping)(W, X)
    ax = plot.graph(view)
    relays = places(ax, "relay")
    h = view["h"]
    assert sorted(y for _, y in relays) == list(range(h.level - h.relays[0], h.level))
    (lane,) = {x for x, _ in relays}
    assert (lane, h.level) in places(ax, "vertex")
    assert "relay" in legend(ax)
    assert "relay" not in legend(plot.graph(view, relays=False))


def test_edges_end_where_their_vertices_are():
    view = lg.graph(skipping)(W, X)
    ax = plot.graph(view)
    points = set(places(ax, *KINDS, "relay"))
    segments = [tuple(map(tuple, s)) for s in ax.collections[0].get_segments()]
    assert len(segments) == len(view.edges)
    for path in segments:
        assert path[0] in points
        assert path[-1] in points
        assert path[-2][1] == path[-1][1] + 1  # a relay, or the vertex itself, one level above
        assert path[-2] in points
        assert {x for x, _ in path[:-1]} == {path[0][0]}


def test_copies_stand_on_one_lane():
    ax = plot.graph(lg.graph(scanned)(W, jnp.ones((4, 3))))
    copies = [(x, y) for x, y in places(ax, "several equations") if y >= 2]
    assert sorted(y for _, y in copies) == [2, 3, 4, 5]
    assert len({x for x, _ in copies}) == 1
    assert "h x 4" in [text.get_text() for text in texts(ax)]
    assert "iterations" in legend(ax)


def test_opaque_vertices_differ():
    def loss(a, b):
        return jnp.sum(jax.scipy.linalg.solve(a, b) ** 2)

    view = lg.graph(loss)(jnp.eye(3), jnp.ones(3))
    opaque = [v.level for v in view.vertices if v.inside == "opaque"]
    ax = plot.graph(view)
    assert opaque
    assert sorted(y for _, y in places(ax, "opaque")) == sorted(opaque)
    assert "opaque" in legend(ax)


def test_leaves_are_named_beside_their_vertices():
    def loss(params, x):
        return jnp.sum(jnp.tanh(x @ params["w"]) + params["b"])

    view = lg.graph(loss)({"w": W, "b": X}, X)
    shown = [text.get_text() for text in texts(plot.graph(view, leaves=True))]
    assert {"args[0]['w']", "args[0]['b']"} <= set(shown)
    assert "args[0]['w']" not in [text.get_text() for text in texts(plot.graph(view))]


# What all of them share ---------------------------------------------------------------------------


def drawings(recording, comparisons):
    return {
        "energy": lambda **ax: plot.energy(recording, **ax),
        "errors": lambda **ax: plot.errors(recording, **ax),
        "divergence": lambda **ax: plot.divergence(comparisons, **ax),
        "layers": lambda **ax: plot.layers(comparisons[4], **ax),
        "learning_curves": lambda **ax: plot.learning_curves({"zil": [0.1, 0.5]}, **ax),
        "graph": lambda **ax: plot.graph(recording.graph, **ax),
    }


@pytest.mark.rows(2)
@pytest.mark.parametrize("name", plot.__all__)
def test_given_axes_are_used(name, levelled, comparisons):
    figure, (ax, other) = plt.subplots(1, 2)
    draw = drawings(levelled, comparisons)[name]
    assert draw(ax=ax) is ax
    assert plt.get_fignums() == [figure.number]
    assert not other.has_data()
    assert plt.gcf() is figure


@pytest.mark.parametrize("name", plot.__all__)
def test_nothing_global_changes(name, levelled, comparisons):
    before = dict(mpl.rcParams)
    drawings(levelled, comparisons)[name]()
    assert dict(mpl.rcParams) == before


def luminance(colour):
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a, b):
    low, high = sorted((luminance(mpl.colors.to_rgb(a)), luminance(mpl.colors.to_rgb(b))))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.rows(4)
@pytest.mark.parametrize("style", ["default", "dark_background", "ggplot"])
@pytest.mark.parametrize("name", plot.__all__)
def test_lines_and_texts_stand_out_in_every_style(style, name, levelled, comparisons):
    with plt.style.context(style):
        ax = drawings(levelled, comparisons)[name]()
        ax.figure.canvas.draw()
        ground = ax.get_facecolor()
        assert ground == mpl.colors.to_rgba(mpl.rcParams["axes.facecolor"])
        for line in ax.lines:
            seen = line.get_markeredgecolor() if line.get_label() == "relay" else line.get_color()
            assert contrast(seen, ground) > 1.7, (line.get_label(), seen)
        for text in ax.texts:
            assert contrast(text.get_color(), ground) > 3
        if name == "errors":
            ends = ax.collections[0].get_cmap()([0.0, 1.0])
            assert all(contrast(end, ground) > 1.2 for end in ends)


def test_a_large_font_and_a_small_figure(levelled, comparisons):
    with plt.rc_context({"font.size": 15, "figure.figsize": (4.5, 4)}):
        for name, draw in drawings(levelled, comparisons).items():
            ax = draw()
            for axis in (ax.yaxis, ax.xaxis):
                if axis.get_visible():
                    assert overlapping(list(names(axis).values())) == [], name


# Misuse -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [plot.errors, plot.energy])
def test_a_batch_of_recordings_is_refused(draw):
    record = lg.record(skipping, rule=lg.ActivationRelaxation(steps=3))
    batch = jax.vmap(record, (None, 0))(W, jnp.stack([X, 2 * X]))
    with pytest.raises(ValueError, match=r"batch of recordings.*jax\.tree\.map"):
        draw(batch)
    draw(jax.tree.map(lambda array: array[0], batch))

    def inside(x):
        draw(record(W, x))
        return x

    with pytest.raises(TypeError, match=r"inside of jit or vmap; return it"):
        jax.jit(inside)(X)


@pytest.mark.parametrize(
    ("draw", "kind", "text"),
    [
        (lambda r: plot.errors(r.graph), TypeError, "met a GraphView; pass what localgrad.record"),
        (lambda r: plot.energy(3), TypeError, "met a int; pass what localgrad.record"),
        (lambda r: plot.graph(r), TypeError, "met a Recording; pass what localgrad.graph"),
        (lambda r: plot.errors(r, "value"), ValueError, "met what='value'; choose from 'error'"),
        (lambda r: plot.errors(r, "delivered"), ValueError, "with zil, whose errors pass by"),
        (lambda r: plot.errors(r, vertices="g"), KeyError, "no vertex 'g' in the recording"),
        (
            lambda r: plot.errors(replace(r, vertices=(), names=())),
            ValueError,
            "met no vertices to show",
        ),
        (lambda r: plot.divergence({}), ValueError, "met no comparisons"),
        (lambda r: plot.divergence([1]), TypeError, "met a list; pass a mapping"),
        (lambda r: plot.divergence({1: r}), TypeError, "met a Recording at 1; pass what"),
        (lambda r: plot.divergence({1: compared(leaf())}, "x"), ValueError, "met measure='x'"),
        (
            lambda r: plot.layers({"a": compared(leaf("v")), "b": compared(leaf("w"))}),
            ValueError,
            "different parameters; pass those of one function",
        ),
        (lambda r: plot.learning_curves({}), ValueError, "met no curves"),
        (lambda r: plot.learning_curves({"a": 1.0}), ValueError, r"of shape \(\)"),
        (
            lambda r: plot.learning_curves({"a": [1.0, 2.0]}, steps=[1]),
            ValueError,
            "pass one step for each number",
        ),
    ],
)
def test_misuse_says_what_to_do(draw, kind, text, levelled):
    with pytest.raises(kind, match=text):
        draw(levelled)
    assert plt.get_fignums() == []


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("localgrad.plot")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'localgrad[plot]'")):
        importlib.import_module("localgrad.plot")


# Documentation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.__name__)
def test_examples_in_docstrings(figure):
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    (example,) = finder.find(figure, figure.__name__, globs={})
    assert example.examples
    runner.run(example)
    assert runner.failures == 0


@pytest.mark.long
def test_the_page_runs_and_shows_every_figure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    scope = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), scope)
    assert [name for name in plot.__all__ if f"plot.{name}(" not in text] == []
    assert (tmp_path / "wave.pdf").stat().st_size > 1000
