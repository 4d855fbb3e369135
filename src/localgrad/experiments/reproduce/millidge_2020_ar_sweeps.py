"""How AR's gradient turns into backpropagation's over sweeps, from zero and from the activities."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binom

import localgrad as lg
from localgrad.experiments.reproduce.accuracies import spread
from localgrad.experiments.reproduce.study import (
    Cell,
    Claim,
    Picture,
    Result,
    Results,
    Row,
    Table,
    verdict,
)
from localgrad.experiments.reproduce.training_cells import trainer_of
from localgrad.experiments.training import Config

Start = Literal["zero", "activity"]

OURS = "docs/rules.md"

SWEEPS = (1, 5, 10, 20, 50, 100, 200)
RATES = (0.05, 0.1, 0.5, 1.0)
STARTS: tuple[Start, ...] = ("zero", "activity")
ELSEWHERE = {20: 86.0, 50: 36.0, 100: 0.4}
"""Degrees after so many sweeps at rate .1, in the published setting on random images."""


def sweep_cells(config: Config) -> list[Cell]:
    """One cell per start: the gradients of a network before its training."""
    return [
        Cell(
            f"sweeps-{start}",
            config.as_dict() | {"sweeps": SWEEPS, "rates": RATES, "start": start},
            partial(_swept, config, start),
        )
        for start in STARTS
    ]


def _swept(config: Config, start: Start) -> Result:
    """AR's update of the first layer against backpropagation's, by rate, of seeds and sweeps.

    ``angle`` in degrees, None where no error has come so far; ``distance`` is ``|g - b| / |b|``.
    """
    of_seeds = [_of_seed(replace(config, seed=config.seed + k), start) for k in range(config.seeds)]
    return {
        what: {f"{rate:g}": [one[what][rate] for one in of_seeds] for rate in RATES}
        for what in ("angle", "distance")
    }


def _of_seed(config: Config, start: Start) -> dict[str, dict[float, list[Any]]]:
    trainer = trainer_of(replace(config, seeds=1))
    params, batch = trainer.model.params, trainer.batch(0)
    exact = np.asarray(jax.tree.leaves(jax.grad(trainer.loss)(params, *batch))[0], np.float64)
    found: dict[str, dict[float, list[Any]]] = {
        what: {rate: [] for rate in RATES} for what in ("angle", "distance")
    }
    for sweeps in SWEEPS:

        @jax.jit
        def first(rate: Any, params: Any, batch: Any, sweeps: int = sweeps) -> Any:
            rule = lg.ActivationRelaxation(steps=sweeps, rate=rate, start=start)
            return jax.tree.leaves(lg.grad(trainer.loss, rule=rule)(params, *batch))[0]

        for rate in RATES:
            got = np.asarray(first(rate, params, batch), np.float64)
            found["angle"][rate].append(_angle(got, exact))
            off = np.linalg.norm(got - exact) / np.linalg.norm(exact)
            found["distance"][rate].append(float(off))
    return found


def _angle(g: np.ndarray, b: np.ndarray) -> float | None:
    """Between two arrays, in degrees; None where one is zero."""
    norms = np.linalg.norm(g) * np.linalg.norm(b)
    return float(np.degrees(np.arccos(np.clip(np.vdot(g, b) / norms, -1, 1)))) if norms else None


def _missing(hidden: int, rate: float) -> np.ndarray:
    """What theory says is missing of the first layer's update, from zero, after each of `SWEEPS`.

    An error has come through all hidden layers where ``Binomial(sweeps, rate) >= hidden``.
    """
    return np.asarray(binom.cdf(hidden - 1, SWEEPS, rate))


def sweep_tables(hidden: int, results: Results) -> Sequence[Table]:
    """Directions from the activities, lengths from zero."""
    zero, activity = results["sweeps-zero"]["distance"], results["sweeps-activity"]["angle"]
    angles: list[Row] = [
        [rate, *(spread(np.array(degrees)) for degrees in zip(*of_seeds, strict=True))]
        for rate, of_seeds in activity.items()
    ]
    angles.append(["0.1, on random images", *(ELSEWHERE.get(sweeps) for sweeps in SWEEPS)])
    distances: list[Row] = []
    for rate, of_seeds in zero.items():
        distances.append([float(rate), "measured", *np.max(of_seeds, axis=0).tolist()])
        distances.append([float(rate), "theory", *_missing(hidden, float(rate)).tolist()])
    sweeps = [f"{sweeps} sweeps" for sweeps in SWEEPS]
    return [
        Table(
            "angles",
            "From the activities: degrees between the first layer's update and backpropagation's, "
            "mean and standard deviation over seeds",
            ["rate", *sweeps],
            angles,
        ),
        Table(
            "distances",
            "From zero: |g - b| / |b| of the first layer, of the farthest seed",
            ["rate", "", *sweeps],
            distances,
        ),
    ]


def sweep_picture(hidden: int, results: Results) -> Picture:
    """Convergence over sweeps, from both starts."""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for k, rate in enumerate(RATES):
            zero, activity = (
                np.array(results[f"sweeps-{start}"][what][f"{rate:g}"], float)
                for start, what in (("zero", "distance"), ("activity", "angle"))
            )
            label, color = f"rate {rate:g}", f"C{k}"
            left.semilogx(SWEEPS, zero.max(axis=0), "o", color=color, label=label)
            left.semilogx(SWEEPS, _missing(hidden, rate), ":", color=color)
            right.semilogx(SWEEPS, activity.mean(axis=0), "o-", color=color, label=label)
            right.fill_between(SWEEPS, *np.quantile(activity, (0, 1), axis=0), alpha=0.2)
        left.set(title="from zero", xlabel="sweeps", ylabel="|g - b| / |b|, first layer")
        left.set_yscale("symlog", linthresh=1e-7)
        left.set_yticks([0, *10.0 ** np.arange(-7, 1)])
        left.plot([], [], "k:", label="theory")
        handles = left.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=len(RATES) + 1)
        right.set(title="from the activities", xlabel="sweeps")
        right.set_ylabel("angle to backpropagation (degrees), first layer")

    caption = (
        "How the first layer's update turns into backpropagation's. From zero it has the right "
        "direction at once, and is too small; from the activities it has another direction until "
        "these have decayed (mean and range of seeds)."
    )
    return Picture("sweeps", caption, draw, (9.0, 4.5))


def sweep_claims(hidden: int, results: Results) -> list[Claim]:
    """Our reconstruction of the published convergence, and the theory from zero."""
    angles = np.array(results["sweeps-activity"]["angle"]["0.1"])
    enough = angles[:, SWEEPS.index(100)]
    before = ", ".join(
        f"{angles[:, SWEEPS.index(n)].mean():.0f} after {n}" for n in sorted(ELSEWHERE)[:-1]
    )
    zero = results["sweeps-zero"]["distance"]
    off = np.max([np.abs(np.array(zero[f"{r:g}"]) - _missing(hidden, r)).max() for r in RATES])
    return [
        Claim(
            "In the published setting 100 sweeps turn the update into backpropagation's (mean of "
            "seeds below 1 degree; .4, 36 and 86 after 100, 50 and 20 on random images)",
            OURS,
            verdict(bool(enough.mean() < 1)),
            f"{enough.mean():.2f} degrees, of seeds {enough.min():.2f} to {enough.max():.2f}; "
            f"{before}",
        ),
        Claim(
            "From zero the update is backpropagation's times the probability that Binomial(sweeps, "
            "rate) is at least the number of hidden layers (to 1e-5)",
            OURS,
            verdict(bool(off < 1e-5)),
            f"off by {off:.1e} at most, of all rates, sweeps and seeds",
        ),
    ]
