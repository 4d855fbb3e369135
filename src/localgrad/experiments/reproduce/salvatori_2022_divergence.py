"""Z-IL computes backpropagation's update on any network, if its graph is levelled."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import localgrad as lg
from localgrad.experiments.reproduce.salvatori_2022 import (
    ABOUT_SIZES,
    CHAINS,
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

RULES: dict[str, lg.Rule] = {
    "events": lg.ZIL(),
    "clock, levelled": lg.ZIL(clock=True),
    "clock, not levelled": lg.ZIL(clock=True, levelled=False),
}
LEVELLED, RAW = "clock, levelled", "clock, not levelled"
FREE = "clock, not levelled, not held"
"""Vertices go on moving behind the wave: inference learning at rate 1, read at the last level."""

FIRST = {
    "MLP": (".layers[0]",),
    "AlexNet": (".convolutions[0]",),
    "ResNet-18": (".stem", ".norm"),
    "Transformer": (".embed", ".positions"),
}
"""The parameters at the last level. Those of a recurrent network are at many levels at once."""

ZERO = {"float32": 5e-6, "float64": 1e-13}
"""The largest difference, relative to the largest gradient of a leaf, that is rounding."""

FAR = 0.01
"""The same, more than any rounding, also where it grows ahead of the wave."""

EXPLODED = 1e6
"""A distance of the order of magnitude that the paper has."""

SEEDS = {Scale.QUICK: 2, Scale.DEFAULT: 2, Scale.FULL: 5}

PUBLISHED = {
    ("MLP", RAW): "0",
    ("AlexNet", RAW): "0 (CNN)",
    ("RNN", RAW): "0",
    ("ResNet-18", RAW): "4.53e7",
    ("ResNet-18", FREE): "4.53e7",
    ("ResNet-18", LEVELLED): "0",
}
"""Of these the first three need no levelling, in the paper."""


def cells(setup: Setup) -> Sequence[Cell]:
    """One cell per network and dtype."""
    seeds = setup.seeds or SEEDS[setup.scale]
    rules = {side: repr(rule) for side, rule in RULES.items()}
    rules[FREE] = "InferenceLearning(steps=depth, rate=1.0)"
    found = []
    for dtype in ZERO:
        for name in NETWORKS:
            config = configuration(setup, name, setup.seed)
            depends = settings(config) | {"dtype": dtype, "seeds": seeds, "rules": rules}
            run = partial(_distances, name, config, seeds, dtype)
            found.append(Cell(_key(name, dtype), depends, run))
    return found


def _key(name: str, dtype: str) -> str:
    return f"{name}-{dtype}"


def _distances(name: str, config: Config, seeds: int, dtype: str) -> Result:
    """By rule, how far its gradient is from backpropagation's; of each seed."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        numbers = range(config.seed, config.seed + seeds)
        trainers = [trainer_of(replace(config, seed=seed)) for seed in numbers]
        loss = trainers[0].loss
        problems = [(trainer.model.params, *trainer.batch(0)) for trainer in trainers]
        depth = lg.graph(loss)(*problems[0]).depth
        rules = dict(RULES)
        if name in FIRST:
            rules[FREE] = lg.InferenceLearning(steps=depth, rate=1.0)
        exact = _gradients(jax.grad(loss), problems)
        found: Result = {"depth": depth}
        for side, rule in rules.items():
            gradients = _gradients(lg.grad(loss, rule=rule), problems)
            read = FIRST[name] if side == FREE else ("",)
            pairs = zip(gradients, exact, strict=True)
            found[side] = _by_measure([_distance(g, b, read) for g, b in pairs])
    return found


def _gradients(grad: Callable[..., Any], problems: Sequence[Any]) -> list[dict[str, np.ndarray]]:
    """The leaves of the gradient, of every problem, by one compiled program."""
    compiled = jax.jit(grad)
    found = [jax.device_get(compiled(*problem)) for problem in problems]
    return [
        {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(gradient)}
        for gradient in found
    ]


def _distance(
    gradient: dict[str, np.ndarray], exact: dict[str, np.ndarray], read: tuple[str, ...]
) -> dict[str, float]:
    """Over the parameters whose names begin so; `max_rel` is that of the worst one."""
    pairs = [
        (np.asarray(gradient[leaf], np.float64), np.asarray(exact[leaf], np.float64))
        for leaf in exact
        if leaf.startswith(read)
    ]
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf is nan, and shall be seen
        squares = sum(float(((g - b) ** 2).sum()) for g, b in pairs)
        worst = [_relative(float(np.abs(g - b).max()), float(np.abs(b).max())) for g, b in pairs]
    return {
        "distance": squares**0.5,
        "relative": (squares / sum(float((b**2).sum()) for _, b in pairs)) ** 0.5,
        "max_rel": float(np.max(worst)),
        "same": all(np.array_equal(g, b) for g, b in pairs),
    }


def _relative(difference: float, size: float) -> float:
    return difference / size if size else (float("inf") if difference else 0.0)


def _by_measure(found: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    return {measure: [one[measure] for one in found] for measure in found[0]}


def _worst(results: Results, name: str, dtype: str, side: str, measure: str = "max_rel") -> float:
    """The largest of all seeds; nan if one is."""
    return float(np.max(results[_key(name, dtype)][side][measure]))


def tables(setup: Setup, results: Results) -> Sequence[Table]:
    """Every network, way of running and dtype."""
    head = ["network", "depth", "Z-IL", "dtype", "distance", "relative", "max rel", "same bits"]
    rows: list[Row] = [
        [
            name,
            results[_key(name, dtype)]["depth"],
            side,
            dtype,
            *(_worst(results, name, dtype, side, m) for m in ("distance", "relative", "max_rel")),
            "yes" if all(results[_key(name, dtype)][side]["same"]) else "no",
            PUBLISHED.get((name, side), ""),
        ]
        for name in NETWORKS
        for side in (*RULES, FREE)
        for dtype in ZERO
        if side in results[_key(name, dtype)]
    ]
    caption = (
        "Distance of Z-IL's update from backpropagation's, the worst seed. With g and b the "
        "two gradients of all parameters: distance |g - b|; relative |g - b| / |b|; max rel "
        "max |g - b| / max |b| of the worst parameter array; same bits in every seed. Not held: of "
        "the first layer alone"
    )
    return [Table("divergence", caption, [*head, "paper"], rows)]


def pictures(setup: Setup, results: Results) -> Sequence[Picture]:
    """The relative distances."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(ZERO), sharey=True)
        for dtype, axes in zip(ZERO, panels, strict=True):
            for k, (side, marker) in enumerate(zip((*RULES, FREE), "ovX^", strict=True)):
                has = [n for n, name in enumerate(NETWORKS) if side in results[_key(name, dtype)]]
                names = [list(NETWORKS)[n] for n in has]
                shown = [_worst(results, name, dtype, side, "relative") for name in names]
                at = np.array(has) + 0.2 * (k - 1.5)
                axes.plot(at, np.maximum(shown, FLOOR), marker, label=side, clip_on=False)
            axes.set_yscale("log")
            axes.axhline(FLOOR, color="0.6", linestyle=":")
            axes.set_xticks(range(len(NETWORKS)), list(NETWORKS), rotation=30)
            axes.set_title(dtype)
        panels[0].set_ylabel("|g - b| / |b|")
        panels[0].set_ylim(bottom=FLOOR / 100)
        panels[0].text(0, FLOOR / 4, "exactly 0", color="0.4", fontsize=8, va="top")
        figure.legend(*panels[1].get_legend_handles_labels(), loc="outside upper center", ncols=4)

    caption = (
        "Relative distance from backpropagation, of the worst seed; exact zeros stand on the "
        f"dotted line. There is no {FREE} of the RNN, whose parameters are read at many levels."
    )
    return [Picture("divergence", caption, draw, (9.0, 4.0))]


FLOOR = 1e-18
"""Where the figure has its zeros."""


def claims(setup: Setup, results: Results) -> Sequence[Claim]:
    """Zero where the graph has levels, and not where it has none."""

    def zero(names: Sequence[str], sides: Sequence[str]) -> tuple[Verdict, str]:
        found = {
            dtype: max(_nan_is_large(_worst(results, n, dtype, s)) for n in names for s in sides)
            for dtype in ZERO
        }
        text = ", ".join(f"{dtype} {worst:.1e}" for dtype, worst in found.items())
        holds = all(worst <= ZERO[dtype] for dtype, worst in found.items())
        return verdict(holds), f"largest max rel: {text}"

    def raw(name: str, side: str = RAW) -> str:
        found = (
            f"{dtype}: distance {_worst(results, name, dtype, side, 'distance'):.3g}, max rel "
            f"{_worst(results, name, dtype, side):.3g}"
            for dtype in ZERO
        )
        return "; ".join(found)

    def is_far(name: str) -> bool:
        found = [results[_key(name, dtype)][RAW]["max_rel"] for dtype in ZERO]
        return all(_nan_is_large(distance) > FAR for seeds in found for distance in seeds)

    rounding = "zero up to rounding: max rel at most " + ", ".join(
        f"{limit:g} in {dtype}" for dtype, limit in ZERO.items()
    )
    return [
        Claim(
            f"On MLP, CNN and RNN the divergence is 0 ({rounding})",
            f"{PAPER}, divergence",
            *zero(CHAINS, [LEVELLED]),
        ),
        Claim(
            "There it is 0 with nothing levelled, too (as above)",
            f"{PAPER}, divergence",
            *zero(CHAINS, [RAW]),
        ),
        Claim(
            f"On ResNet-18 it is not, before levelling (max rel above {FAR:g} in every seed)",
            f"{PAPER}, divergence",
            verdict(is_far("ResNet-18")),
            raw("ResNet-18"),
        ),
        Claim(
            "There the weights explode: 4.53e7 (vertices not held behind the wave, the first "
            f"layer alone: a distance above {EXPLODED:g} in both dtypes)",
            f"{PAPER}, divergence",
            verdict(
                all(
                    _nan_is_large(_worst(results, "ResNet-18", dtype, FREE, "distance")) > EXPLODED
                    for dtype in ZERO
                )
            ),
            f"{raw('ResNet-18', FREE)}. The paper's weights and measure are not known to us",
        ),
        Claim(
            "On the levelled ResNet-18 it is 0 (as above)",
            f"{PAPER}, divergence",
            *zero(["ResNet-18"], [LEVELLED]),
        ),
        Claim(
            "On the levelled graph Z-IL is exact for any network: all five (as above)",
            f"{PAPER}, theorem",
            *zero(list(NETWORKS), [LEVELLED]),
        ),
        Claim(
            "The transformer needs levelling too (as on ResNet-18)",
            "docs/rules.md",
            verdict(is_far("Transformer")),
            raw("Transformer"),
        ),
        Claim(
            "Run on events, Z-IL computes the same, on all five (as above)",
            "docs/rules.md",
            *zero(list(NETWORKS), ["events"]),
        ),
    ]


def _nan_is_large(number: float) -> float:
    return float("inf") if np.isnan(number) else number


STUDY = Study(
    name="salvatori-2022-divergence",
    title="Z-IL and backpropagation: divergence",
    source=SOURCE,
    about="One gradient of the initial network on its first batch by Z-IL, on events and by the "
    "clock, levelled and not, against `jax.grad`, in both precisions, each with its own weights. "
    "The distance is that of the weights after one update from the same weights, at learning rate "
    "1; how the paper's divergence is defined is not known to us. `lg.ZIL` holds a vertex from the "
    "time on that is its level; the last row of a network does not, and reads the first layer's "
    "parameters as many steps after the start as the graph is deep. At the quick scale that is "
    "less than the paper's number. Not levelled, a vertex adds up the changes of its prediction "
    "from the start on, which ahead of the wave are rounding, and grow; so larger networks without "
    f"skip connections may differ as well. {ABOUT_SIZES}",
    cells=cells,
    tables=tables,
    pictures=pictures,
    claims=claims,
)
