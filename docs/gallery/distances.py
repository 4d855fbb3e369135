"""How far rules are from backpropagation, and what brings them there."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from pictures import WIDTH, Picture, Tell, number
from problems import Params, Sources, batch, summed_loss, title, weights
from scipy.stats import binom

import localgrad as lg
from localgrad import plot
from localgrad.experiments.data import Dataset

NUDGES = [10.0**k for k in range(1, -7, -1)]
DEPTH, SWEEPS, RATE = 6, 160, 0.1


def il_nudge(sources: Sources, tell: Tell) -> Picture:
    """Inference learning against backpropagation over the nudge, in two precisions."""
    sets = sources.given
    figure, axes = plt.subplots(
        len(sets), 2, figsize=(WIDTH, 2.8 * len(sets) + 0.2), layout="constrained",
        sharex=True, sharey=True, squeeze=False,
    )  # fmt: skip
    worst = {}
    for row, data in zip(axes, sets, strict=True):
        drawn = _arguments(data, hidden=3)
        for ax, dtype in zip(row, ("float32", "float64"), strict=True):
            found = {}
            with jax.enable_x64(dtype == "float64"):
                arguments = jax.tree.map(partial(jnp.asarray, dtype=dtype), drawn)
                for nudge in NUDGES:
                    tell(f"{data.name}, {dtype}, nudge {nudge:g}")
                    rule = lg.InferenceLearning(steps=1000, rate=0.2, nudge=nudge)
                    found[nudge] = lg.compare(summed_loss, rule=rule)(*arguments)
            worst[data.name, dtype] = {nudge: c.max_rel for nudge, c in found.items()}
            plot.divergence(found, xlabel="nudge", ax=ax)
            ax.set_title(f"{title(data.name)}, {dtype}")
            if ax is not axes[0, 0]:
                ax.get_legend().remove()
    for ax in axes.flat:
        ax.label_outer()
    last, name = NUDGES[-1], sets[-1].name
    double, single = worst[name, "float64"], worst[name, "float32"]
    floor = min(single, key=single.get)
    return Picture(
        figure,
        "Inference learning tends to backpropagation as the nudge falls",
        "A perceptron with three hidden layers of 64 tanh units, at its initial weights; vertices "
        "are the outputs of the units. The cross-entropy summed over 32 images, so that nudge 1 is "
        "classical predictive coding; `lg.InferenceLearning(steps=1000, rate=0.2, nudge=...)`. g "
        "is the gradient of the rule, b that of backpropagation.",
        "Below a nudge of about 0.1 the difference falls in proportion to the nudge: in float64 "
        f"on {title(name)} from {number(double[0.1])} at 0.1 to {number(double[last])} at "
        f"{last:g}. In float32 rounding takes over: the smallest difference is "
        f"{number(single[floor])}, at a nudge of {floor:g}, and at {last:g} it is "
        f"{number(single[last])}.",
        tuple(data.name for data in sets),
    )


def ar_start(sources: Sources, tell: Tell) -> Picture:
    """Activation relaxation from a zero start and from the activity."""
    data = sources.mnist or sources.digits
    arguments = _arguments(data, hidden=DEPTH)
    tell("backpropagation's errors")
    # At rate 1 the relaxation is exact after as many sweeps as there are levels.
    at_once = lg.ActivationRelaxation(steps=DEPTH, rate=1.0)
    exact = lg.record(summed_loss, rule=at_once)(*arguments)
    starts = {}
    for start in ("zero", "activity"):
        tell(f"start={start!r}")
        rule = lg.ActivationRelaxation(steps=SWEEPS, rate=RATE, start=start)
        starts[start] = lg.record(summed_loss, rule=rule)(*arguments)
    names = [f"h{k}" for k in range(DEPTH, 0, -1)]
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 6), layout="constrained")
    for ax, (start, recording) in zip(axes[0], starts.items(), strict=True):
        last = start == "activity"
        plot.errors(recording, "delivered", vertices=names, limits=(0, 1), colorbar=last, ax=ax)
        ax.set_title(f"start={start!r}")
    apart = _fronts(axes[1, 0], starts["zero"], names)
    angles = {
        start: np.array([_angle(recording[n].error, exact[n].error[-1]) for n in names])
        for start, recording in starts.items()
    }
    _angles(axes[1, 1], angles["activity"], names)
    farthest, early = angles["activity"][-1], SWEEPS // 4
    return Picture(
        figure,
        "Activation relaxation from a zero start and from the activity",
        f"A perceptron with {DEPTH} hidden layers of 64 tanh units, at its initial weights, in "
        f"float32; vertices are the outputs of the units. The cross-entropy summed over 32 images "
        f"of {title(data.name)}; `lg.ActivationRelaxation(steps={SWEEPS}, rate={RATE}, "
        "start=...)`. Above and below left, the part of backpropagation's error that has arrived; "
        "below left dots are measured, lines are P[Binomial(t, rate) >= level]. Below right, the "
        "angle between a layer's units and its gradient.",
        "From zero every layer is at all times a multiple of its gradient, by the binomial law to "
        f"within {number(apart)}, and never more than {number(np.nanmax(angles['zero']))} degrees "
        "off. From the activity the direction is wrong until the activity has decayed: the layer "
        f"farthest from the loss is {farthest[early]:.0f} degrees off after {early} sweeps, and "
        f"{number(farthest[-1])} after {SWEEPS}.",
        (data.name,),
    )


def _arguments(data: Dataset, hidden: int) -> tuple[Params, Array, Array]:
    x, y = batch(data)
    return weights(jr.key(0), (x[0].size, *[64] * hidden, 10)), x, y


def _fronts(ax: Axes, recording: lg.Recording, names: list[str]) -> float:
    """Draw what has been delivered, with the theory; returns how far they are apart at most."""
    times, apart = np.asarray(recording.times), []
    for name, colour in zip(names, _colours(names), strict=True):
        (level,) = recording[name].levels
        law, found = binom.sf(level - 1, times, RATE), np.asarray(recording[name].delivered)
        apart.append(np.max(np.abs(law - found)))
        ax.plot(times, law, color=colour)
        ax.plot(times[::10], found[::10], "o", color=colour, markersize=4)
    ax.set(xlabel="time (inference steps)", ylabel="part delivered", title="start='zero'")
    return max(apart)


def _angles(ax: Axes, angles: np.ndarray, names: list[str]) -> None:
    for name, colour, degrees in zip(names, _colours(names), angles, strict=True):
        ax.plot(degrees, color=colour, label=name)
    text = "angle to the gradient (degrees)"
    ax.set(xlabel="time (inference steps)", ylabel=text, title="start='activity'")
    ax.legend()


def _colours(names: list[str]) -> list:
    """From the loss on, from dark to light."""
    return list(plt.get_cmap("viridis")(np.linspace(0, 0.85, len(names))))


def _angle(found: Array, exact: Array) -> np.ndarray:
    """The angle in degrees at each time; nan where nothing has arrived."""
    a, b = (np.asarray(x, np.float64).reshape(-1, exact.size) for x in (found, exact))
    with np.errstate(invalid="ignore"):
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    # Precise for small angles, too, which the arc cosine is not.
    return np.degrees(2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1)))
