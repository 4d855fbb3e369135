"""Inference with fewer steps than layers, and its cost beside backpropagation's."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import localgrad as lg
from localgrad.experiments.environment import machine
from localgrad.experiments.reproduce.accuracies import deviation, final, mean, spread
from localgrad.experiments.reproduce.study import (
    Cell,
    Claim,
    Picture,
    Result,
    Results,
    Row,
    Setup,
    Study,
    Table,
    verdict,
)
from localgrad.experiments.reproduce.training_cells import training_cell
from localgrad.experiments.reproduce.zahid_2023_cost import (
    COSTS,
    COUNTED,
    EXPECTED,
    NET,
    cost,
    rule_of,
    stages,
)
from localgrad.experiments.reproduce.zahid_2023_steps import (
    DEPTHS,
    LAYERS,
    MEASURES,
    RATES,
    RULES,
    TRAINED_AT,
    config,
    counts,
    sweep,
    trained_depths,
    trained_steps,
)

SOURCE = "Zahid, Guo, Fountas 2023"

ENOUGH = 0.99
"""The part of a rule's best cosine that counts as all of it."""

GOOD = 0.9
"""The best cosine from which on a rule is asked how soon it comes to it."""


def cells(setup: Setup) -> Sequence[Cell]:
    """Cosines and trainings by depth, rule and steps; costs by rule."""
    cosines = [
        Cell(
            _key("cosine", depth, name),
            swept.as_dict() | {"counts": counts(depth), "rates": RATES, "measures": list(MEASURES)},
            partial(sweep, swept, name, counts(depth)),
        )
        for depth in DEPTHS[setup.scale]
        for name, rule in RULES.items()
        for swept in [replace(config(setup, depth, rule()), seeds=1)]
    ]
    trained = [
        training_cell(_key("trained", depth), config(setup, depth, lg.Backprop()))
        for depth in trained_depths(setup)
    ]
    trained += [
        training_cell(
            _key("trained", depth, name, steps),
            config(setup, depth, RULES[name](steps=steps, rate=TRAINED_AT[name])),
        )
        for depth in trained_depths(setup)
        for name in RULES
        for steps in trained_steps(depth)
    ]
    timed = replace(config(setup, 3, lg.Backprop()), model="mlp-ar", hidden=NET, seeds=1)
    costs = [
        Cell(
            _key("cost", name),
            timed.as_dict() | {"rule": repr(rule_of(name)), "counted": COUNTED} | machine(),
            partial(cost, timed, name),
        )
        for name in COSTS
    ]
    return [*cosines, *trained, *costs]


def _key(*parts: str | int) -> str:
    return "".join(c if c.isalnum() else "-" for c in "-".join(map(str, parts))).lower()


def _at(result: Result, measure: str, rate: str, count: int) -> float:
    """The cosine after so many steps."""
    return float(result["cosine"][measure][rate][result["counts"].index(count)])


def _fewest(result: Result, rate: str) -> tuple[int, float]:
    """The fewest steps with about the best cosine there is, mean of layers, and that cosine."""
    found = np.array(result["cosine"][LAYERS][rate])
    first = int(np.argmax(found >= ENOUGH * np.nanmax(found)))
    return result["counts"][first], float(found[first])


def _trained(results: Results, depth: int, name: str) -> list[Result]:
    """By the number of steps."""
    return [results[_key("trained", depth, name, n)] for n in trained_steps(depth)]


def _accuracies(results: Results, depth: int, name: str) -> list[float]:
    return [mean(result) for result in _trained(results, depth, name)]


class Parallel(NamedTuple):
    """What a rule takes where all vertices work at once."""

    depth: int
    rule: str
    rate: float
    steps: int
    """The fewest that come to about the best `cosine`."""
    cosine: float
    products: int
    ratio: float
    """Over backpropagation's products."""


def _parallel(setup: Setup, results: Results) -> list[Parallel]:
    found = []
    for depth in DEPTHS[setup.scale]:
        for name in RULES:
            for rate in RATES:
                steps, cosine = _fewest(results[_key("cosine", depth, name)], f"{rate:g}")
                products = stages(name, depth + 1, steps)
                ratio = products / (2 * (depth + 1))
                found.append(Parallel(depth, name, rate, steps, cosine, products, ratio))
    return found


def tables(setup: Setup, results: Results) -> Sequence[Table]:
    """Cosines, accuracies, costs, and time in parallel."""
    which = ["hidden layers", "rule", "rate"]
    steps = ["1 step", "half the layers", "one less than layers", "layers", "twice the layers"]
    cosines: list[Row] = [
        [measure, depth, name, rate, *(_at(found, measure, f"{rate:g}", n) for n in at)]
        for measure in MEASURES
        for depth in DEPTHS[setup.scale]
        for at in [(1, depth // 2, depth - 1, depth, 2 * depth)]
        for name in RULES
        for found in [results[_key("cosine", depth, name)]]
        for rate in RATES
    ]
    trained: list[Row] = [
        [depth, name, TRAINED_AT[name], *(spread(final(one)) for one in [*found, exact])]
        for depth in trained_depths(setup)
        for exact in [results[_key("trained", depth)]]
        for name in RULES
        for found in [_trained(results, depth, name)]
    ]
    costs: list[Row] = [
        [name, found["work"], EXPECTED.get(name), found["time"], took, took / found["time"]]
        for name in COSTS
        for found in [results[_key("cost", name)]]
        for took in [found["milliseconds"]]
    ]
    trained_at = [*which, *steps[:2], *steps[3:], "backpropagation"]
    cost_head = ["", "multiply-adds", "multiply-adds by hand", "time", "ms per training step"]
    cost_head.append("of backpropagation, in turn")
    parallel_head = [*which, "steps", "cosine", "products", "over backpropagation's"]
    return [
        Table(
            "cosine",
            "Cosine to backpropagation: mean of layers, 0 for one that nothing has reached; and of "
            "all parameters as one vector",
            ["cosine", *which, *steps],
            cosines,
        ),
        Table(
            "accuracy",
            "Test accuracy in percent, mean and standard deviation over seeds, by inference steps",
            trained_at,
            trained,
        ),
        Table(
            "cost",
            "Cost over backpropagation's, each measured in turn with it",
            cost_head,
            costs,
        ),
        Table(
            "parallel",
            "Fewest steps with about the best cosine (mean of layers), and the matrix products "
            "after each other",
            parallel_head,
            _parallel(setup, results),
        ),
    ]


def pictures(setup: Setup, results: Results) -> Sequence[Picture]:
    """The cosine and the accuracy over steps per layer."""

    def cosines(figure: Figure) -> None:
        grid = figure.subplots(len(MEASURES), len(RULES), sharex=True, sharey=True)
        for measure, axes in zip(MEASURES, grid, strict=True):
            for name, ax in zip(RULES, axes, strict=True):
                _cosines(setup, results, ax, measure, name)
                _per_layer(ax, name)
                ax.label_outer()
            axes[0].set_ylabel(f"cosine, {measure}")
        grid[-1, 1].legend(fontsize="small", loc="lower right")  # where there is room

    def accuracies(figure: Figure) -> None:
        axes = figure.subplots(1, len(trained_depths(setup)), sharey=True, squeeze=False)[0]
        for depth, ax in zip(trained_depths(setup), axes, strict=True):
            for name, marker in zip(RULES, "os^", strict=True):
                at = np.array(trained_steps(depth)) / depth
                found = [final(result) for result in _trained(results, depth, name)]
                middle, off = [one.mean() for one in found], [deviation(one) for one in found]
                ax.errorbar(at, middle, off, marker=marker, capsize=3, label=name)
            ax.set_xscale("log")
            exact = mean(results[_key("trained", depth)])
            ax.axhline(exact, color="k", linestyle=":", label="backpropagation")
            _per_layer(ax, f"{depth} hidden layers")
        axes[0].set_ylabel("test accuracy (%)")
        axes[0].legend(fontsize="small")

    return [
        Picture(
            "cosine",
            "Left of the line there are fewer steps than layers. Dotted: rate .2; solid: rate 1.",
            cosines,
            (10.0, 7.0),
        ),
        Picture(
            "accuracy",
            "Test accuracy after training with so many steps, mean and standard deviation over "
            "seeds.",
            accuracies,
        ),
    ]


def _cosines(setup: Setup, results: Results, ax: Axes, measure: str, name: str) -> None:
    """Lines of a rule, for each depth and rate."""
    for k, (depth, marker) in enumerate(zip(DEPTHS[setup.scale], "os^D", strict=False)):
        found = results[_key("cosine", depth, name)]
        for rate, line in zip(RATES, (":", "-"), strict=True):
            ax.semilogx(
                np.array(found["counts"]) / depth,
                found["cosine"][measure][f"{rate:g}"],
                marker + line,
                color=f"C{k}",
                markersize=4,
                label=f"{depth} layers, rate {rate:g}",
            )
    ax.axvline(1, color="0.6", linewidth=0.8)


def _per_layer(ax: Axes, title: str) -> None:
    """An axis in steps per layer, by powers of two."""
    shown = (0.125, 0.25, 0.5, 1, 2, 4, 8)
    low, high = ax.get_xlim()
    ticks = [x for x in shown if low <= x <= high]
    ax.set_xticks(ticks, labels=[f"{x:g}" for x in ticks])
    ax.minorticks_off()
    ax.set(title=title, xlabel="steps per hidden layer", xlim=(low, high))


def claims(setup: Setup, results: Results) -> Sequence[Claim]:
    """Fewer steps than layers, then cost."""
    falls = [_falls(setup, results, name, measure) for measure in MEASURES for name in RULES]
    costs = {name: results[_key("cost", name)] for name in COSTS if name != "backpropagation"}
    cheapest = min(costs, key=lambda name: costs[name]["work"])
    fastest = min(costs, key=lambda name: costs[name]["time"])
    good = [found for found in _parallel(setup, results) if found.cosine >= GOOD]
    parallel = min(good, key=lambda found: found.ratio)
    noise = max(0.02, abs(results[_key("cost", "backpropagation")]["time"] - 1))
    counted = {name: costs[name]["work"] for name in EXPECTED}
    return [
        *falls,
        *(_loses(setup, results, name) for name in RULES),
        Claim(
            "No variant does less work than backpropagation",
            SOURCE,
            verdict(costs[cheapest]["work"] >= 0.999),
            f"the least is {cheapest}'s: {costs[cheapest]['work']:.3f} of backpropagation's",
        ),
        Claim(
            "No variant is faster than backpropagation (by more than 2 %, or than two copies of "
            "its program differ)",
            SOURCE,
            verdict(costs[fastest]["time"] >= 1 - noise),
            f"the fastest is {fastest}: {costs[fastest]['time']:.2f} of backpropagation's time; "
            f"allowed were {100 * noise:.1f} %",
        ),
        Claim(
            "None is, even fully parallel: at least two products per layer after each other, where "
            f"the cosine comes to {GOOD:g} at all",
            SOURCE,
            verdict(parallel.ratio >= 1),
            f"the least is {parallel.rule}'s at rate {parallel.rate:g} in {parallel.depth} hidden "
            f"layers: {parallel.ratio:.2f} of backpropagation's",
        ),
        Claim(
            "AR costs 15.4 times backpropagation's multiply-adds at 100 sweeps, 1.29 times at rate "
            "1 and 3 sweeps (2 %)",
            "counted by hand from the sizes of 784-300-300-100-10",
            verdict(all(abs(counted[n] / EXPECTED[n] - 1) < 0.02 for n in EXPECTED)),
            ", ".join(f"{name}: {work:.2f}" for name, work in counted.items()),
        ),
    ]


def _falls(setup: Setup, results: Results, name: str, measure: str) -> Claim:
    """Whether the cosine falls just where there are fewer steps than layers."""
    rate = f"{TRAINED_AT[name]:g}"
    parts = []
    for depth in DEPTHS[setup.scale]:
        found = results[_key("cosine", depth, name)]
        best = float(np.nanmax(found["cosine"][measure][rate]))
        parts.append([_at(found, measure, rate, n) / best for n in (depth // 2, depth)])
    measured = ", ".join(
        f"{depth} layers: {half:.2f} and {all_:.2f}"
        for depth, (half, all_) in zip(DEPTHS[setup.scale], parts, strict=True)
    )
    return Claim(
        f"{name}: the cosine to backpropagation ({measure}) falls sharply with fewer steps than "
        "layers (to 80 % of its best or less with half as many, when as many are enough)",
        SOURCE,
        verdict(all(half <= 0.8 and all_ >= ENOUGH for half, all_ in parts)),
        f"of its best, with half as many steps and with as many, at rate {rate}: {measured}",
    )


def _loses(setup: Setup, results: Results, name: str) -> Claim:
    """Whether the accuracy falls there, too."""
    depths = trained_depths(setup)
    found = {depth: _accuracies(results, depth, name) for depth in depths}
    return Claim(
        f"{name}: the accuracy falls, too (5 points or more with half as many steps as layers)",
        SOURCE,
        verdict(all(half <= all_ - 5 for _, half, all_, _ in found.values())),
        "; ".join(
            f"{depth} layers: {one:.1f} % with one step, {half:.1f} with half as many as layers, "
            f"{all_:.1f} with as many"
            for depth, (one, half, all_, _) in found.items()
        ),
    )


STUDY = Study(
    name="zahid-2023",
    title="What inference costs",
    source="Zahid, Guo, Fountas 2023, Predictive coding as a neuromorphic alternative to "
    "backpropagation: a critical evaluation, Neural Computation.",
    about="Perceptrons of several depths (ReLU, hidden layers of one width), trained by inference "
    "learning, fixed prediction and activation relaxation with fewer and more inference steps "
    "than layers. IL has the classical energy and rate .2, for it does not settle at rate 1; the "
    "others have rate 1, where errors travel one layer a step. Networks, data and epochs are "
    "ours, and the paper's own numbers are not beside them: they were not at hand, nor was its "
    "definition of the cosine, and two are shown. The mean of layers falls as fewer of them are "
    "reached: for fixed prediction it is (steps + 1) / (layers + 1), whatever the network, since "
    "what is reached at all has the right direction. Of all parameters as one vector, the last "
    "layers, which are reached first, are the longest. AR starts from the activities, as it was "
    "published; from zero it would be fixed prediction. Work is the "
    "compiler's count for 784-300-300-100-10 and batches of 64; loops are opened for it, and long "
    f"ones extrapolated from {COUNTED[0]} and {COUNTED[1]} steps: where more are opened the count "
    "is higher, for fused programs compute some things twice. Time is the median of training steps "
    "in turn with backpropagation's, with Adam, on this machine and under its load. Time in "
    "parallel counts matrix products that have to wait for each other: for backpropagation two per "
    "layer. Two seeds with --quick, three by default, five with --full.",
    cells=cells,
    tables=tables,
    pictures=pictures,
    claims=claims,
)
