"""Which relaxations of Activation Relaxation learn: `python benchmarks/relaxations.py`.

Test accuracy of the perceptron of Millidge et al. (2020), 300-300-100 hidden units, trained with
every relaxation of the method, with ReLU and with tanh units, on scikit-learn's digits or on MNIST.
The setting is the published one: weights N(0, .05^2), zero biases, batches of 64, plain SGD with
5e-4 on the sum of the squared errors, rate .1, 100 sweeps. Units are the outputs of activations.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax

import localgrad as lg
from localgrad.experiments.data import load
from zil_vs_backprop import markdown, print_environment

HIDDEN, CLASSES, BATCH, RATE = (300, 300, 100), 10, 64, 5e-4
UNITS = {"ReLU": jax.nn.relu, "tanh": jnp.tanh}
AR = lg.ActivationRelaxation
VARIANTS = {
    "backpropagation": (lg.Backprop(), None),
    "AR": (AR(), None),
    "AR from the activity, as published": (AR(start="activity"), None),
    "learned backward weights": (AR(), True),
    "random backward weights": (AR(), False),
    "no f' in the relaxation": (AR(derivatives="parameters"), None),
    "no f' at all": (AR(derivatives="nowhere"), None),
    "learned backward, no f' in the relaxation": (AR(derivatives="parameters"), True),
    "current value in the relaxation": (AR(start="activity", unfrozen="relaxation"), None),
    "current value in the update": (AR(start="activity", unfrozen="parameters"), None),
}


def pictures(folder: Path | None, seed: int) -> list[np.ndarray]:
    """Training and test images, flat and in [0, 1], with their labels: of MNIST, or the digits."""
    data = load("mnist", folder) if folder else load("digits", seed=seed)
    scale = 255 if folder else 1
    train, test = (
        x.reshape(len(x), -1).astype(np.float32) / scale
        for x in (data.train_inputs, data.test_inputs)
    )
    return [train, data.train_labels, test, data.test_labels]


def network(params, x, unit):
    for k, (w, b) in enumerate(params[:-1]):
        x = lg.vertex(unit(x @ w + b), f"h{k}")
    w, b = params[-1]
    return x @ w + b


def accuracy(data: list, unit, rule: lg.Rule, learns: bool | None, seed: int, epochs: int) -> float:
    """Test accuracy after so many visits to every whole batch."""
    images, labels, test_images, test_labels = map(jnp.asarray, data)
    sizes = (images.shape[1], *HIDDEN, CLASSES)
    pairs = list(itertools.pairwise(sizes))
    keys = jr.split(jr.key(seed), len(pairs) + 2)
    params = [
        (0.05 * jr.normal(key, pair), jnp.zeros(pair[1]))
        for key, pair in zip(keys, pairs, strict=False)
    ]
    if learns is not None:
        params = lg.Synapses.random(keys[-1], params, learns=learns)

    def loss(params, x, y):
        return jnp.sum((network(params, x, unit) - jax.nn.one_hot(y, CLASSES)) ** 2)

    def step(params, batch):
        gradients = lg.grad(loss, rule=rule)(params, *batch)
        return jax.tree.map(lambda p, g: p - RATE * g, params, gradients), None

    @jax.jit
    def epoch(params, key):
        count = len(images) // BATCH
        order = jr.permutation(key, len(images))[: count * BATCH].reshape(count, BATCH)
        return lax.scan(lambda p, k: step(p, (images[k], labels[k])), params, order)[0]

    for key in jr.split(keys[-2], epochs):
        params = epoch(params, key)
    forward = params.forward if learns is not None else params
    guess = jnp.argmax(network(forward, test_images, unit), axis=1)
    return float(jnp.mean(guess == test_labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--mnist", type=Path, help="folder with MNIST's four IDX files")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for name, (rule, learns) in VARIANTS.items():
        cells = []
        for title, unit in UNITS.items():
            start, found = time.perf_counter(), []
            for seed in range(args.seeds):
                data = pictures(args.mnist, seed)
                found.append(100 * accuracy(data, unit, rule, learns, seed, args.epochs))
            cells.append(f"{np.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})")
            took = time.perf_counter() - start
            print(f"{name}, {title}: {cells[-1]}, {took:.0f} s", file=sys.stderr)
        rows.append([name, *cells])
    source = "MNIST" if args.mnist else "scikit-learn's digits"
    title = f"Test accuracy in percent, {source}, {args.epochs} epochs, {args.seeds} seeds"
    print(f"{title}, mean (range)\n")
    print(markdown([["", *UNITS], *rows]))
    print_environment()


if __name__ == "__main__":
    main()
