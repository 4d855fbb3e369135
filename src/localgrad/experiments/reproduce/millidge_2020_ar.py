"""Activation relaxation, and what becomes of it without its biologically implausible parts."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from matplotlib.figure import Figure

import localgrad as lg
from localgrad import plot
from localgrad.experiments.reproduce.accuracies import final, mean, spread
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
    Verdict,
    verdict,
)
from localgrad.experiments.reproduce.training_cells import trainer_of, training_cell
from localgrad.experiments.training import Config

Start = Literal["zero", "activity"]

AR = partial(lg.ActivationRelaxation, steps=100, rate=0.1, start="activity")

MAIN = {"backpropagation": (lg.Backprop(), "symmetric"), "AR": (AR(), "symmetric")}
"""By name: a rule, and the weights that errors travel on."""

FAST = partial(lg.ActivationRelaxation, steps=20, rate=0.5, start="zero")
"""As far converged after 20 sweeps as the published one after 100, in a fifth of the time."""

RELAXED = {
    "backpropagation": (lg.Backprop(), "symmetric"),
    "AR": (FAST(), "symmetric"),
    "learned psi": (FAST(), "learned"),
    "random psi": (FAST(), "random"),
    "no f' in the relaxation": (FAST(derivatives="parameters"), "symmetric"),
    "no f' at all": (FAST(derivatives="nowhere"), "symmetric"),
    "learned psi, no f' in the relaxation": (FAST(derivatives="parameters"), "learned"),
    "current value in the relaxation": (AR(unfrozen="relaxation"), "symmetric"),
    "current value in the update": (AR(unfrozen="parameters"), "symmetric"),
    "current value in both": (AR(unfrozen="both"), "symmetric"),
}
"""The unfrozen ones have a forward pass to lose only where they start from it."""

UNITS = {"ReLU": "mlp-ar", "tanh": "mlp-ar-tanh"}
SWEEPS = (1, 5, 10, 20, 50, 100, 200)
RATES = (0.05, 0.1, 0.5, 1.0)
STARTS: tuple[Start, ...] = ("zero", "activity")


def cells(setup: Setup) -> Sequence[Cell]:
    """Gradients after few and many sweeps; trainings; the relaxations; the convolutional net."""
    swept = replace(_config(setup, MAIN["AR"]), seeds=1)
    first = [
        Cell(
            f"sweeps-{start}",
            swept.as_dict() | {"sweeps": SWEEPS, "rates": RATES, "start": start},
            partial(_angles, swept, start),
        )
        for start in STARTS
    ]
    main = [training_cell(_key(name), _config(setup, what)) for name, what in MAIN.items()]
    relaxed = [
        training_cell(_key(name, unit), _config(setup, what, unit, is_main=False))
        for name, what in RELAXED.items()
        for unit in UNITS
    ]
    images = [training_cell(_key(name, "CNN"), _images(setup, what)) for name, what in MAIN.items()]
    return [*first, *main, *relaxed, *images]


def _config(
    setup: Setup, what: tuple[lg.Rule, str], unit: str = "ReLU", is_main: bool = True
) -> Config:
    """The published training: plain gradient descent on summed squares."""
    rule, feedback = what
    is_quick = setup.scale is Scale.QUICK
    epochs, seeds = (10, 5) if is_main or setup.scale is Scale.FULL else (3, 3)
    return Config(
        data="digits" if is_quick else "mnist",
        folder=setup.folder,
        model=UNITS[unit],
        hidden=(64, 64) if is_quick else (300, 300, 100),
        rule=rule,
        feedback=feedback,
        loss="squared-sum",
        epochs=100 if is_quick else epochs,
        batch_size=64,
        optimiser="sgd",
        learning_rate=5e-4,
        schedule="constant",
        weight_decay=0.0,
        seed=setup.seed,
        seeds=setup.seeds or (2 if is_quick else seeds),
    )


def _images(setup: Setup, what: tuple[lg.Rule, str]) -> Config:
    """The convolutional net of the second paper."""
    is_full = setup.scale is Scale.FULL
    config = _config(setup, what, "tanh")
    if setup.scale is Scale.QUICK:
        return replace(config, model="cnn", hidden=(4, 8), epochs=20)
    return replace(
        config,
        data="cifar10",
        model="cnn-ar",
        hidden=(6, 16, 120, 120),
        epochs=30 if is_full else 3,
        seeds=setup.seeds or (5 if is_full else 3),
    )


def _angles(config: Config, start: Start) -> Result:
    """Degrees between AR's and backpropagation's update of the first layer."""
    trainer = trainer_of(config)
    params, batch = trainer.model.params, trainer.batch(0)
    exact = jax.tree.leaves(jax.grad(trainer.loss)(params, *batch))[0]
    found: dict[str, list[float]] = {f"{rate:g}": [] for rate in RATES}
    for sweeps in SWEEPS:

        @jax.jit
        def first(rate: Any, params: Any, batch: Any, sweeps: int = sweeps) -> Any:
            rule = lg.ActivationRelaxation(steps=sweeps, rate=rate, start=start)
            return jax.tree.leaves(lg.grad(trainer.loss, rule=rule)(params, *batch))[0]

        for rate in RATES:
            found[f"{rate:g}"].append(_angle(first(rate, params, batch), exact))
    return found


def _angle(g: Any, b: Any) -> float:
    """Between two arrays, in degrees; nan where one is zero."""
    g, b = (np.asarray(x, np.float64).ravel() for x in (g, b))
    norms = np.linalg.norm(g) * np.linalg.norm(b)
    return float(np.degrees(np.arccos(np.clip(g @ b / norms, -1, 1)))) if norms else float("nan")


def _key(name: str, unit: str = "") -> str:
    kept = [c if c.isalnum() else "-" for c in f"{name} {unit}".strip().replace("'", "")]
    return "".join(kept).lower()


def tables(setup: Setup, results: Results) -> Sequence[Table]:
    """Sweeps, trainings, relaxations, images."""
    angles = [
        [start, float(rate), *results[f"sweeps-{start}"][rate]]
        for start in STARTS
        for rate in results[f"sweeps-{start}"]
    ]

    def ends(name: str, nets: Sequence[str]) -> list[str]:
        return [name, *(spread(final(results[_key(name, net)])) for net in nets)]

    main = [ends(name, ("", "CNN")) for name in MAIN]
    relaxed = [ends(name, tuple(UNITS)) for name in RELAXED]
    head = ["start", "rate", *(f"{sweeps} sweeps" for sweeps in SWEEPS)]
    percent = "test accuracy in percent, mean and standard deviation over seeds"
    return [
        Table(
            "angles",
            "Degrees to backpropagation's update of the first layer; nan where it is zero, for no "
            "error has come so far",
            head,
            angles,
        ),
        Table("accuracy", f"AR and backpropagation, {percent}", ["", "perceptron", "CNN"], main),
        Table("relaxations", f"Relaxations, {percent}", ["", *UNITS], relaxed),
    ]


def pictures(setup: Setup, results: Results) -> Sequence[Picture]:
    """Learning curves, and the angle over sweeps."""

    def curves(figure: Figure) -> None:
        values = {name: 100 * np.array(results[_key(name)]["accuracy"]).T for name in MAIN}
        epochs = range(1, 1 + min(v.shape[1] for v in values.values()))
        drawn = {name: v[:, : len(epochs)] for name, v in values.items()}
        ax = figure.subplots()
        plot.learning_curves(drawn, epochs, "test accuracy (%)", xlabel="epoch", ax=ax)

    def angles(figure: Figure) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        for start, ax in zip(STARTS, axes, strict=True):
            for rate, found in results[f"sweeps-{start}"].items():
                ax.semilogx(SWEEPS, found, "o-", label=f"rate {rate}")
            ax.set(title=f"{start} start", xlabel="sweeps")
        axes[0].set_ylabel("angle to backpropagation (degrees)")
        axes[1].legend()

    return [
        Picture("curves", "The curves of AR and backpropagation lie upon each other.", curves),
        Picture("angles", "How the first layer's update turns into backpropagation's.", angles),
    ]


def claims(setup: Setup, results: Results) -> Sequence[Claim]:
    """What the papers say of accuracies, and our reconstruction of the published convergence."""
    bp, ar = (mean(results[_key(name)]) for name in MAIN)

    def loses(name: str, unit: str) -> float:
        """Points of accuracy below AR; nan where one has diverged."""
        return mean(results[_key("AR", unit)]) - mean(results[_key(name, unit)])

    def comparable(name: str) -> tuple[Verdict, str]:
        losses = {unit: loses(name, unit) for unit in UNITS}
        said = ", ".join(f"{unit}: {loss:+.1f} points lost" for unit, loss in losses.items())
        return verdict(all(loss < 3 for loss in losses.values())), said

    angles = results["sweeps-activity"]["0.1"]
    cnn = [mean(results[_key(name, "CNN")]) for name in MAIN]
    follow_up = "Millidge et al. 2020, Investigating the scalability"
    source = "Millidge et al. 2020, Activation relaxation"
    return [
        Claim(
            "AR trains as well as backpropagation (within .3 points)",
            source,
            verdict(abs(bp - ar) <= 0.3),
            f"backpropagation {bp:.2f} %, AR {ar:.2f} %",
        ),
        Claim(
            "100 sweeps at rate .1 are enough to turn the update into backpropagation's "
            "(below 1 degree)",
            source,
            verdict(angles[SWEEPS.index(100)] < 1),
            f"{angles[SWEEPS.index(100)]:.2f} degrees, {angles[SWEEPS.index(50)]:.0f} after 50",
        ),
        Claim(
            "Learned backward weights are comparable to AR (3 points)",
            source,
            *comparable("learned psi"),
        ),
        Claim(
            "Leaving the nonlinear derivatives out of the relaxation does little (3 points)",
            source,
            *comparable("no f' in the relaxation"),
        ),
        Claim(
            "Both together are equivalent to full AR (3 points)",
            source,
            *comparable("learned psi, no f' in the relaxation"),
        ),
        Claim(
            "With the current value in place of the stored one, AR still trains (tanh, 3 points)",
            source,
            verdict(loses("current value in the update", "tanh") < 3),
            comparable("current value in the update")[1],
        ),
        Claim(
            "AR trains convolutional nets as backpropagation does (1 point)",
            follow_up,
            verdict(abs(cnn[0] - cnn[1]) < 1),
            f"backpropagation {cnn[0]:.1f} %, AR {cnn[1]:.1f} %",
        ),
    ]


STUDY = Study(
    name="millidge-2020-ar",
    title="Activation relaxation",
    source="Millidge, Tschantz, Seth, Buckley 2020, Activation relaxation: a local dynamical "
    "approximation to backpropagation in the brain; and 2020, Investigating the scalability and "
    "biological plausibility of the activation relaxation algorithm.",
    about="The published setting: a perceptron 784-300-300-100-10 and a convolutional net, linear "
    "outputs, weights N(0, .05^2), gradient descent at 5e-4 on summed squares over batches of 64, "
    "100 sweeps at rate .1 from the activities. The papers print curves and no table of "
    "accuracies. Relaxations are trained for fewer epochs and "
    "seeds, and with 20 sweeps at rate .5 from zero, which is as far; the convolutional net for "
    "fewer epochs and on as much of CIFAR-10 as there is.",
    cells=cells,
    tables=tables,
    pictures=pictures,
    claims=claims,
)
