"""Whole trainings by Z-IL and Fa-Z-IL, beside backpropagation."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import localgrad as lg
from localgrad import plot
from localgrad.experiments.data.idx import INNER
from localgrad.experiments.reproduce.accuracies import spread
from localgrad.experiments.reproduce.beside import beside
from localgrad.experiments.reproduce.study import (
    Cell,
    Claim,
    Picture,
    Results,
    Row,
    Scale,
    Setup,
    Table,
    verdict,
)
from localgrad.experiments.training import Config

PAPER = "Song et al. 2020"

FASHION = "fashion-mnist"
"""Is trained on, too, where its files are given."""

BATCH, WIDTH = 32, 32
DTYPES = ("float32", "float64")

IL = lg.InferenceLearning(steps=64, rate=0.1, nudge=float(BATCH))
"""With this nudge each example has the dynamics that it has alone: the output is clamped."""

EXACT: dict[str, lg.Rule] = {
    "Z-IL on events": lg.ZIL(),
    "Z-IL by the clock": lg.ZIL(clock=True),
    "Fa-Z-IL": lg.FaZIL(),
}
ROUNDING = "backpropagation, begun one rounding off"
TRAINED = {"IL": IL, **EXACT, ROUNDING: lg.Backprop()}

COLOURS, MARKERS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"), "os^Dv"
"""Those of `plot.learning_curves`."""


def sets(setup: Setup) -> list[str]:
    """The data sets that are trained on."""
    if setup.scale is Scale.QUICK:
        return ["digits"]
    given = [Path(setup.folder, name).is_dir() for name in INNER[FASHION] if setup.folder]
    return ["mnist", FASHION] if any(given) else ["mnist"]


def configuration(setup: Setup, data: str, rule: lg.Rule) -> Config:
    """A perceptron with its output clamped, gradient descent."""
    epochs, seeds = {Scale.QUICK: (5, 2), Scale.DEFAULT: (5, 5), Scale.FULL: (64, 5)}[setup.scale]
    return Config(
        data=data,
        folder=setup.folder,
        model="mlp",
        hidden=(WIDTH, WIDTH),
        rule=rule,
        loss="squared",
        epochs=epochs,
        batch_size=BATCH,
        optimiser="sgd",
        learning_rate=0.1,
        schedule="constant",
        weight_decay=0.0,
        seed=setup.seed,
        seeds=setup.seeds or seeds,
    )


def training_cells(setup: Setup, data: str) -> list[Cell]:
    """One cell per rule and dtype."""
    return [_cell(setup, data, name, dtype) for name in TRAINED for dtype in DTYPES]


def _cell(setup: Setup, data: str, name: str, dtype: str) -> Cell:
    config, roundings = configuration(setup, data, TRAINED[name]), int(name == ROUNDING)
    settings = config.as_dict() | {"dtype": dtype, "roundings": roundings}
    key = _prefix(data) + _key(name, dtype)
    return Cell(key, settings, partial(beside, config, dtype, roundings))


def _prefix(data: str) -> str:
    return f"{data}-" if data == FASHION else ""


def _of_set(results: Results, data: str) -> Results:
    """The results of a set's trainings, without its name in their keys."""
    begin = _prefix(data)
    return {key.removeprefix(begin): r for key, r in results.items() if key.startswith(begin)}


def _key(name: str, dtype: str) -> str:
    kept = [c for c in name.lower().replace(" ", "-") if c.isalnum() or c == "-"]
    return f"training-{''.join(kept)}-{dtype}"


def _distance(results: Results, name: str, dtype: str) -> np.ndarray:
    """Of the weights from backpropagation's, over epochs, of the seed that is farthest."""
    return np.array(results[_key(name, dtype)]["distance"]).max(axis=1)


def _errors(results: Results, name: str, dtype: str, what: str = "accuracy") -> np.ndarray:
    """Test errors in percent, of seeds over epochs; with "backprop" those of its twin."""
    return 100 * (1 - np.array(results[_key(name, dtype)][what]).T)


def _final(results: Results, name: str, dtype: str, what: str = "accuracy") -> np.ndarray:
    """The last test error, of each seed."""
    return _errors(results, name, dtype, what)[:, -1]


def _off(results: Results, name: str, dtype: str) -> float:
    """By how much a test error is not backpropagation's, at most, of any epoch and seed."""
    errors, others = (_errors(results, name, dtype, what) for what in ("accuracy", "backprop"))
    return float(np.abs(errors - others).max())


def training_table(results: Results, data: str) -> Table:
    """Test errors, and distances from backpropagation's weights."""
    results = _of_set(results, data)
    rows: list[Row] = [
        [
            name,
            dtype,
            spread(_final(results, name, dtype)),
            spread(_final(results, name, dtype, "backprop")),
            0.0 if name in EXACT else None,
            *_distance(results, name, dtype)[[0, -1]].tolist(),
        ]
        for name in TRAINED
        for dtype in DTYPES
    ]
    ends = ["distance published", "after 1 epoch", "at the end"]
    return Table(
        f"training-{data}",
        f"Trained on {data}: test error in percent, mean and standard deviation over seeds; "
        "distance |w - b| / |b| of all weights from backpropagation's, of the farthest seed",
        ["", "dtype", "test error", "of backpropagation", *ends],
        rows,
    )


def training_picture(results: Results, data: str) -> Picture:
    """Learning curves; distance over epochs."""
    results = _of_set(results, data)

    def draw(figure: Figure) -> None:
        left, *right = figure.subplots(1, 3)
        curves = {name: _errors(results, name, "float32") for name in TRAINED if name != ROUNDING}
        curves["backpropagation"] = _errors(results, "IL", "float32", "backprop")
        epochs = range(1, 1 + len(_distance(results, "IL", "float32")))
        plot.learning_curves(curves, epochs, "test error (%)", xlabel="epoch", ax=left)
        left.set_title("float32")
        for dtype, ax in zip(DTYPES, right, strict=True):
            lines(ax, epochs, {name: _distance(results, name, dtype) for name in TRAINED})
            ax.set(title=dtype, xlabel="epoch", ylabel="|w - b| / |b|")
        for ax in figure.axes:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=5)

    caption = (
        f"On {data}: the curves of all rules but IL lie upon each other; how far the weights are "
        "from those that backpropagation has trained."
    )
    return Picture(f"training-{data}", caption, draw, (13.0, 4.0))


def lines(ax: Axes, x: Sequence[int], lines: dict[str, np.ndarray]) -> None:
    """Lines over a logarithmic axis that has a zero; of equal ones the first has larger markers."""
    for k, (name, y) in enumerate(lines.items()):
        ax.plot(x, y, "-" + MARKERS[k], color=COLOURS[k], markersize=10 - 1.5 * k, label=name)
    ax.set_yscale("symlog", linthresh=1e-17)
    ax.set_yticks([0, *10.0 ** np.arange(-16, 5, 4)])


def training_claims(results: Results, data: str) -> list[Claim]:
    """Equal trainings, and IL's, which is another one."""
    results = _of_set(results, data)
    ends = {d: {name: _distance(results, name, d)[-1] for name in TRAINED} for d in DTYPES}
    farthest = {d: np.max([ends[d][name] for name in EXACT]) for d in DTYPES}
    rounding = {d: ends[d][ROUNDING] for d in DTYPES}
    off = {d: {name: _off(results, name, d) for name in TRAINED} for d in DTYPES}
    most = {d: np.max([off[d][name] for name in EXACT]) for d in DTYPES}
    il, bp = (_final(results, "IL", "float64", what).mean() for what in ("accuracy", "backprop"))
    return [
        Claim(
            f"Trained on {data}, Z-IL and Fa-Z-IL keep backpropagation's weights, to rounding (ten "
            "times)",
            PAPER,
            verdict(all(bool(farthest[d] <= 10 * rounding[d]) for d in DTYPES)),
            "; ".join(
                f"{d}: {farthest[d]:.2g} away, where backpropagation from weights one rounding off "
                f"is {rounding[d]:.2g} away"
                for d in DTYPES
            ),
        ),
        Claim(
            "... and their test errors are backpropagation's after every epoch, to rounding "
            "(twice)",
            PAPER,
            verdict(all(bool(most[d] <= 2 * off[d][ROUNDING]) for d in DTYPES)),
            "; ".join(
                f"{d}: {most[d]:.2g} points off at most, where backpropagation from weights one "
                f"rounding off is {off[d][ROUNDING]:.2g} off"
                for d in DTYPES
            ),
        ),
        Claim(
            "... and inference learning comes to other weights than backpropagation",
            PAPER,
            verdict(bool(ends["float64"]["IL"] > 1e3 * farthest["float64"])),
            f"float64: {ends['float64']['IL']:.2f} of their length away; test error "
            f"{il:.2f} % and {bp:.2f} %",
        ),
    ]
