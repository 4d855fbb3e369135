"""The numbers of the theory, measured beside those expected: `python benchmarks/theory.py`.

Inference learning, Z-IL by the clock, Fa-Z-IL and activation relaxation on small networks with
random weights, on the public API alone. Where a number depends on the draw, the median over draws
is shown with the least and the largest. Everything in float64 unless it says otherwise.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import localgrad as lg
from localgrad.experiments.data import load
from zil_vs_backprop import markdown, print_environment, report

Network = tuple[list, jax.Array, jax.Array]
Rows = list[list[str]]


# --- Networks -------------------------------------------------------------------------------------


def draw(sizes: Sequence[int], batch: int, seed: int, scale: float | None = None) -> Network:
    """Weights N(0, scale^2), by default N(0, 1/n); inputs and targets N(0, 1)."""
    generator = np.random.default_rng(seed)
    weights = [
        jnp.asarray((a**-0.5 if scale is None else scale) * generator.standard_normal((a, b)))
        for a, b in pairwise(sizes)
    ]
    x = jnp.asarray(generator.standard_normal((batch, sizes[0])))
    return weights, x, jnp.asarray(generator.standard_normal((batch, sizes[-1])))


class Textbook(lg.InferenceLearning):
    """Errors from their definition, and starts that are a little off."""

    noise = 0.0

    def initial(self, value: jax.Array) -> Any:
        generator = np.random.default_rng(value.shape[-1])
        noise = self.noise * generator.standard_normal(value.shape)
        return super().initial(value + noise.astype(value.dtype))

    def error(self, state: Any, prediction: jax.Array) -> jax.Array:
        return prediction - state.value


class Disturbed(Textbook):
    noise = 0.01


def many(sizes: Sequence[int], batch: int, draws: int, scale: float | None = None) -> Network:
    """That many draws on a leading axis."""
    networks = [draw(sizes, batch, seed, scale) for seed in range(draws)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)


def chain(f: Callable) -> Callable:
    """A loss whose vertices are the hidden activities; the output is clamped."""

    def loss(weights: list, x: jax.Array, y: jax.Array) -> jax.Array:
        for number, w in enumerate(weights[:-1]):
            x = lg.vertex(f(x @ w), f"x{number}")
        return 0.5 * jnp.sum((x @ weights[-1] - y) ** 2)

    return loss


TANH, RELU, SIGMOID = chain(jnp.tanh), chain(jax.nn.relu), chain(jax.nn.sigmoid)


def averaged(weights: list, x: jax.Array, y: jax.Array) -> jax.Array:
    return TANH(weights, x, y) / len(x)


def residual(weights: list, x: jax.Array, y: jax.Array) -> jax.Array:
    """Blocks of two layers with a skip around each."""
    for block in range(0, len(weights) - 1, 2):
        h = lg.vertex(jnp.tanh(x @ weights[block]), f"h{block}")
        x = lg.vertex(x + lg.vertex(h @ weights[block + 1], f"y{block}"), f"x{block}")
    return 0.5 * jnp.sum((x @ weights[-1] - y) ** 2)


# --- Measures -------------------------------------------------------------------------------------


def miss(got: list, want: list) -> jax.Array:
    """The worst leaf's `max |got - want| / max |want|`."""
    pairs = zip(got, want, strict=True)
    return jnp.max(jnp.stack([jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)) for a, b in pairs]))


def distance(loss: Callable, rule: lg.Rule) -> Callable:
    """Of a network: how far the rule's gradient is from backpropagation's."""
    return lambda *network: miss(lg.grad(loss, rule=rule)(*network), jax.grad(loss)(*network))


def at_their_turn(loss: Callable, rule: Callable[..., lg.Rule], levels: list[int]) -> Callable:
    """The same, with each parameter read after as many steps as its vertex's level; not the last,
    whose level is 0."""

    def measure(*network: jax.Array) -> jax.Array:
        got = [
            lg.grad(loss, rule=rule(steps=level, rate=1.0))(*network)[layer]
            for layer, level in enumerate(levels)
        ]
        return miss(got, jax.grad(loss)(*network)[:-1])

    return measure


def over_draws(measure: Callable, networks: Network) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(measure))(*networks))


def spread(found: np.ndarray) -> str:
    return f"{np.median(found):.1e} ({np.min(found):.0e} to {np.max(found):.0e})"


def angle(a: jax.Array, b: jax.Array) -> float:
    cosine = float(jnp.vdot(a, b) / jnp.linalg.norm(a) / jnp.linalg.norm(b))
    return math.degrees(math.acos(min(1.0, cosine)))


# --- Inference learning ---------------------------------------------------------------------------


def one_over_variance() -> Rows:
    rows = [["output variance", "expected", "miss to backpropagation"]]
    networks = many((6, 9, 8, 4), 8, 40)
    expected = (0.98, 0.45, 0.050, 5.0e-3, 5.0e-4)
    for variance, figure in zip((1.0, 10.0, 100.0, 1e3, 1e4), expected, strict=True):
        rule = lg.InferenceLearning(steps=1500, rate=0.1, nudge=1 / variance)
        found = over_draws(distance(TANH, rule), networks)
        rows.append([f"{variance:g}", f"{figure:.1e}", spread(found)])
    return rows


def noise_floor() -> Rows:
    rows = [["loss", "batch", "float32 against float64, 50 steps"]]
    rule = lg.InferenceLearning(steps=50)
    for name, loss in (("sum", TANH), ("mean", averaged)):
        for batch in (1, 32, 512):
            network = draw((64, 64, 64, 10), batch, 0)
            transform = jax.jit(lg.grad(loss, rule=rule))
            single = jax.tree.map(lambda x: x.astype(jnp.float32), network)
            rows.append([name, str(batch), f"{miss(transform(*single), transform(*network)):.1e}"])
    return rows


# --- Z-IL by the clock ----------------------------------------------------------------------------


def test_vector() -> Rows:
    def loss(theta: list, s: float) -> jax.Array:
        x2 = lg.vertex(theta[2] * s, "x2")
        x1 = lg.vertex(theta[1] * jnp.tanh(x2), "x1")
        return 0.5 * (theta[0] * jnp.tanh(x1) - 0.3) ** 2

    theta = [0.8, -0.5, 1.2]
    rule = lg.InferenceLearning(rate=1.0, steps=2)
    seen = lg.record(loss, rule=rule)(theta, 0.7)
    outputs = 0.3 - theta[0] * jnp.tanh(seen["x1"].value)
    columns = (outputs, -seen["x1"].error, -seen["x2"].error)
    rows = [["t", "-e of out", "of x1", "of x2"]]
    rows += [[str(t), *(f"{c[t] + 0.0:.12f}" for c in columns)] for t in range(3)]
    return rows


def ablations() -> Rows:
    networks = many((5, 7, 8, 6, 9, 3), 6, 20)

    def ratios(*network: jax.Array) -> jax.Array:
        got = lg.grad(TANH, rule=lg.ZIL(clock=True, rate=0.5))(*network)
        pairs = zip(got, jax.grad(TANH)(*network), strict=True)
        return jnp.stack([jnp.linalg.norm(a) / jnp.linalg.norm(b) for a, b in pairs])

    def by(rule: lg.Rule) -> str:
        return spread(over_draws(distance(TANH, rule), networks))

    disturbed = at_their_turn(TANH, Disturbed, [4, 3, 2, 1])
    per_layer = np.max(over_draws(ratios, networks), axis=0)[::-1]
    return [
        ["ablation (4 hidden tanh layers)", "expected", "measured"],
        ["none", "0", by(lg.ZIL(clock=True))],
        ["gamma .5: norms over backpropagation's", "1 .5 .25 .125 .0625", f"{per_layer}"[1:-1]],
        ["gamma .99999", "4e-5", by(lg.ZIL(clock=True, rate=0.99999))],
        ["all parameters read at the last step", "5.7", by(lg.InferenceLearning(4, 1.0))],
        ["starts off by 0.01 N(0, 1)", "1.4", spread(over_draws(disturbed, networks))],
    ]


def levels() -> Rows:
    networks = many((6,) * 9 + (3,), 6, 10)
    turns = [12, 11, 9, 8, 6, 5, 3, 2]
    cases = (
        ("levelled", "< 1e-15", distance(residual, lg.ZIL(clock=True))),
        ("not levelled", "1e5 to 7e6", at_their_turn(residual, Textbook, turns)),
        ("not levelled, but held", "", distance(residual, lg.ZIL(clock=True, levelled=False))),
    )
    rows = [["residual net of 4 blocks", "expected", "measured"]]
    for name, expected, measure in cases:
        rows.append([name, expected, spread(over_draws(measure, networks))])
    return rows


def sigmoids() -> Rows:
    rows = [["rule, 16 sigmoid layers in float32", "miss to float64"]]
    network = draw((8,) * 17, 6, 0)
    want = jax.grad(SIGMOID)(*network)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), network)
    rules = {
        "Z-IL on events": lg.ZIL(),
        "Z-IL by the clock": lg.ZIL(clock=True),
        "Fa-Z-IL": lg.FaZIL(),
        "fixed prediction, rate 1": lg.FixedPrediction(16, 1.0),
    }
    for name, rule in rules.items():
        got = jax.jit(lg.grad(SIGMOID, rule=rule))(*single)
        rows.append([name, f"{miss(got, want):.1e}"])
    turns = list(range(15, 0, -1))
    lost = at_their_turn(SIGMOID, Textbook, turns)
    rows.append(["errors not carried", f"{jax.jit(lost)(*single):.1e}"])
    return rows


# --- Fa-Z-IL --------------------------------------------------------------------------------------


def raster() -> Rows:
    rule = lg.FaZIL(wait_before=3, wait_after=3)
    seen = lg.record(TANH, rule=rule)(*draw((5, 7, 8, 6, 9, 3), 6, 0))
    rows = [["t", *seen.names[:-1]]]
    for step, time in enumerate(seen.times):
        flags = [bool(np.any(seen[name].plastic[step])) for name in seen.names[:-1]]
        rows.append([str(int(time)), *("plastic" if flag else "" for flag in flags)])
    return rows


def waiting() -> Rows:
    networks = many((6, 9, 8, 7, 4), 8, 40, scale=0.1)
    rows = [["waiting steps", "expected", "absolute difference, a tenth of all draws below", "all"]]
    expected = (7e-4, 4.5e-5, 9e-7, 4e-10, 1e-16)
    for wait, figure in zip((5, 10, 20, 40, 80), expected, strict=True):
        rule = lg.FaZIL(settle="relaxation", wait_before=wait)

        def gap(*network: jax.Array, rule: lg.Rule = rule) -> jax.Array:
            got = lg.grad(averaged, rule=rule)(*network)
            pairs = zip(got, jax.grad(averaged)(*network), strict=True)
            return jnp.max(jnp.stack([jnp.max(jnp.abs(a - b)) for a, b in pairs]))

        found = over_draws(gap, networks)
        tenth = np.quantile(found, 0.1)
        rows.append([str(wait), f"{figure:.1e}", f"{tenth:.1e}", spread(found)])
    return rows


def two_vertices() -> Rows:
    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return 0.5 * (lg.vertex(w * lg.vertex(w * x, "x1"), "x2") - 1.0) ** 2

    rows = [["w^2", "expected", "distance from rest after 100 and 400 steps"]]
    for square in (0.3, 0.49, 0.51, 0.7):
        rule = lg.FaZIL(settle="relaxation", wait_before=401)
        seen = lg.record(loss, rule=rule, only="x2")(square**0.5, 1.0)
        far = jnp.abs(seen["x2"].value - square)
        expected = "rests" if square < 0.5 else "grows"
        rows.append([f"{square}", expected, f"{far[100]:.1e}, {far[400]:.1e}"])
    return rows


# --- Activation relaxation ------------------------------------------------------------------------


def deep(parameters: tuple, x: jax.Array) -> jax.Array:
    """A chain of any number of equal layers."""
    body, last = parameters
    x, _ = lax.scan(lambda x, w: (lg.vertex(jnp.tanh(x @ w), "x"), None), x, body)
    return jnp.sum(x @ last)


def shares(depth: int, rate: float, steps: int) -> np.ndarray:
    """The first hidden layer's share of its gradient, over time."""
    generator = np.random.default_rng(depth)
    body = jnp.asarray(generator.standard_normal((depth - 1, 3, 3)) / 3**0.5 + np.eye(3))
    args = (body, jnp.asarray(generator.standard_normal(3))), jnp.ones(3)
    exact = lg.record(deep, rule=lg.ActivationRelaxation(depth, 1.0))(*args)
    seen = lg.record(deep, rule=lg.ActivationRelaxation(steps, rate))(*args)
    name = seen.names[0]
    want = exact[name].error[-1, 0]
    unit = int(jnp.argmax(jnp.abs(want)))
    return np.asarray(seen[name].error[:, 0, unit] / want[unit])


def sweeps() -> Rows:
    expected = {
        0.1: (132, 183, 263, 397, 632),
        0.5: (20, 29, 43, 67, 111),
        1.0: (1, 3, 7, 15, 31),
    }
    rows = [["layers", *(f"rate {rate}: expected, measured" for rate in expected)]]
    for row, depth in enumerate((2, 4, 8, 16, 32)):
        cells = [str(depth)]
        for rate, counts in expected.items():
            missing = np.abs(1 - shares(depth, rate, counts[row]))
            cells.append(f"{counts[row]}, {int(np.argmax(missing <= 1e-6))}")
        rows.append(cells)
    return rows


def rates() -> Rows:
    rows = [["rate, 7 layers", "largest share on the way", "missing after 600 sweeps"]]
    for rate in (0.3, 1.0, 1.2, 1.9, 2.05):
        course = shares(7, rate, 600)
        rows.append([str(rate), f"{np.max(np.abs(course)):.1e}", f"{abs(1 - course[-1]):.1e}"])
    return rows


def published(folder: Path | None) -> Network:
    """784-300-300-100-10, N(0, .05^2), 64 images: of MNIST, or random ones, a fifth of them lit."""
    weights, _, _ = draw((784, 300, 300, 100, 10), 1, 1, scale=0.05)
    generator = np.random.default_rng(1)
    if folder is None:
        images = generator.random((64, 784)) * (generator.random((64, 784)) < 0.2)
        labels = generator.integers(0, 10, 64)
    else:
        data = load("mnist", folder)
        images, labels = data.train_inputs[:64].reshape(64, 784) / 255, data.train_labels[:64]
    return weights, jnp.asarray(images), jnp.eye(10)[labels]


def starts(folder: Path | None) -> Rows:
    network = published(folder)
    want = jax.grad(RELU)(*network)[0]
    rows = [["sweeps at rate .1", "expected", "from the activity, degrees", "from zero"]]
    for count, expected in ((100, 0.4), (50, 36), (20, 86)):
        angles = []
        for start in ("activity", "zero"):
            # With the published loss, twice this one, and so twice the errors that it sends.
            rule = lg.ActivationRelaxation(count, 0.1, start=start, nudge=2.0)
            angles.append(angle(jax.jit(lg.grad(RELU, rule=rule))(*network)[0], want))
        rows.append([str(count), str(expected), *(f"{a:.2f}" for a in angles)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, help="folder with MNIST's four IDX files")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print("# The numbers of the theory")
    print_environment()
    tables: dict[str, Callable[[], Rows]] = {
        "Inference learning: the distance falls as 1/v (6-9-8-4, at rest)": one_over_variance,
        "Inference learning: the floor of float32": noise_floor,
        "Z-IL: the scalar chain over time, the diagonal is backpropagation": test_vector,
        "Z-IL: each condition is necessary": ablations,
        "Z-IL: levels": levels,
        "Carried errors": sigmoids,
        "Fa-Z-IL: plasticity; the target is presented at t = 3, the loss pulls at t = 4": raster,
        "Fa-Z-IL: relaxation before the target (6-9-8-7-4, N(0, .1^2))": waiting,
        "Fa-Z-IL: relaxation of two vertices": two_vertices,
        "Activation relaxation: sweeps until a millionth is missing": sweeps,
        "Activation relaxation: rates": rates,
        "Activation relaxation: the published start": lambda: starts(options.mnist),
    }
    for title, table in tables.items():
        report(title)
        print(f"\n## {title}\n\n{markdown(table())}", flush=True)


if __name__ == "__main__":
    main()
