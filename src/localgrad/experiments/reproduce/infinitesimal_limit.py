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
BATCH = 32
NUDGES = (32.0, 8.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
"""The loss is a mean over the batch: at the first one each example has the dynamics that it has
alone, with its output clamped."""
STEPS, RATE = 3000, 0.1


def cells(setup: Setup) -> Sequence[Cell]:
    """One cell per dtype and nudge."""
    data = "digits" if setup.scale is Scale.QUICK else "mnist"
    hidden = (64, 64) if setup.scale is Scale.QUICK else (300, 300, 100)
    settings: dict[str, Any] = {"data": data, "model": "mlp-ar-tanh", "hidden": hidden}
    settings |= {"batch_size": BATCH, "seed": setup.seed, "loss": "squared"}
    settings |= {"steps": STEPS, "rate": RATE}
    return [
        Cell(
            _key(dtype, nudge),
            settings | {"nudge": nudge, "dtype": dtype},
            partial(_distance, setup.folder, settings, nudge, dtype),
        )
        for dtype in DTYPES
        for nudge in NUDGES
    ]


def _key(dtype: str, nudge: float) -> str:
    return f"{dtype}-nudge-{nudge:g}"


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
    each = (results[_key(dtype, nudge)]["max_rel"] for nudge in NUDGES)
    return np.array([np.max([*leaves.values()]) for leaves in each])


def tables(setup: Setup, results: Results) -> Sequence[Table]:
    """The distance for every nudge and dtype."""
    said = ("max rel", "cosine", "residual")
    head = ["nudge", *(f"{what}, {dtype}" for what in said for dtype in DTYPES)]
    worst = {dtype: _worst(results, dtype) for dtype in DTYPES}
    rows = [
        [
            nudge,
            *(float(worst[dtype][k]) for dtype in DTYPES),
            *(results[_key(dtype, nudge)][what] for what in said[1:] for dtype in DTYPES),
        ]
        for k, nudge in enumerate(NUDGES)
    ]
    caption = (
        "Distance from backpropagation, of the worst leaf; residual: max |fb - e| / max |fb| when "
        "the steps were over"
    )
    return [Table("distance", caption, head, rows)]


def pictures(setup: Setup, results: Results) -> Sequence[Picture]:
    """The same as a figure."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for dtype, marker in zip(DTYPES, "os", strict=True):
            axes.loglog(NUDGES, _worst(results, dtype), marker=marker, label=dtype)
        below = np.array([nudge for nudge in NUDGES if nudge <= 1])
        first = _worst(results, "float64")[NUDGES.index(1.0)]
        axes.loglog(below, first * below, "k:", label="proportional to the nudge")
        axes.axvline(BATCH, color="0.6", linewidth=0.8)
        axes.set_xlabel("nudge")
        axes.set_ylabel("max |g - b| / max |b|, worst leaf")
        axes.invert_xaxis()
        axes.legend()

    caption = (
        "The gray line is ordinary predictive coding, with the output clamped. In float64 the "
        "distance falls with the nudge until rounding ends it, too; in float32 it does sooner. "
        "Values that are too large to be moved by what pushes them stay where they are, and what "
        "is left is fixed prediction, at the same distance whatever the nudge."
    )
    return [Picture("distance", caption, draw)]


def claims(setup: Setup, results: Results) -> Sequence[Claim]:
    """The limit, its order, and where float32 ends."""
    single, exact = (_worst(results, dtype) for dtype in DTYPES)
    one, small = NUDGES.index(1.0), NUDGES.index(1e-5)
    decades = np.log10(exact[one] / exact[one + 3]) / 3
    times = single / exact
    worst = int(np.argmax(times))
    still = [nudge for nudge, found in zip(NUDGES, single, strict=True) if found == single[-1]]
    plateau = f"; {single[-1]:.1e} at every nudge of {max(still):g} and less, to the last digit"
    return [
        Claim(
            "Inference learning's gradient tends to backpropagation's as the output error's "
            "influence tends to zero",
            "Millidge et al. 2022",
            verdict(bool(np.all(np.diff(exact[: small + 1]) < 0) and exact.min() < 1e-5)),
            f"float64: {exact[0]:.2g} with the output clamped (nudge {NUDGES[0]:g}), "
            f"{exact[one]:.1e} at nudge 1, {exact.min():.1e} at best",
        ),
        Claim(
            "The distance is of first order in the nudge",
            "Millidge et al. 2022",
            verdict(bool(0.8 < decades < 1.2)),
            f"{decades:.2f} decades per decade of the nudge, from 1 to 1e-3",
        ),
        Claim(
            "In float32 it is rounding that sets the distance at small nudges, not the nudge (ten "
            "times float64's)",
            "docs/rules.md",
            verdict(bool(times[worst] > 10)),
            f"{single[worst]:.1e} at nudge {NUDGES[worst]:g}, {times[worst]:.0f} times that of "
            f"float64{plateau if len(still) > 1 else ''}",
        ),
    ]


STUDY = Study(
    name="infinitesimal-limit",
    title="Inference learning as the nudge goes to zero",
    source="Millidge, Song, Salvatori, Lukasiewicz, Bogacz 2022, Backpropagation at the "
    "infinitesimal inference limit of energy-based models.",
    about=f"One gradient of a tanh perceptron by inference learning ({STEPS} steps at rate "
    f"{RATE:g}), against backpropagation's, for nudges from the classical one down, in both "
    "precisions.",
    cells=cells,
    tables=tables,
    pictures=pictures,
    claims=claims,
)
