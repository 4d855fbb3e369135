"""Activation relaxation, and what becomes of it without its biologically implausible parts."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.figure import Figure

import localgrad as lg
from localgrad import plot
from localgrad.experiments.reproduce.accuracies import final, mean, spread
from localgrad.experiments.reproduce.millidge_2020_ar_sweeps import (
    sweep_cells,
    sweep_claims,
    sweep_picture,
    sweep_tables,
)
from localgrad.experiments.reproduce.study import (
    Cell,
    Claim,
    Picture,
    Results,
    Scale,
    Setup,
    Study,
    Table,
    Verdict,
    verdict,
)
from localgrad.experiments.reproduce.training_cells import training_cell
from localgrad.experiments.training import Config

AR = partial(lg.ActivationRelaxation, steps=100, rate=0.1, start="activity")

MAIN = {"backpropagation": (lg.Backprop(), "symmetric"), "AR": (AR(), "symmetric")}
"""By name: a rule, and the weights that errors travel on."""

FAST = partial(lg.ActivationRelaxation, steps=20, rate=0.5, start="zero")
"""As far converged after 20 sweeps as the published one after 100, in a fifth of the time."""

UNFROZEN = partial(FAST, start="activity")
"""They have values of the forward pass to lose only where they start from them."""

RELAXED = {
    "backpropagation": (lg.Backprop(), "symmetric"),
    "AR": (FAST(), "symmetric"),
    "learned psi": (FAST(), "learned"),
    "random psi": (FAST(), "random"),
    "no f' in the relaxation": (FAST(derivatives="parameters"), "symmetric"),
    "no f' at all": (FAST(derivatives="nowhere"), "symmetric"),
    "learned psi, no f' in the relaxation": (FAST(derivatives="parameters"), "learned"),
    "f' of now in the relaxation": (UNFROZEN(unfrozen="relaxation"), "symmetric"),
    "f' of now in the update": (UNFROZEN(unfrozen="parameters"), "symmetric"),
    "f' of now in both": (UNFROZEN(unfrozen="both"), "symmetric"),
    "the activity of now in the update": (UNFROZEN(unfrozen="activity"), "symmetric"),
}

LEARNED, NO_F = "learned psi", "no f' in the relaxation"
BOTH = f"{LEARNED}, {NO_F}"
IMAGES = MAIN | {name: RELAXED[name] for name in (LEARNED, NO_F, BOTH)}
"""What the convolutional net is trained with."""

UNITS = {"ReLU": "mlp-ar", "tanh": "mlp-ar-tanh"}


def cells(setup: Setup) -> Sequence[Cell]:
    """Gradients after few and many sweeps; trainings; the relaxations; the convolutional net."""
    main = [training_cell(_key(name), _config(setup, what)) for name, what in MAIN.items()]
    relaxed = [
        training_cell(_key(name, unit), _config(setup, what, unit, is_main=False))
        for name, what in RELAXED.items()
        for unit in UNITS
    ]
    images = [
        training_cell(_key(name, "CNN"), _images(setup, what)) for name, what in IMAGES.items()
    ]
    return [*sweep_cells(_config(setup, MAIN["AR"])), *main, *relaxed, *images]


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


def _hidden(setup: Setup) -> int:
    """The number of hidden layers of the perceptron."""
    return len(_config(setup, MAIN["AR"]).hidden)


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


def _key(name: str, unit: str = "") -> str:
    kept = [c if c.isalnum() else "-" for c in f"{name} {unit}".strip().replace("'", "")]
    return "".join(kept).lower()


def tables(setup: Setup, results: Results) -> Sequence[Table]:
    """Sweeps, trainings, relaxations, images."""

    def ends(name: str, nets: Sequence[str]) -> list[str]:
        return [name, *(spread(final(results[_key(name, net)])) for net in nets)]

    percent = "test accuracy in percent, mean and standard deviation over seeds"
    return [
        *sweep_tables(_hidden(setup), results),
        Table(
            "accuracy",
            f"The perceptron, {percent}",
            ["", "perceptron"],
            [ends(name, [""]) for name in MAIN],
        ),
        Table(
            "relaxations",
            f"Relaxations of the perceptron, {percent}",
            ["", *UNITS],
            [ends(name, list(UNITS)) for name in RELAXED],
        ),
        Table(
            "images",
            f"The convolutional net, {percent}",
            ["", "CNN"],
            [ends(name, ["CNN"]) for name in IMAGES],
        ),
    ]


def pictures(setup: Setup, results: Results) -> Sequence[Picture]:
    """Learning curves, and convergence over sweeps."""

    def curves(figure: Figure) -> None:
        values = {name: 100 * np.array(results[_key(name)]["accuracy"]).T for name in MAIN}
        epochs = range(1, 1 + min(v.shape[1] for v in values.values()))
        drawn = {name: v[:, : len(epochs)] for name, v in values.items()}
        ax = figure.subplots()
        plot.learning_curves(drawn, epochs, "test accuracy (%)", xlabel="epoch", ax=ax)

    return [
        Picture("curves", "The curves of AR and backpropagation lie upon each other.", curves),
        sweep_picture(_hidden(setup), results),
    ]


COMPARABLE = 3
"""Points of accuracy that may be lost where the papers speak of comparable or equivalent."""

FIRST_PAPER = "Millidge et al. 2020, Activation relaxation"
FOLLOW_UP = "Millidge et al. 2020, Investigating the scalability"


def claims(setup: Setup, results: Results) -> Sequence[Claim]:
    """Of convergence, of accuracies, of relaxations, of images."""
    return [
        *_of_accuracy(results),
        *sweep_claims(_hidden(setup), results),
        *_of_relaxations(results),
        *_of_images(results),
    ]


def _of_accuracy(results: Results) -> list[Claim]:
    bp, ar = (mean(results[_key(name)]) for name in MAIN)
    return [
        Claim(
            "AR trains as well as backpropagation (within .3 points)",
            FIRST_PAPER,
            verdict(abs(bp - ar) <= 0.3),
            f"backpropagation {bp:.2f} %, AR {ar:.2f} %",
        ),
        Claim(
            "... on Fashion-MNIST, too",
            FIRST_PAPER,
            Verdict.NOT_TESTABLE,
            "its files were not at hand; `localgrad train --data fashion-mnist` trains on them",
        ),
    ]


def _of_relaxations(results: Results) -> list[Claim]:
    def lost(name: str, unit: str) -> float:
        """Points of accuracy below AR; nan where one has diverged."""
        return mean(results[_key("AR", unit)]) - mean(results[_key(name, unit)])

    def said(name: str) -> str:
        points = {unit: lost(name, unit) for unit in UNITS}
        return ", ".join(
            f"{unit}: diverged" if np.isnan(n) else f"{unit}: {n:+.1f} points lost"
            for unit, n in points.items()
        )

    def comparable(name: str) -> tuple[Verdict, str]:
        return verdict(all(lost(name, unit) < COMPARABLE for unit in UNITS)), said(name)

    return [
        Claim("Learned backward weights are comparable to AR", FIRST_PAPER, *comparable(LEARNED)),
        Claim(
            "... and fixed random ones are worse (1 point)",
            FIRST_PAPER,
            verdict(all(lost("random psi", unit) > 1 for unit in UNITS)),
            said("random psi"),
        ),
        Claim(
            "Leaving the nonlinear derivatives out of the relaxation does little",
            FIRST_PAPER,
            *comparable(NO_F),
        ),
        Claim("Both together are equivalent to full AR", FIRST_PAPER, *comparable(BOTH)),
        *(
            Claim(
                f"With {name}, not of the forward pass, AR still trains (tanh)",
                FOLLOW_UP,
                verdict(lost(name, "tanh") < COMPARABLE),
                said(name),
            )
            for name in RELAXED
            if " of now " in name
        ),
    ]


def _of_images(results: Results) -> list[Claim]:
    cnn = {name: final(results[_key(name, "CNN")]) for name in IMAGES}
    bp, ar = (cnn[name] for name in MAIN)
    return [
        Claim(
            "AR trains convolutional nets as backpropagation does (1 point)",
            FOLLOW_UP,
            verdict(bool(abs(bp.mean() - ar.mean()) < 1)),
            f"backpropagation {spread(bp)} %, AR {spread(ar)} %",
        ),
        *(
            Claim(
                f"... and so it does with {name}",
                FOLLOW_UP,
                verdict(bool(ar.mean() - cnn[name].mean() < COMPARABLE)),
                f"{ar.mean() - cnn[name].mean():+.1f} points lost ({spread(cnn[name])} %)",
            )
            for name in (LEARNED, NO_F, BOTH)
        ),
        Claim(
            "... on CIFAR-100 and SVHN, too",
            FOLLOW_UP,
            Verdict.NOT_TESTABLE,
            "their files were not at hand; `localgrad train --model cnn-ar --data svhn` trains on "
            "them",
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
    "accuracies; where they speak of comparable or equivalent, 3 points may be lost here. "
    "Relaxations are trained for fewer epochs and "
    "seeds, and with 20 sweeps at rate .5 from zero, which is as far; the convolutional net for "
    "fewer epochs and on as much of CIFAR-10 as there is.",
    cells=cells,
    tables=tables,
    pictures=pictures,
    claims=claims,
)
