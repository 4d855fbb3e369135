"""Activation relaxation with each of its relaxations: what is learned, and how far from it."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
from jax import Array, lax
from matplotlib.axes import Axes
from pictures import WIDTH, Picture, Tell
from problems import CLASSES, Params, Sources, images, perceptron, title, weights

import localgrad as lg
from localgrad import plot
from localgrad.experiments.data import Dataset

HIDDEN, BATCH, LEARNING_RATE = (128, 128, 64), 64, 2.5e-4
POINTS, UPDATES, SEEDS = 12, 480, 3
UNITS = {"ReLU": jax.nn.relu, "tanh": jnp.tanh}
AR = lg.ActivationRelaxation


class Variant(NamedTuple):
    """A rule, and whether its feedback weights learn; None: they are the forward weights."""

    rule: lg.Rule
    learns: bool | None = None


LEARNED, RANDOM = "learned feedback weights", "random feedback weights"
NO_F = "no f' in the relaxation"
UPDATES_LIVE, RELAXATION_LIVE = "activity of now in the updates", "f' of now in the relaxation"
VARIANTS = {
    "backpropagation": Variant(lg.Backprop()),
    "AR": Variant(AR()),
    LEARNED: Variant(AR(), learns=True),
    RANDOM: Variant(AR(), learns=False),
    NO_F: Variant(AR(derivatives="parameters")),
    "no f' anywhere": Variant(AR(derivatives="nowhere")),
    UPDATES_LIVE: Variant(AR(start="activity", unfrozen="activity")),
    RELAXATION_LIVE: Variant(AR(start="activity", unfrozen="relaxation")),
}


class Trained(NamedTuple):
    """What the seeds of one variant have come to.

    Attributes:
        accuracy: Of the test set, ``(seeds, points)``.
        cosine: Of the gradient with backpropagation's at the parameters that were reached, with
            the first batch, ``(seeds, layers)``; nan where there is no gradient.
    """

    accuracy: np.ndarray
    cosine: np.ndarray


Found = dict[tuple[str, str], dict[str, Trained]]
"""By data set and kind of unit, then by variant."""


def trained(data: Dataset, unit: Any, variant: Variant) -> Trained:
    """Train all seeds side by side; each has its own weights and its own order of the batches."""
    x, labels = images(data.train_inputs), jnp.asarray(data.train_labels)
    test, wanted = images(data.test_inputs), jnp.asarray(data.test_labels)
    sizes = (x[0].size, *HIDDEN, CLASSES)

    def loss(params: Params, x: Array, labels: Array) -> Array:
        return jnp.sum((perceptron(params, x, unit) - jax.nn.one_hot(labels, CLASSES)) ** 2)

    def gradient(params: Params, rule: lg.Rule, chosen: Array) -> Params:
        return lg.grad(loss, rule=rule)(params, x[chosen], labels[chosen])

    def update(params: Params, chosen: Array) -> tuple[Params, None]:
        found = gradient(params, variant.rule, chosen)
        return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, found), None

    def point(params: Params, batches: Array) -> tuple[Params, Array]:
        params, _ = lax.scan(update, params, batches)
        guess = jnp.argmax(perceptron(_forward(params), test, unit), axis=1)
        return params, jnp.mean(guess == wanted)

    def run(key: Array) -> tuple[Array, Array]:
        key, twins, order = jr.split(key, 3)
        params = weights(key, sizes)
        if variant.learns is not None:
            params = lg.Synapses.random(twins, params, learns=variant.learns)
        batches = _batches(order, len(x))
        params, accuracy = lax.scan(point, params, batches)
        first = batches[0, 0]
        both = gradient(params, variant.rule, first), gradient(params, lg.Backprop(), first)
        return accuracy, jnp.stack(list(map(_cosine, *map(_layers, both))))

    return Trained(*map(np.asarray, jax.jit(jax.vmap(run))(jr.split(jr.key(0), SEEDS))))


def _forward(params: Params) -> Params:
    return params.forward if isinstance(params, lg.Synapses) else params


def _layers(gradient: Params) -> list[Array]:
    return jax.tree.leaves(_forward(gradient))


def _cosine(a: Array, b: Array) -> Array:
    return jnp.sum(a * b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))


def _batches(key: Array, examples: int) -> Array:
    """Indices of shape (points, batches, examples); every epoch has an order of its own."""
    each = examples // BATCH
    epochs = -(-UPDATES // each)
    orders = [jr.permutation(k, examples)[: each * BATCH] for k in jr.split(key, epochs)]
    return jnp.concatenate(orders)[: UPDATES * BATCH].reshape(POINTS, -1, BATCH)


def relaxations(sources: Sources, tell: Tell) -> Picture:
    """Learning curves of every relaxation, and the direction in which each of them ends."""
    found: Found = {}
    for data in sources.given:
        for kind, unit in UNITS.items():
            found[data.name, kind] = curves = {}
            for name, variant in VARIANTS.items():
                tell(f"{data.name}, {kind}, {name}")
                curves[name] = trained(data, unit, variant)
    return _picture(found)


def _picture(found: Found) -> Picture:
    names = list(dict.fromkeys(name for name, _ in found))
    heights = 2.5 * len(names) + 0.5, 2.6
    figure = plt.figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    axes = above.subplots(len(names), len(UNITS), sharex=True, sharey=True, squeeze=False)
    steps = np.arange(1, POINTS + 1) * (UPDATES // POINTS)
    for (name, kind), ax in zip(found, axes.flat, strict=True):
        curves = {v: 100 * trained.accuracy for v, trained in found[name, kind].items()}
        plot.learning_curves(curves, steps, "test accuracy (%)", xlabel="batches of 64", ax=ax)
        ax.get_legend().remove()
        ax.set(title=f"{title(name)}, {kind} units", ylim=(0, 100))
        ax.label_outer()
    handles = axes[0, 0].get_legend_handles_labels()
    above.legend(*handles, loc="outside lower center", ncols=4, fontsize="small")
    for kind, ax in zip(UNITS, below.subplots(1, len(UNITS), sharey=True), strict=True):
        _cosines(ax, found[names[-1], kind])
        ax.set_title(f"cosine with backpropagation, {title(names[-1])}, {kind}")
    return Picture(
        figure,
        "What each relaxation of activation relaxation does",
        f"Perceptrons with {len(HIDDEN)} hidden layers of {', '.join(map(str, HIDDEN))} units, "
        f"weights N(0, 1/n), trained on the sum of squared errors by {UPDATES} steps of gradient "
        f"descent at {LEARNING_RATE:g}, with `lg.ActivationRelaxation()` (rate 0.1, 100 sweeps) "
        "and feedback weights by `lg.Synapses.random`; what is of now is taken at the current "
        "activities, from `start='activity'`, and else at those of the forward pass. Means over "
        f"{SEEDS} seeds of weights and order, with the range in the curves; cosines at the end, on "
        "the first batch, in float32.",
        _shown(found),
        tuple(names),
    )


def _cosines(ax: Axes, curves: dict[str, Trained]) -> None:
    """A table of variants by layers, coloured from -1 to 1."""
    numbers = np.array([trained.cosine.mean(0) for trained in curves.values()])
    ax.imshow(numbers, cmap="RdBu", vmin=-1.8, vmax=1.8, aspect="auto")
    for (row, column), cosine in np.ndenumerate(numbers):
        text = "none" if np.isnan(cosine) else f"{cosine:.2f}"
        ax.text(column, row, text, ha="center", va="center", fontsize="small")
    ax.set_xticks(range(numbers.shape[1]), [f"w{k + 1}" for k in range(numbers.shape[1])])
    ax.set_yticks(range(len(curves)), list(curves))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _shown(found: Found) -> str:
    """The two sentences, with the smallest and the largest number of all panels."""

    def span(numbers: Iterable[float], form: str) -> str:
        ends = [f"{number:{form}}" for number in sorted(numbers)]
        return ends[0] if ends[0] == ends[-1] else f"{ends[0]} to {ends[-1]}"

    def behind(name: str) -> str:
        """In points of test accuracy at the end."""
        oracle = "backpropagation"
        points = ((c[name].accuracy - c[oracle].accuracy)[:, -1] for c in found.values())
        return span((100 * p.mean() for p in points), "+z.1f")

    def first(name: str) -> str:
        """The cosine of the first layer."""
        return span((c[name].cosine[:, 0].mean() for c in found.values()), ".2f")

    unfrozen = [
        c[n].accuracy.mean(0) for c in found.values() for n in (UPDATES_LIVE, RELAXATION_LIVE)
    ]
    return (
        f"Beside backpropagation AR ends at {behind('AR')} points of test accuracy, without f' in "
        f"the relaxation at {behind(NO_F)}, with learned feedback weights at {behind(LEARNED)} and "
        f"with fixed random ones at {behind(RANDOM)}; unfrozen it ends at "
        f"{span((100 * u[-1] for u in unfrozen), '.0f')} % correct, after "
        f"{100 * max(u.max() for u in unfrozen):.0f} % at best on the way. The direction of one "
        f"layer does not tell who learns: the cosine of the first is {first(UPDATES_LIVE)} with "
        f"unfrozen updates, which fail, and {first(LEARNED)} with learned feedback weights, which "
        "do not."
    )
