"""Z-IL costs what backpropagation costs; inference learning a hundred times as much."""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import localgrad as lg
from localgrad.experiments.environment import machine
from localgrad.experiments.reproduce.salvatori_2022 import (
    ABOUT_SIZES,
    NETWORKS,
    PAPER,
    SOURCE,
    configuration,
    settings,
)
from localgrad.experiments.reproduce.study import (
    Cell,
    Claim,
    Picture,
    Result,
    Results,
    Row,
    Scale,
    Setup,
    Study,
    Table,
    Verdict,
    verdict,
)
from localgrad.experiments.reproduce.training_cells import trainer_of
from localgrad.experiments.training import Config

IL = lg.InferenceLearning(steps=100, rate=0.1)

FAST = ("backprop", "Z-IL", "control")
SLOW = ("backprop", "IL")

ROUNDS = {FAST: (30, 400), SLOW: (3, 40)}
"""Timings of each side: at least, however long they take, and at most."""

SECONDS = {Scale.QUICK: 3.0, Scale.DEFAULT: 20.0, Scale.FULL: 60.0}
"""For which each of the two groups of sides is timed, within the limits of `ROUNDS`."""

STEP = 1e-3
"""The learning rate, of plain gradient descent."""

EQUAL = 0.05
"""So far from 1 a ratio of equal costs may be."""

PUBLISHED = {
    "MLP": (3.72, 3.81),
    "AlexNet": (8.61, 8.86),
    "RNN": (5.64, 5.67),
    "ResNet-18": (12.43, 12.53),
    "Transformer": (20.43, 20.53),
}
"""Milliseconds of an update in the paper: backpropagation, Z-IL."""

SLOWER = (100.0, 200.0)
"""IL over backpropagation, in the paper."""


def cells(setup: Setup) -> Sequence[Cell]:
    """One cell per network."""
    found = []
    for name in NETWORKS:
        config = configuration(setup, name, setup.seed)
        timed: dict[str, Any] = {"IL": repr(IL), "seconds": SECONDS[setup.scale]}
        depends = settings(config) | timed | machine()
        found.append(Cell(name, depends, partial(_timed, config, SECONDS[setup.scale])))
    return found


def _timed(config: Config, seconds: float) -> Result:
    """Times and sizes of the updates of one network, all sides in this process."""
    trainer = trainer_of(config)
    args = jax.device_put((trainer.model.params, *trainer.batch(0)), jax.devices()[0])
    sides = {
        "backprop": jax.value_and_grad(trainer.loss),
        "Z-IL": lg.value_and_grad(trainer.loss, rule=lg.ZIL()),
        "control": jax.value_and_grad(trainer.loss),
        "IL": lg.value_and_grad(trainer.loss, rule=IL),
    }
    load = os.getloadavg()[0]
    updates = {
        side: _update(value_and_grad).lower(*args).compile()
        for side, value_and_grad in sides.items()
    }
    fast, slow = (
        _alternated({side: partial(updates[side], *args) for side in group}, ROUNDS[group], seconds)
        for group in (FAST, SLOW)
    )
    ratios = {side: (fast[side] / fast["backprop"]) for side in FAST[1:]}
    ratios["IL"] = slow["IL"] / slow["backprop"]
    return {
        "ms": {side: float(np.median(times)) for side, times in {**slow, **fast}.items()},
        "ratio": {side: _quartiles(ratio) for side, ratio in ratios.items()},
        "rounds": {"fast": len(fast["backprop"]), "slow": len(slow["backprop"])},
        "flops": {side: _flops(updates[side]) for side in FAST},
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(args[0])),
        "depth": lg.graph(trainer.loss)(*args).depth,
        "load": [load, os.getloadavg()[0]],
    }


def _update(value_and_grad: Callable[..., Any]) -> Any:
    """A step of gradient descent: a function object of its own, so compiled on its own."""

    def update(params: Any, inputs: Any, labels: Any) -> tuple[Any, Any]:
        loss, gradients = value_and_grad(params, inputs, labels)
        return loss, jax.tree.map(lambda p, g: p - STEP * g, params, gradients)

    return jax.jit(update)


def _alternated(
    sides: dict[str, Callable[[], Any]], rounds: tuple[int, int], seconds: float
) -> dict[str, np.ndarray]:
    """Milliseconds of every side in every round; rounds go through all orders of the sides."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for run in sides.values():
        jax.block_until_ready(run())
    end = time.perf_counter() + seconds
    fewest, most = rounds
    orders = itertools.cycle(itertools.permutations(sides))
    for count, order in enumerate(itertools.islice(orders, most)):
        if count >= fewest and time.perf_counter() > end:
            break
        for side in order:
            start = time.perf_counter()
            jax.block_until_ready(sides[side]())
            times[side].append(1e3 * (time.perf_counter() - start))
    return {side: np.array(of_side) for side, of_side in times.items()}


def _quartiles(samples: np.ndarray) -> list[float]:
    return [float(q) for q in np.quantile(samples, (0.25, 0.5, 0.75))]


def _flops(program: Any) -> float | None:
    """The compiler's own count; None where it has none."""
    cost = program.cost_analysis()
    return float(cost["flops"]) if cost and "flops" in cost else None


def _flops_ratio(result: Result) -> float | None:
    ours, theirs = (result["flops"][side] for side in ("Z-IL", "backprop"))
    return ours / theirs if ours and theirs else None


def tables(setup: Setup, results: Results) -> Sequence[Table]:
    """Z-IL against backpropagation, and inference learning against it."""
    head = ["network", "parameters", "BP, ms", "Z-IL, ms", "Z-IL / BP", "quartiles", "control"]
    head += ["quartiles", "flops, Z-IL / BP", "rounds", "BP, ms, paper", "Z-IL, ms, paper"]
    rows: list[Row] = []
    slow: list[Row] = []
    for name in NETWORKS:
        result, (backprop, zil) = results[name], PUBLISHED[name]
        ms, ratio, steps = result["ms"], result["ratio"], IL.steps
        times = [result["parameters"], ms["backprop"], ms["Z-IL"]]
        for side in ("Z-IL", "control"):
            low, median, high = ratio[side]
            times += [median, f"{low:.3f} to {high:.3f}"]
        times += [_flops_ratio(result), result["rounds"]["fast"], backprop, zil]
        rows.append([name, *times, round(zil / backprop, 3)])
        low, median, high = ratio["IL"]
        relative = [median, f"{low:.1f} to {high:.1f}", median / steps]
        rest = [result["depth"], result["rounds"]["slow"], "100 to 200"]
        slow.append([name, ms["IL"], *relative, *rest])
    slow_head = ["network", "IL, ms", "IL / BP", "quartiles", "one step / BP", "depth"]
    slow_head += ["rounds", "IL / BP, paper"]
    return [
        Table(
            "zil",
            "Run time of one update, Z-IL and backpropagation (BP): medians, and medians and "
            "quartiles of the ratios within a round; control: a second copy of BP over the first",
            [*head, "Z-IL / BP, paper"],
            rows,
        ),
        Table("il", f"The same, inference learning of {IL.steps} steps", slow_head, slow),
    ]


def pictures(setup: Setup, results: Results) -> Sequence[Picture]:
    """The ratios."""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        places = np.arange(len(NETWORKS))
        for k, (side, marker) in enumerate((("Z-IL", "o"), ("control", "s"))):
            low, median, high = np.array([results[n]["ratio"][side] for n in NETWORKS]).T
            bars = (median - low, high - median)
            left.errorbar(places + 0.2 * k - 0.2, median, bars, fmt=marker, capsize=3, label=side)
        published = [zil / backprop for backprop, zil in PUBLISHED.values()]
        left.plot(places + 0.2, published, "kx", label="Z-IL in the paper")
        left.axhline(1, color="0.6", linestyle=":")
        left.set(ylabel="time / time of backpropagation")
        right.bar(places, [results[name]["ratio"]["IL"][1] for name in NETWORKS], 0.5, label="IL")
        right.axhspan(*SLOWER, color="0.8", zorder=0, label="IL in the paper")
        right.set(yscale="log", ylim=(1, 500), ylabel="time / time of backpropagation")
        for axes in (left, right):
            axes.set_xticks(places, list(NETWORKS), rotation=30)
            axes.legend(fontsize="small")

    caption = (
        "Left: Z-IL and a second copy of backpropagation over the first, medians and quartiles. "
        f"Right: inference learning of {IL.steps} steps."
    )
    return [Picture("ratios", caption, draw, (9.0, 4.0))]


def claims(setup: Setup, results: Results) -> Sequence[Claim]:
    """Z-IL is as fast as backpropagation, inference learning is not."""
    il = {name: results[name]["ratio"]["IL"][1] for name in NETWORKS}
    a_step = {name: ratio / IL.steps for name, ratio in il.items()}
    quietest = [min(results[name]["load"]) for name in NETWORKS]
    said = ", ".join(
        f"{name} {results[name]['ratio']['Z-IL'][1]:.3f} "
        f"(control {results[name]['ratio']['control'][1]:.3f})"
        for name in NETWORKS
    )
    counted = [ratio for name in NETWORKS if (ratio := _flops_ratio(results[name])) is not None]
    return [
        Claim(
            f"Z-IL costs as much as backpropagation (median ratio at most {1 + EQUAL:g})",
            f"{PAPER}, run times",
            _as_fast(results),
            f"Z-IL / BP: {said}; load of the machine {min(quietest):.1f} to {max(quietest):.1f}",
        ),
        Claim(
            "Z-IL does no more work: as many floating-point operations in the compiled program "
            "(within 1 %)",
            "docs/rules.md",
            verdict(max(counted) <= 1.01) if counted else Verdict.NOT_TESTABLE,
            f"Z-IL / BP {min(counted):.4f} to {max(counted):.4f}"
            if counted
            else "The compiler counts none on this device.",
        ),
        Claim(
            f"IL of {IL.steps} steps is at least an order of magnitude slower",
            "docs/rules.md",
            verdict(min(il.values()) >= 10),
            "IL / BP: " + ", ".join(f"{name} {ratio:.0f}" for name, ratio in il.items()),
        ),
        Claim(
            "IL is 100 to 200 times slower",
            f"{PAPER}, run times",
            Verdict.NOT_TESTABLE,
            f"{min(il.values()):.0f} to {max(il.values()):.0f} times at {IL.steps} steps; the "
            "ratio is in proportion to their number, and the paper's is not known to us. One step "
            "costs "
            + ", ".join(f"{ratio:.2f} ({name})" for name, ratio in a_step.items())
            + " of a BP, so that 100 to 200 would be "
            + f"{SLOWER[0] / max(a_step.values()):.0f} to {SLOWER[1] / min(a_step.values()):.0f} "
            "steps.",
        ),
    ]


def _as_fast(results: Results) -> Verdict:
    """Not testable where two copies of backpropagation differ by more than the ratio may."""
    ratios = [results[name]["ratio"] for name in NETWORKS]
    quiet = [ratio for ratio in ratios if abs(ratio["control"][1] - 1) <= EQUAL]
    if any(ratio["Z-IL"][1] > 1 + EQUAL for ratio in quiet):
        return Verdict.NOT_REPRODUCED
    return Verdict.REPRODUCED if len(quiet) == len(ratios) else Verdict.NOT_TESTABLE


STUDY = Study(
    name="salvatori-2022-runtime",
    title="Z-IL, inference learning and backpropagation: run time of an update",
    source=SOURCE,
    about="One update of all weights by plain gradient descent, with the gradient of "
    "backpropagation, of Z-IL on events, and of inference learning, each one compiled program. "
    "The sides take turns in one process, in all orders; a second copy of backpropagation, "
    "compiled on its own, is the control: where its median is more than "
    f"{EQUAL:g} off 1 the machine is too busy to judge the network. Inference learning takes "
    f"{IL.steps} steps, as Millidge, Tschantz, Buckley 2020b have; fewer than the depth would "
    f"leave weights without any error. The paper's times are of its machine. {ABOUT_SIZES}",
    cells=cells,
    tables=tables,
    pictures=pictures,
    claims=claims,
)
