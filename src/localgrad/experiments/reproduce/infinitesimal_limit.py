"""Inference learning tends to backpropagation as the nudge falls, as far as the dtype can tell."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import localgrad as lg
from localgrad.experiments.reproduce.study import (
    Cell,
    Claim,
    Picture,
    Result,
    Results,
    Scale,
    Setup,
    Study,
    Table,
    verdict,
)
from localgrad.experiments.reproduce.training_cells import trainer_of
from localgrad.experiments.training import Config

DTYPES = ("float32", "float64")
POWERS = range(0, -9, -1)
"""The nudges, as powers of ten."""
STEPS, RATE = 3000, 0.1


def cells(setup: Setup) -> Sequence[Cell]:
    """One cell per dtype and nudge."""
    data = "digits" if setup.scale is Scale.QUICK else "mnist"
    hidden = (64, 64) if setup.scale is Scale.QUICK else (300, 300, 100)
    settings: dict[str, Any] = {"data": data, "model": "mlp-ar-tanh", "hidden": hidden}
    settings |= {"batch_size": 32, "seed": setup.seed, "loss": "squared"}
    settings |= {"steps": STEPS, "rate": RATE}
    return [
        Cell(
            _key(dtype, power),
            settings | {"nudge": 10.0**power, "dtype": dtype},
            partial(_distance, setup.folder, settings, 10.0**power, dtype),
        )
        for dtype in DTYPES
        for power in POWERS
    ]


def _key(dtype: str, power: int) -> str:
    return f"{dtype}-nudge-1e{power}"


def _distance(folder: str | None, settings: dict[str, Any], nudge: float, dtype: str) -> Result:
    """How far the gradient is from backpropagation's, leaf by leaf."""
    names = ("data", "model", "hidden", "batch_size", "seed", "loss")
    with jax.enable_x64(dtype == "float64"):
        rule = lg.InferenceLearning(steps=STEPS, rate=RATE, nudge=nudge)
        config = Config(rule=rule, folder=folder, epochs=1, **{k: settings[k] for k in names})
        trainer = trainer_of(config)
        comparison = trainer.compare(trainer.model.params)
    return {
        "max_rel": {leaf.name.removeprefix("args[0]"): leaf.max_rel for leaf in comparison.leaves},
        "cosine": comparison.cosine,
        "residual": comparison.residual,
    }


def _worst(results: Results, dtype: str) -> np.ndarray:
    """Of each nudge, the largest difference of any leaf."""
    return np.array([np.max([*results[_key(dtype, p)]["max_rel"].values()]) for p in POWERS])


def _floor(worst: np.ndarray) -> tuple[float, float]:
    """The nudge with the smallest distance, and the distance."""
    best = int(np.argmin(worst))
    return 10.0 ** POWERS[best], float(worst[best])


def tables(setup: Setup, results: Results) -> Sequence[Table]:
    """The distance for every nudge and dtype."""
    head = ["nudge", *(f"max rel, {dtype}" for dtype in DTYPES), "cosine, float64", "residual"]
    columns = [_worst(results, dtype) for dtype in DTYPES]
    rows = [
        [
            10.0**power,
            *(float(column[k]) for column in columns),
            results[_key("float64", power)]["cosine"],
            results[_key("float64", power)]["residual"],
        ]
        for k, power in enumerate(POWERS)
    ]
    return [Table("distance", "Distance from backpropagation, the worst leaf", head, rows)]


def pictures(setup: Setup, results: Results) -> Sequence[Picture]:
    """The same as a figure."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        nudges = 10.0 ** np.array(POWERS)
        for dtype, marker in zip(DTYPES, "os", strict=True):
            axes.loglog(nudges, _worst(results, dtype), marker=marker, label=dtype)
        axes.loglog(nudges, nudges, "k:", label="proportional to the nudge")
        axes.set_xlabel("nudge")
        axes.set_ylabel("max |g - b| / max |b|, worst leaf")
        axes.legend()

    caption = "In float64 the distance falls with the nudge; in float32 rounding takes over."
    return [Picture("distance", caption, draw)]


def claims(setup: Setup, results: Results) -> Sequence[Claim]:
    """The limit, its rate, and where float32 ends."""
    exact, single = _worst(results, "float64"), _worst(results, "float32")
    decades = np.log10(exact[0] / exact[3]) / 3
    nudge, floor = _floor(single)
    times = single / exact
    worst = int(np.argmax(times))
    return [
        Claim(
            "Inference learning's gradient tends to backpropagation's as the output error's "
            "influence tends to zero",
            "Millidge et al. 2022",
            verdict(bool(np.all(np.diff(exact[:6]) < 0) and exact.min() < 1e-5)),
            f"float64: {exact[0]:.1e} at nudge 1, {exact.min():.1e} at best",
        ),
        Claim(
            "The distance is of first order in the nudge",
            "Millidge et al. 2022",
            verdict(bool(0.8 < decades < 1.2)),
            f"{decades:.2f} decades per decade of the nudge, from 1 to 1e-3",
        ),
        Claim(
            "In float32 it is rounding that sets the distance at small nudges, not the nudge",
            "docs/rules.md",
            verdict(bool(floor > 10 * exact.min() and times[worst] > 10)),
            f"smallest distance {floor:.1e}, at nudge {nudge:g}; {times[worst]:.0f} times that of "
            f"float64 at nudge {10.0 ** POWERS[worst]:g}",
        ),
    ]


STUDY = Study(
    name="infinitesimal-limit",
    title="Inference learning as the nudge goes to zero",
    source="Millidge, Song, Salvatori, Lukasiewicz, Bogacz 2022, Backpropagation at the "
    "infinitesimal inference limit of energy-based models.",
    about=f"One gradient of a tanh perceptron by inference learning ({STEPS} steps at rate "
    f"{RATE:g}), against backpropagation's, for nudges from 1 down, in both precisions.",
    cells=cells,
    tables=tables,
    pictures=pictures,
    claims=claims,
)
