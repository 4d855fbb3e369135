"""How trace time grows with the number of equations: `python benchmarks/trace_time.py`.

Straight-line programs of 100 to 10,000 equations, then models with `lax.scan`. "first" is a trace
after jax's caches were cleared, "later" one with warm caches; always of a fresh function object,
median, thread time. README.md says how to read the tables.
"""

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import localgrad as lg
from zil_vs_backprop import count_equations, markdown, miss, print_environment, report, zil

Program = tuple[Callable, tuple]
Row = list[str]

SIZES = [100, 300, 1000, 3000, 5000, 10000]
SECONDS_FOR_5000 = 10.0
HEADER = ["program", "equations"]
HEADER += ["backprop first, ms", "Z-IL first, ms", "ratio"]
HEADER += ["backprop later, ms", "Z-IL later, ms", "ratio"]
HEADER += ["lg.graph later, ms", "Z-IL ms per equation"]


class Times(NamedTuple):
    """Seconds."""

    first: float
    later: float


# --- Straight-line programs -----------------------------------------------------------------------


def straight_line(equations: int, distinct: bool) -> Program:
    """The program of `chain` with about this many equations."""
    groups = [count(chain(4 * groups, distinct)) for groups in (1, 2)]
    more = (equations - groups[0]) / (groups[1] - groups[0])
    return chain(4 + 4 * max(0, round(more)), distinct)


def chain(layers: int, distinct: bool) -> Program:
    """A loss over `layers` layers, and arguments for it.

    A layer is product, tanh, mul and the add of a skip connection; each fourth ends in log_softmax.
    With `distinct` no two layers have the same shapes, so that no cache of one serves another:
    rows and columns change in turns, along a path through all pairs of 64 lengths.
    """
    if distinct:
        turns = [divmod(i, 64) for i in range(layers + 1)]
        shapes = [(8 + i, 8 + (j if i % 2 == 0 else 63 - j)) for i, j in turns]
    else:
        shapes = [(16, 16)] * (layers + 1)
    from_right = [a[0] == b[0] for a, b in itertools.pairwise(shapes)]
    weights = [
        np.zeros((a[1], b[1]) if right else (b[0], a[0]), np.float32)
        for (a, b), right in zip(itertools.pairwise(shapes), from_right, strict=True)
    ]

    def loss(weights, x):
        for layer, (weight, right) in enumerate(zip(weights, from_right, strict=True)):
            product = x @ weight if right else weight @ x
            skip = product if distinct else x
            x = jnp.tanh(product) * product + skip
            if layer % 4 == 3:
                x = jax.nn.log_softmax(x)
        return x.mean()

    return loss, jax.device_put((weights, np.zeros(shapes[0], np.float32)))


def count(program: Program) -> int:
    loss, args = program
    return count_equations(jax.make_jaxpr(loss)(*args).jaxpr)


# --- Programs with scans --------------------------------------------------------------------------


def recurrent() -> Program:
    """A tanh recurrent network over 50 steps."""

    def loss(params, inputs):
        def step(hidden, x):
            return jnp.tanh(x @ params["input"] + hidden @ params["recurrent"]), None

        hidden, _ = jax.lax.scan(step, jnp.zeros((32, 64)), inputs)
        return jnp.square(hidden).mean()

    params = {"input": jnp.zeros((16, 64)), "recurrent": jnp.zeros((64, 64))}
    return loss, (params, jnp.zeros((50, 32, 16)))


def stacked() -> Program:
    """Thirty-two layers with their weights stacked on a leading axis."""

    def loss(params, x):
        def layer(x, params):
            weight, bias = params
            return jax.nn.relu(x @ weight + bias), None

        x, _ = jax.lax.scan(layer, x, params)
        return jnp.square(x).mean()

    return loss, ((jnp.zeros((32, 64, 64)), jnp.zeros((32, 64))), jnp.zeros((32, 64)))


def nested() -> Program:
    """Ten steps, each of ten inner steps."""

    def loss(weight, inputs):
        def inner(hidden, _):
            return jnp.tanh(hidden @ weight), hidden.sum()

        def outer(hidden, x):
            hidden, sums = jax.lax.scan(inner, hidden + x, None, 10)
            return hidden, sums.sum()

        hidden, sums = jax.lax.scan(outer, jnp.zeros((32, 64)), inputs)
        return jnp.square(hidden).mean() + sums.mean()

    return loss, (jnp.zeros((64, 64)), jnp.zeros((10, 32, 64)))


SCANS = {"RNN, 50 steps": recurrent, "MLP, 32 stacked layers": stacked, "nested, 10 x 10": nested}


# --- Measurement ----------------------------------------------------------------------------------


def measure(program: Program, repeats: int) -> tuple[Times, Times, Times]:
    """Backpropagation, Z-IL, the graph alone; they take turns."""
    loss, args = program
    traces = (
        lambda f: jax.jit(jax.value_and_grad(f)).trace(*args),
        lambda f: jax.jit(zil(f)).trace(*args),
        lambda f: lg.graph(f)(*args),
    )
    first = [[trace_time(trace, loss, cleared=True) for trace in traces] for _ in range(repeats)]
    for trace in traces:
        trace_time(trace, loss, cleared=False)
    later = [[trace_time(trace, loss, cleared=False) for trace in traces] for _ in range(repeats)]
    backprop, ours, graph = (
        Times(statistics.median(one), statistics.median(other))
        for one, other in zip(zip(*first, strict=True), zip(*later, strict=True), strict=True)
    )
    return backprop, ours, graph


def trace_time(trace: Callable[[Callable], Any], loss: Callable, cleared: bool) -> float:
    """Seconds to trace a function object that no cache has seen."""
    if cleared:
        jax.clear_caches()
    start = time.thread_time()
    trace(lambda *args: loss(*args))
    return time.thread_time() - start


def row(
    title: str, equations: int, times: tuple[Times, Times, Times], seconds: float, ratio: float
) -> Row:
    """Z-IL misses its target above so many seconds, or above this ratio to backpropagation."""
    backprop, ours, graph = times
    cells = [title, str(equations)]
    for theirs, own in zip(backprop, ours, strict=True):
        times_theirs = round(own / theirs, 2)
        cells += [
            f"{1e3 * theirs:.1f}",
            f"{1e3 * own:.1f}{miss(own < seconds)}",
            f"{times_theirs:.2f}{miss(times_theirs <= ratio)}",
        ]
    built = f"{1e3 * graph.later:.1f}{miss(graph.later < seconds)}"
    return [*cells, built, f"{1e3 * ours.later / equations:.3f}"]


def straight_line_table(sizes: list[int], distinct: bool, repeats: int) -> list[Row]:
    """One row per size, then the fitted exponent p of time = constant * equations ** p."""
    rows, points = [HEADER], []
    for size in sizes:
        report(f"about {size} equations, {'distinct' if distinct else 'equal'} shapes")
        program = straight_line(size, distinct)
        equations, times = count(program), measure(program, repeats)
        seconds = SECONDS_FOR_5000 if size <= 5000 else math.inf
        rows.append(row("straight line", equations, times, seconds, math.inf))
        points.append([equations, *(seconds for side in times for seconds in side)])
    if len(points) > 1:
        logs = np.log(points)
        slopes = [f"{slope:.2f}" for slope in np.polyfit(logs[:, 0], logs[:, 1:], 1)[0]]
        backprop_first, backprop_later, first, later, _, graph_later = slopes
        fitted = [backprop_first, first, "", backprop_later, later, "", graph_later, ""]
        rows.append(["exponent", "", *fitted])
    return rows


def scan_table(repeats: int) -> list[Row]:
    rows = [HEADER]
    for name, build in SCANS.items():
        report(name)
        program = build()
        rows.append(row(name, count(program), measure(program, repeats), math.inf, 1.0))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="equations, about")
    parser.add_argument("--repeats", type=int, default=3, help="traces of each kind")
    options = parser.parse_args()
    print("## Equal shapes; target: linear, 5,000 equations in under 10 s\n")
    print(markdown(straight_line_table(options.sizes, False, options.repeats)), flush=True)
    print("\n## No two layers of the same shapes; same target\n")
    print(markdown(straight_line_table(options.sizes, True, options.repeats)), flush=True)
    print("\n## Models with lax.scan; target: ratios <= 1\n")
    print(markdown(scan_table(10 * options.repeats)))
    print_environment()


if __name__ == "__main__":
    main()
