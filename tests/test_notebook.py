"""What a notebook shows of what can be seen: the tables as HTML."""

import re
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import localgrad as lg
from localgrad._inspect.html import LIMIT, curve

pytestmark = pytest.mark.long

NASTY = """<b>&"it's" long, & has signs</b>"""
HINT = " plays the wave of errors on a page"
IL = lg.InferenceLearning(steps=6, rate=0.2)


class Parsed(HTMLParser):
    """Cells, captions and paragraphs; every element that is opened has to be closed."""

    EMPTY = ("br",)

    def __init__(self, html):
        super().__init__()
        self.open, self.rows, self.kinds = [], [], []
        self.texts, self.elements = {}, []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in self.EMPTY:
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.kinds.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.kinds[-1].append(dict(attributes).get("class"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        else:
            self.texts.setdefault(self.open[-1], []).append(data)

    @property
    def head(self):
        return self.rows[0]

    def column(self, name):
        return [row[self.head.index(name)] for row in self.rows[1:]]


def net(params, x):
    for k, w in enumerate(params[NASTY]):
        x = jnp.tanh(lg.vertex(x @ w, f"<i>h{k}</i>"))
    return jnp.mean(x**2)


PARAMS = {NASTY: [jax.random.normal(jax.random.key(k), (3, 3)) for k in range(3)]}
X = jax.random.normal(jax.random.key(3), (5, 3))


@pytest.fixture(scope="module")
def seen():
    audit = lg.audit(net)(PARAMS, X)
    return {
        "graph": lg.graph(net)(PARAMS, X),
        "comparison": lg.compare(net, rule=IL)(PARAMS, X),
        "recording": lg.record(net, rule=IL)(PARAMS, X),
        "audit": audit,
        "rule audit": audit["il"],
    }


@pytest.mark.parametrize("name", ["graph", "comparison", "recording", "audit", "rule audit"])
def test_the_html_is_the_text(name, seen):
    html = seen[name]._repr_html_()
    page = Parsed(html)
    text = str(seen[name])
    rows = [" ".join(row).split() for row in page.rows]
    lines = [line.split() for line in text.splitlines()]
    start = lines.index(rows[0])
    assert len(rows) >= 4
    for row, line in zip(rows[1:], lines[start + 2 : start + 1 + len(rows)], strict=True):
        cut = [word for word in line if "..." in word]
        assert [word for word in line if word not in cut] == [
            word for word in row if word in line and word not in cut
        ]
        assert len(cut) <= 2
    texts = page.texts.get("caption", []) + page.texts.get("p", [])
    around = " ".join(text for text in texts if text != HINT).split()
    outside = sum(lines[:start] + lines[start + 1 + len(rows) :], [])
    assert around == outside
    assert not re.search(r"https?://|<script|url\(", html)


@pytest.mark.parametrize("name", ["graph", "comparison", "recording", "audit", "rule audit"])
def test_other_front_ends_show_the_text(name, seen):
    class Printer:
        def text(self, text):
            self.shown = text

    printer = Printer()
    seen[name]._repr_pretty_(printer, False)
    assert printer.shown == str(seen[name])


def test_names_are_escaped_and_whole(seen):
    path = f"args[0][{NASTY!r}][0]"
    page = Parsed(seen["comparison"]._repr_html_())
    assert page.column("parameter")[0] == path
    page = Parsed(seen["graph"]._repr_html_())
    assert page.column("vertex") == ["<i>h0</i>", "<i>h1</i>", "<i>h2</i>", "loss"]
    assert page.column("parents")[0] == path
    (tip,) = [a["title"] for t, a in page.elements if t == "td" and a.get("title") == path]
    assert tip == path
    for name, thing in seen.items():
        elements = {tag for tag, _ in Parsed(thing._repr_html_()).elements}
        assert not elements & {"b", "i"}, name


def test_the_numbers_are_those_of_the_objects(seen):
    view, comparison, recording = seen["graph"], seen["comparison"], seen["recording"]
    page = Parsed(view._repr_html_())
    assert [int(level) for level in page.column("level")] == [v.level for v in view.vertices]
    assert page.column("parents") == [", ".join(v.parents) for v in view.vertices]
    page = Parsed(comparison._repr_html_())
    for head, field in (("|grad|", "norm"), ("max abs", "max_abs"), ("part", "delivered")):
        exact = [getattr(leaf, field) for leaf in comparison.leaves]
        assert [float(cell) for cell in page.column(head)] == pytest.approx(exact, rel=0.06)
    page = Parsed(recording._repr_html_())
    energies = [float(v.energy[-1]) for v in reversed(recording.vertices)]
    assert [float(cell) for cell in page.column("energy")] == pytest.approx(energies, rel=1e-3)
    page = Parsed(seen["audit"]._repr_html_())
    assert [c == "yes" for c in page.column("stored")] == [
        a.uses_stored for a in seen["audit"].rules
    ]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("graph", {"level", "relays"}),
        ("comparison", {"|grad|", "max abs", "max rel", "cosine", "part"}),
        ("recording", {"level", "|e| at end", "energy"}),
    ],
)
def test_numbers_stand_to_the_right(name, numbers, seen):
    page = Parsed(seen[name]._repr_html_())
    for kinds in page.kinds:
        assert {
            h for h, kind in zip(page.head, kinds, strict=True) if kind == "lg-number"
        } == numbers


def test_warnings_are_emphasised(seen):
    comparison = seen["comparison"]
    assert comparison.warnings
    page = Parsed(comparison._repr_html_())
    assert ("p", {"class": "lg-warning"}) in page.elements
    assert f"warning: {comparison.warnings[-1]}" in page.texts["p"]
    calm = Parsed(lg.compare(net, rule=lg.ZIL())(PARAMS, X)._repr_html_())
    assert ("p", {"class": "lg-warning"}) not in calm.elements


def test_a_recording_that_diverges_says_so():
    def cubic(w, x):
        return jnp.sum(lg.vertex(lg.vertex(x @ w, "low") ** 3, "high") ** 2)

    rule = lg.InferenceLearning(steps=40, rate=1.0, nudge=10.0)
    recording = lg.record(cubic, rule=rule)(PARAMS[NASTY][0], X)
    page = Parsed(recording._repr_html_())
    for name, time in recording.not_finite.items():
        assert f"not finite from time {time} on: {name}" in page.texts["p"]
    assert len(recording.not_finite) > 1


def test_a_long_table_stays_small():
    def deep(w, x):
        for _ in range(250):
            x = jnp.tanh(x * w)
        return jnp.sum(x)

    view = lg.graph(deep)(jnp.ones(3), jnp.ones(3))
    assert len(view) == LIMIT + 1
    html = view._repr_html_()
    assert len(html) < 200 * (LIMIT + 50)
    page = Parsed(html)
    names = [row[1] for row in page.rows[1:] if len(row) > 1]
    assert len(names) == LIMIT
    assert names == [v.name for v in view.vertices if v.name in names]
    assert names[-1] == "loss"
    assert ["… 1 more rows: print() shows all"] in page.rows


def test_without_numbers_there_is_no_html():
    found = []

    def run(x):
        recording = lg.record(net, rule=IL, only="*h1*")(PARAMS, x)
        found.append((recording._repr_html_(), str(recording), repr(recording)))
        return recording

    batch = jax.vmap(run)(jnp.stack([X, X]))
    jax.jit(run)(X)
    for html, text, plain in found:
        assert html is None
        assert text == plain
    assert batch._repr_html_() is None


def points(svg):
    """The strokes of a curve, as lists of points."""
    (path,) = re.findall(r' d="([^"]*)"', svg)
    return [
        [tuple(map(float, point.split())) for point in stroke.split("L")]
        for stroke in path.split("M")[1:]
    ]


def test_the_curve_is_the_energy(seen):
    recording = seen["recording"]
    html = recording._repr_html_()
    assert "recording.show()" in html
    (svg,) = re.findall(r"<svg.*</svg>", html)
    assert len(svg) < 1000
    (stroke,) = points(svg)
    x, y = np.array(stroke).T
    times, energy = np.asarray(recording.times), np.asarray(recording.energy)
    assert np.corrcoef(x, times)[0, 1] > 0.9999
    assert np.corrcoef(y, energy)[0, 1] < -0.9999


def test_a_curve_has_gaps_and_keeps_its_extremes():
    t = np.arange(5000.0)
    y = np.sin(t / 300)
    y[1234], y[2000:2100], y[3000], y[4000] = 7.0, np.nan, np.inf, -5.0
    strokes = points(curve(t, y, "x < y"))
    assert len(strokes) == 3
    heights = [height for stroke in strokes for _, height in stroke]
    assert (min(heights), max(heights)) == (2, 46)
    assert len(heights) <= 400
    assert "<title>x &lt; y</title>" in curve(t, y, "x < y")


@pytest.mark.parametrize(
    ("xs", "ys"), [([0.0], [1.0]), ([0.0, 1.0], [1.0, np.nan]), ([0.0, 1.0], [np.inf, -np.inf])]
)
def test_no_curve_without_two_points(xs, ys):
    assert curve(xs, ys, "energy") == ""


@pytest.mark.parametrize(("xs", "ys"), [([0, 0], [1, 1]), ([0, 1], [-1.7e308, 1.7e308])])
def test_flat_and_huge_curves_are_finite(xs, ys):
    assert np.isfinite(np.array(sum(points(curve(xs, ys, "energy")), []))).all()
