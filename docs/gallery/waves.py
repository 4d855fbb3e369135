"""Errors on their way: figures of what happens vertex by vertex, step by step."""

import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
from pictures import WIDTH, Picture, Tell, equality, number
from problems import (
    Sources,
    batch,
    perceptron_loss,
    recurrent_loss,
    recurrent_weights,
    residual_loss,
    residual_weights,
    summed_loss,
    weights,
)

import localgrad as lg
from localgrad import plot

SIZES = (64, 48, 48, 48, 48, 48, 10)


def zil_wave(sources: Sources, tell: Tell) -> Picture:
    """Z-IL by the clock on a residual network, with and without relays."""
    arguments = residual_weights(jr.key(0), blocks=8, channels=8), *batch(sources.digits)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.8), layout="constrained")
    found = []
    for ax, levelled in zip(axes, (True, False), strict=True):
        name = "levelled" if levelled else "not levelled"
        tell(name)
        rule = lg.ZIL(clock=True, levelled=levelled)
        found.append(comparison := lg.compare(residual_loss, rule=rule)(*arguments))
        recording = lg.record(residual_loss, rule=rule)(*arguments)
        plot.errors(recording, limits=(1e-3, 10), colorbar=not levelled, ax=ax)
        difference = f"max |g - b| / max |b| = {number(comparison.max_rel)}"
        ax.set_title(f"{name}\n{difference}, cosine {comparison.cosine:.2f}")
    levelled, bare = found
    wrong = [leaf for leaf in bare.leaves if leaf.max_rel > 0]
    return Picture(
        figure,
        "The wave of Z-IL on a residual network, with and without levelling",
        "A residual network of 8 blocks of two 3 x 3 convolutions with 8 channels and ReLU, at its "
        "initial weights, in float32. Vertices are the value between the two convolutions of a "
        "block, h, and the sum behind it, x. Mean cross-entropy of 32 digits; "
        "`lg.ZIL(clock=True)` and `lg.ZIL(clock=True, levelled=False)`. Above the maps the largest "
        "difference between the gradient g of the rule and b of backpropagation of any parameter, "
        "and the smallest cosine.",
        "With relays on the skip connections the error reaches every vertex at the time of its "
        "level, when its synapses learn (dots), and the gradient is backpropagation's, "
        f"{equality(levelled.max_rel)}. Without them it runs ahead and moves values that should "
        f"have stood still: {len(wrong)} of {len(bare.leaves)} parameters differ, by up to "
        f"{number(bare.max_rel)} of the largest entry, and the smallest cosine is "
        f"{bare.cosine:.2f}.",
    )


def fazil_raster(sources: Sources, tell: Tell) -> Picture:
    """Fa-Z-IL with a short and with a long wait before the target."""
    arguments = weights(jr.key(0), SIZES), *batch(sources.digits)
    waits, last = (3, 9), 17
    figure, axes = plt.subplots(
        2, 2, figsize=(WIDTH, 5.4), layout="constrained", sharex=True, sharey=True
    )
    onsets, found = [], []
    for column, wait in zip(axes.T, waits, strict=True):
        tell(f"waiting for {wait} steps")
        after = last - wait - (len(SIZES) - 1)
        rule = lg.FaZIL(phi=lg.ValuePhi(), wait_before=wait, wait_after=after)
        recording = lg.record(perceptron_loss, rule=rule)(*arguments)
        found.append(lg.compare(perceptron_loss, rule=rule)(*arguments))
        onsets.append(
            {int(t) - v.levels[0] for v in recording.vertices for t in np.flatnonzero(v.plastic)}
        )
        for ax, what in zip(column, ("error", "plastic"), strict=True):
            is_last = wait == waits[-1]
            plot.errors(recording, what, limits=(1e-2, 1), colorbar=is_last, ax=ax)
        column[0].set(title=f"target {wait} steps after the input", xlabel="")
    (early,), (late,) = onsets
    difference = equality(max(comparison.max_rel for comparison in found))
    return Picture(
        figure,
        "Fa-Z-IL with two waiting times",
        "A perceptron 64-48-48-48-48-48-10 with tanh units, at its initial weights, in float32; "
        "vertices are the outputs of the units. Mean cross-entropy of 32 digits; "
        f"`lg.FaZIL(phi=lg.ValuePhi(), wait_before=...)` with {waits[0]} and {waits[1]} steps "
        "between input and target. Above the errors, below the synapses that learn.",
        "Nothing learns while the input alone is there; one step after the target the same wave "
        f"runs in both, level l firing once, at {early} + l and at {late} + l, with no clock that "
        f"would tell. Both gradients are backpropagation's, {difference}.",
    )


def energy(sources: Sources, tell: Tell) -> Picture:
    """Inference learning at a rate that descends the energy, and at one that does not."""
    arguments = weights(jr.key(0), SIZES), *batch(sources.digits)
    rates = (0.1, 0.6)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.5), layout="constrained", sharey=True)
    totals = []
    for ax, rate in zip(axes, rates, strict=True):
        tell(f"rate {rate:g}")
        recording = lg.record(summed_loss, rule=lg.InferenceLearning(steps=200, rate=rate))(
            *arguments
        )
        totals.append(np.asarray(recording.energy))
        plot.energy(recording, reversed(recording.names), log=True, ax=ax)
        ax.set_title(f"rate {rate:g}")
    axes[1].set_ylabel("")
    axes[1].get_legend().remove()
    good, bad = totals
    rises = int(np.sum(np.diff(good) > 0))
    return Picture(
        figure,
        "Energies of inference learning over time",
        "A perceptron 64-48-48-48-48-48-10 with tanh units, at its initial weights, in float32; "
        "vertices are the outputs of the units. The cross-entropy summed over 32 digits; "
        f"`lg.InferenceLearning(steps=200, rate=..., nudge=1.0)` with rates {rates[0]:g} and "
        f"{rates[1]:g}. Logarithmic, with a place for zero.",
        f"At rate {rates[0]:g} the free energy falls from {good[0]:.1f} to {good[-1]:.1f} and "
        f"rises in {rises} of {len(good) - 1} steps, while the layers fill one after the other, "
        f"the one nearest to the loss first. At rate {rates[1]:g} the steps are too long: the "
        f"energy rises in {np.sum(np.diff(bad) > 0)} steps, is {bad.max():,.0f} at step "
        f"{bad.argmax()} and {bad[-1]:,.0f} at the end.",
    )


def graph(sources: Sources, tell: Tell) -> Picture:
    """A recurrent network by levels, and the wave of Z-IL on it."""
    x, y = batch(sources.digits)
    arguments = recurrent_weights(jr.key(0), x.shape[2], 32), x, y
    tell("the graph")
    view = lg.graph(recurrent_loss)(*arguments)
    tell("the wave")
    recording = lg.record(recurrent_loss, rule=lg.ZIL())(*arguments)
    found = lg.compare(recurrent_loss, rule=lg.ZIL(clock=True))(*arguments)
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 4.6), layout="constrained")
    plot.graph(view, ax=left)
    plot.errors(recording, ax=right)
    learned = [
        np.flatnonzero(moments).tolist() == [level]
        for vertex in recording.vertices
        for level, moments in zip(vertex.levels, _moments(vertex), strict=True)
    ]
    relays = [f"{sum(v.relays)} of {v.name}" for v in view.vertices if sum(v.relays)]
    return Picture(
        figure,
        "A graph by levels, with a stacked scan and a relay, and the wave on it",
        "Two recurrent layers, a and b, of 32 tanh units that read the 8 rows of a digit in a "
        "`lax.scan`, then a residual block, u and v, and a readout, at the initial weights, in "
        "float32. Mean cross-entropy of 32 digits; left `lg.graph`, right `lg.record` of "
        "`lg.ZIL()`.",
        f"The vertices of the scan stand once for each row of the image, over "
        f"{len(set(sum((v.levels for v in view.vertices if len(v.levels) > 1), ())))} of the "
        f"{view.depth + 1} levels, and only the skip connection around u needs a relay "
        f"({', '.join(relays)}). The wave climbs one level in a step: {sum(learned)} of "
        f"{len(learned)} copies and relays learn at the time of their level and at no other, and "
        f"the gradient is backpropagation's, {equality(found.max_rel)}.",
    )


def _moments(vertex: lg.VertexRecording) -> np.ndarray:
    """Of each copy, whether its synapses learn at each time."""
    return np.asarray(vertex.plastic).reshape(len(vertex.plastic), -1).T
