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
TRAINED_DEPTHS = (2, 4)
"""Hidden layers."""
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


def configuration(setup: Setup, data: str, depth: int, rule: lg.Rule) -> Config:
    """A perceptron of so many hidden layers with its output clamped, gradient descent."""
    epochs, seeds = {Scale.QUICK: (5, 2), Scale.DEFAULT: (5, 5), Scale.FULL: (64, 5)}[setup.scale]
    return Config(
        data=data,
        folder=setup.folder,
        model="mlp",
        hidden=(WIDTH,) * depth,
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


def training_cells(setup: Setup, data: str, depth: int) -> list[Cell]:
    """One cell per rule and dtype."""
    return [_cell(setup, data, depth, name, dtype) for name in TRAINED for dtype in DTYPES]


def _cell(setup: Setup, data: str, depth: int, name: str, dtype: str) -> Cell:
    config = configuration(setup, data, depth, TRAINED[name])
    roundings = int(name == ROUNDING)
    settings = config.as_dict() | {"dtype": dtype, "roundings": roundings}
    key = _prefix(data, depth) + _key(name, dtype)
    return Cell(key, settings, partial(beside, config, dtype, roundings))


def _prefix(data: str, depth: int) -> str:
    return f"training-{data}-{depth}-"


def _trained(results: Results, data: str, depth: int) -> Results:
    """The results of one network's trainings on one set, by rule and dtype."""
    begin = _prefix(data, depth)
    return {key.removeprefix(begin): r for key, r in results.items() if key.startswith(begin)}


def _key(name: str, dtype: str) -> str:
    kept = [c for c in name.lower().replace(" ", "-") if c.isalnum() or c == "-"]
    return f"{''.join(kept)}-{dtype}"


def _distances(results: Results, name: str, dtype: str) -> np.ndarray:
    """Of the weights from backpropagation's, (epochs, seeds)."""
    return np.array(results[_key(name, dtype)]["distance"])


def _distance(results: Results, name: str, dtype: str) -> np.ndarray:
    """Of the weights from backpropagation's, over epochs, of the seed that is farthest."""
    return np.asarray(_distances(results, name, dtype).max(axis=1))


def _errors(results: Results, name: str, dtype: str, what: str = "accuracy") -> np.ndarray:
    """Test errors in percent, of seeds over epochs; with "backprop" those of its twin."""
    return 100 * (1 - np.array(results[_key(name, dtype)][what]).T)


def _final(results: Results, name: str, dtype: str, what: str = "accuracy") -> np.ndarray:
    """The last test error, of each seed."""
    return _errors(results, name, dtype, what)[:, -1]


def _off(results: Results, name: str, dtype: str) -> np.ndarray:
    """By how many points test errors are not backpropagation's, at most of any seed, by epoch."""
    errors, others = (_errors(results, name, dtype, what) for what in ("accuracy", "backprop"))
    return np.asarray(np.abs(errors - others).max(axis=0))


def training_table(results: Results, data: str, depth: int) -> Table:
    """Test errors, and distances from backpropagation's weights."""
    results = _trained(results, data, depth)
    rows: list[Row] = [
        [
            name,
            dtype,
            spread(_final(results, name, dtype)),
            spread(_final(results, name, dtype, "backprop")),
            float(_off(results, name, dtype).max()),
            0.0 if name in EXACT else None,
            *_distance(results, name, dtype)[[0, -1]].tolist(),
        ]
        for name in TRAINED
        for dtype in DTYPES
    ]
    ends = ["distance published", "after 1 epoch", "at the end"]
    return Table(
        f"training-{data}-{depth}",
        f"Trained on {data} with {depth} hidden layers: test error in percent, mean and standard "
        "deviation over seeds; the most that it is apart from backpropagation's, in points, of all "
        "epochs and seeds; distance |w - b| / |b| of all weights from backpropagation's, of the "
        "farthest seed",
        ["", "dtype", "test error", "of backpropagation", "apart", *ends],
        rows,
    )


def training_picture(results: Results, data: str, depth: int) -> Picture:
    """Learning curves; distance of weights and of test errors over epochs."""
    results = _trained(results, data, depth)

    def draw(figure: Figure) -> None:
        axes = figure.subplot_mosaic([["curves", *DTYPES], ["curves", "off 32", "off 64"]])
        curves = {name: _errors(results, name, "float32") for name in TRAINED if name != ROUNDING}
        curves["backpropagation"] = _errors(results, "IL", "float32", "backprop")
        epochs = range(1, 1 + len(_distance(results, "IL", "float32")))
        plot.learning_curves(curves, epochs, "test error (%)", xlabel="epoch", ax=axes["curves"])
        axes["curves"].set_title("float32")
        for dtype, below in zip(DTYPES, ("off 32", "off 64"), strict=True):
            lines(axes[dtype], epochs, {name: _distance(results, name, dtype) for name in TRAINED})
            axes[dtype].set(title=dtype, ylabel="|w - b| / |b|")
            apart = {name: _off(results, name, dtype) for name in TRAINED}
            lines(axes[below], epochs, apart)
            axes[below].set_yscale("symlog", linthresh=0.01)
            axes[below].set_ylim(-0.002, 30)
            axes[below].set_yticks([0, 0.01, 0.1, 1, 10])
            axes[below].set(xlabel="epoch", ylabel="test errors apart (points)")
        for ax in figure.axes:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend = axes[DTYPES[0]].get_legend_handles_labels()
        figure.legend(*legend, loc="outside lower center", ncols=5)

    caption = (
        f"On {data}, {depth} hidden layers: the curves of all rules but IL lie upon each other; "
        "how far the weights are from those that backpropagation has trained, and the test errors "
        "from its own, of the farthest seed."
    )
    return Picture(f"training-{data}-{depth}", caption, draw, (13.0, 6.0))


def lines(ax: Axes, x: Sequence[int], lines: dict[str, np.ndarray]) -> None:
    """Lines over a logarithmic axis that has a zero; of equal ones the first has larger markers."""
    for k, (name, y) in enumerate(lines.items()):
        ax.plot(x, y, "-" + MARKERS[k], color=COLOURS[k], markersize=10 - 1.5 * k, label=name)
    ax.set_yscale("symlog", linthresh=1e-17)
    ax.set_yticks([0, *10.0 ** np.arange(-16, 5, 4)])


def training_claims(results: Results, data: str, depth: int) -> list[Claim]:
    """Equal trainings, and IL's, which is another one."""
    results = _trained(results, data, depth)
    il = _distance(results, "IL", "float64")[-1]
    errors, others = (
        _final(results, "IL", "float64", what).mean() for what in ("accuracy", "backprop")
    )
    zil, clock, autonomous = EXACT
    return [
        _equal(
            results,
            (zil, clock),
            DTYPES,
            f"Trained on {data} with {depth} hidden layers, Z-IL has backpropagation's weights "
            "after every epoch, to rounding",
        ),
        *(
            _equal(results, (autonomous,), (dtype,), f"... and so has Fa-Z-IL, in {dtype}")
            for dtype in reversed(DTYPES)
        ),
        Claim(
            "... and inference learning comes to other weights than backpropagation",
            PAPER,
            verdict(bool(il > 1e3 * _distance(results, ROUNDING, "float64")[-1])),
            f"float64: {il:.2f} of their length away; test error {errors:.2f} % and {others:.2f} %",
        ),
    ]


FAR = 10
"""So many times as far as what one rounding at the start does is more than rounding."""


def _equal(results: Results, names: Sequence[str], dtypes: Sequence[str], text: str) -> Claim:
    """Whether trainings stay near backpropagation's after every epoch, in every seed."""
    said, holds = [], True
    for dtype in dtypes:
        # The median: now and then a rounding moves a unit of the yardstick's own across its kink.
        limit = FAR * np.median(_distances(results, ROUNDING, dtype), axis=1, keepdims=True)
        for name in names:
            found = _distances(results, name, dtype)
            far = (found > limit).any(axis=0)
            holds &= not far.any()
            part = f"{name}, {dtype}: {found.max():.2g} away at most"
            if far.any():
                part += f", {far.sum()} of {far.size} seeds further than rounding"
                part += f", the others {found[:, ~far].max(initial=0):.2g}"
            said.append(f"{part}, test errors {_off(results, name, dtype).max():.2g} points")
        yardstick = _distance(results, ROUNDING, dtype)[-1]
        said.append(f"backpropagation from one rounding off, {dtype}: {yardstick:.2g}")
    text += f" (at most {FAR} times as far as it is from itself, begun one rounding off)"
    return Claim(text, PAPER, verdict(holds), "; ".join(said))
