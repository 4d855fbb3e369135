"""Fixed prediction converges to backpropagation on any computation graph, and trains as well."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import localgrad as lg
from localgrad import plot
from localgrad.experiments.reproduce.accuracies import final, mean, spread
from localgrad.experiments.reproduce.millidge_2020_pc_nets import (
    NETWORKS,
    compared,
    on_data,
    settings_of,
    trained,
)
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
from localgrad.experiments.reproduce.training_cells import train, trainer_of
from localgrad.experiments.training import Config

SOURCE = "Millidge, Tschantz, Buckley 2020b"

STEPS, RATE = 100, 0.2
RULES: dict[str, lg.Rule] = {
    "backpropagation": lg.Backprop(),
    "fixed prediction": lg.FixedPrediction(steps=STEPS, rate=RATE),
}
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200)
"""Steps after which the gradients of the networks are looked at."""

RATES = (0.05, 0.1, 0.2, 0.5, 1.0)
SCALAR_COUNTS = (*range(1, 10, 2), *range(10, 201, 10))
"""The same for the graph of scalars."""

ROUNDING = 1e-12
"""Distances below it are rounding, in float64."""


def cells(setup: Setup) -> Sequence[Cell]:
    """A graph of scalars; for every network the distance over steps, and trainings."""
    scalars = {"theta": 2.0, "v0": 5.0, "target": 3.0, "rates": RATES, "counts": SCALAR_COUNTS}
    found = [Cell("scalars", scalars | {"dtype": "float64"}, _scalars)]
    for name in NETWORKS:
        config = compared(setup, name, RULES["fixed prediction"])
        settings = settings_of(setup, config) | {"counts": COUNTS, "dtype": "float64"}
        run = partial(on_data, setup, _distances, config)
        found.append(Cell(_key(name, "steps"), settings, run))
        for label, rule in RULES.items():
            config = trained(setup, name, rule)
            run = partial(on_data, setup, train, config)
            found.append(Cell(_key(name, label), settings_of(setup, config), run))
    return found


def _key(name: str, label: str) -> str:
    return f"{name}-{label}".replace(" ", "-").lower()


def _scalars() -> Result:
    """The worst distance of the gradients of theta and v0, by rate, over steps."""

    def loss(theta: Any, v0: Any) -> Any:
        root = lg.vertex(jnp.sqrt(lg.vertex(theta * v0, "v1")), "v2")
        out = jnp.tan(root) + jnp.sin(lg.vertex(v0**2, "v3"))
        return 0.5 * (out - 3.0) ** 2

    found: dict[str, list[float]] = {f"{rate:g}": [] for rate in RATES}
    with jax.enable_x64(True):
        where = jnp.asarray(2.0), jnp.asarray(5.0)
        exact = np.array(jax.grad(loss, (0, 1))(*where))
        for count in SCALAR_COUNTS:

            @jax.jit
            def gradient(rate: Any, count: int = count) -> Any:
                rule = lg.FixedPrediction(steps=count, rate=rate)
                return lg.grad(loss, (0, 1), rule=rule)(*where)

            for rate in RATES:
                relative = np.array(gradient(rate)) / exact - 1
                found[f"{rate:g}"].append(float(np.abs(relative).max()))
    return {"max_rel": found}


def _distances(config: Config) -> Result:
    """Of the worst parameter, the distance and the cosine over steps."""
    with jax.enable_x64(True):
        trainer = trainer_of(config)
        found = []
        for count in COUNTS:
            rule = lg.FixedPrediction(steps=count, rate=RATE)
            compare = lg.compare(trainer.loss, rule=rule)
            found.append(compare(trainer.model.params, *trainer.batch(0)))
    return {
        "max_rel": [one.max_rel for one in found],
        # A parameter that nothing has reached has no direction.
        "cosine": [min(np.nan_to_num([x.cosine for x in one.leaves]).tolist()) for one in found],
        "depth": found[0].depth,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(trainer.model.params)),
    }


def _loss(result: Result) -> float:
    """At the end of the training, over seeds; nan if it has diverged."""
    return float("nan") if result["diverged"] else float(np.mean(result["loss"][-1]))


def tables(setup: Setup, results: Results) -> Sequence[Table]:
    """Distances over steps, and trainings."""
    over: list[Row] = [
        [name, found["depth"], found["parameters"], what, *found[key]]
        for name in NETWORKS
        for found in [results[_key(name, "steps")]]
        for what, key in (("max rel", "max_rel"), ("cosine", "cosine"))
    ]
    some = [0, 2, *(SCALAR_COUNTS.index(n) for n in (10, 20, 50, 100, 200))]
    scalars: list[Row] = [
        [float(rate), *(found[k] for k in some)]
        for rate, found in results["scalars"]["max_rel"].items()
    ]
    ends: list[Row] = [
        [name, label, spread(final(found)), _loss(found)]
        for name in NETWORKS
        for label in RULES
        for found in [results[_key(name, label)]]
    ]
    head = ["network", "depth", "parameters", "of the worst", *(f"step {n}" for n in COUNTS)]
    scalar_head = ["rate", *(f"step {SCALAR_COUNTS[k]}" for k in some)]
    return [
        Table("networks", "Fixed prediction beside backpropagation over steps", head, over),
        Table("scalars", "tan(sqrt(theta v)) + sin(v^2): max rel over steps", scalar_head, scalars),
        Table(
            "trained",
            "After training: test accuracy, mean and standard deviation over seeds; the mean loss "
            "of the last batches",
            ["network", "rule", "test accuracy (%)", "training loss"],
            ends,
        ),
    ]


def pictures(setup: Setup, results: Results) -> Sequence[Picture]:
    """Distances over steps, learning curves."""

    def scalars(figure: Figure) -> None:
        axes = figure.subplots()
        for rate, found in results["scalars"]["max_rel"].items():
            seen = [max(x, 1e-16) for x in found]
            axes.semilogy(SCALAR_COUNTS, seen, ".-", label=f"rate {rate}")
        axes.set(xlabel="steps", ylabel="distance from backpropagation, relative")
        axes.legend()

    def networks(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for name, marker in zip(NETWORKS, "os^", strict=True):
            found = results[_key(name, "steps")]
            left.loglog(COUNTS, found["max_rel"], f"{marker}-", label=name)
            degrees = np.degrees(np.arccos(np.clip(found["cosine"], -1, 1)))
            right.semilogx(COUNTS, degrees, f"{marker}-", label=name)
        left.set(xlabel="steps", ylabel="largest max |g - b| / max |b|")
        right.set(xlabel="steps", ylabel="largest angle of a parameter (degrees)")
        left.legend()

    def curves(figure: Figure) -> None:
        for name, ax in zip(NETWORKS, figure.subplots(1, len(NETWORKS)), strict=True):
            found = {
                rule: 100 * np.array(results[_key(name, rule)]["accuracy"]).T for rule in RULES
            }
            steps = results[_key(name, "backpropagation")]["steps_per_epoch"]
            epochs = steps * np.arange(1, 1 + next(iter(found.values())).shape[1])
            plot.learning_curves(found, epochs, "test accuracy (%)", ax=ax)
            ax.get_legend().remove()
            ax.set(title=name, xlim=(0, 1.05 * epochs[-1]))
        handles = ax.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=len(RULES))

    return [
        Picture("scalars", "The distance falls exponentially down to rounding.", scalars),
        Picture(
            "networks",
            "Distance from backpropagation's gradient and angle to it, before training; rate .2.",
            networks,
            (9.0, 4.0),
        ),
        Picture(
            "trained",
            "Both rules, from the same weights, after each epoch: mean and range of seeds.",
            curves,
            (10.0, 3.8),
        ),
    ]


def claims(setup: Setup, results: Results) -> Sequence[Claim]:
    """Convergence, and equal trainings."""
    straight = _straightness(results["scalars"]["max_rel"][f"{RATE:g}"])
    found = [
        Claim(
            "On a branching graph of scalars the gradients converge to backpropagation's "
            "exponentially (a straight line on a logarithmic axis, R^2 above .98)",
            f"{SOURCE}, section 5.1",
            verdict(straight > 0.98 and results["scalars"]["max_rel"][f"{RATE:g}"][-1] < 1e-9),
            f"R^2 {straight:.4f} at rate {RATE:g}; at step {SCALAR_COUNTS[-1]} the distance is "
            f"{results['scalars']['max_rel'][f'{RATE:g}'][-1]:.1e}",
        )
    ]
    for name in NETWORKS:
        one = results[_key(name, "steps")]
        at = COUNTS.index(STEPS)
        section = f"{SOURCE}, section {'5.2' if name == 'CNN' else '5.3'}"
        found.append(
            Claim(
                f"{name}: {STEPS} steps are enough for backpropagation's gradient (1 % of the "
                "largest entry, in every parameter)",
                section,
                verdict(one["max_rel"][at] < 0.01),
                f"{one['max_rel'][at]:.1e} after {STEPS} steps, {one['max_rel'][at + 1]:.1e} after "
                f"{COUNTS[at + 1]}; cosine of the worst parameter {one['cosine'][at]:.6f}; depth "
                f"{one['depth']}",
            )
        )
        accuracies = {rule: mean(results[_key(name, rule)]) for rule in RULES}
        by_bp, by_pc = accuracies.values()
        found.append(
            Claim(
                f"{name}: training by predictive coding equals backpropagation's (1 point)",
                section,
                verdict(abs(by_bp - by_pc) <= 1),
                ", ".join(f"{rule} {percent:.1f} %" for rule, percent in accuracies.items()),
            )
        )
    return found


def _straightness(distances: Sequence[float]) -> float:
    """R^2 of a line through the logarithms, from the first to the last that is no rounding."""
    pairs = zip(SCALAR_COUNTS, distances, strict=True)
    kept = np.array([(n, np.log10(d)) for n, d in pairs if d > ROUNDING])
    return float(np.corrcoef(kept.T)[0, 1] ** 2) if len(kept) > 2 else float("nan")


STUDY = Study(
    name="millidge-2020-pc",
    title="Predictive coding with fixed predictions",
    source="Millidge, Tschantz, Buckley 2020b, Predictive coding approximates backprop along "
    "arbitrary computation graphs; Neural Computation 2022.",
    about="Fixed prediction at rate .2 with 100 steps, as published, on the paper's convolutional "
    "net, a recurrent net and an LSTM. All vertices move at once; in the authors' code a recurrent "
    "net is relaxed one moment of its sequence after the other, backwards, which needs 100 steps "
    "for each. An LSTM's gates are inside its vertices. The data of the paper's recurrent nets, "
    "names of many languages and Shakespeare, are not here: the RNN reads MNIST row by row (digits "
    "with --quick), the LSTM the help of Python (pydoc_data.topics), of which 50 characters are a "
    "sequence. Adam (1e-3, LSTM 1e-2) and few epochs instead of gradient descent and many; the "
    "LSTM is trained with 1056 units with --full only, else with 128, but its gradients are looked "
    "at with 1056 units by default, too. CIFAR-10 is as much as there is. With --quick everything "
    "is smaller and reads digits or the first 20,000 characters. The paper's own numbers were not "
    "at hand. Two seeds with --quick, else three.",
    cells=cells,
    tables=tables,
    pictures=pictures,
    claims=claims,
)
