"""What training costs beside its updates: `python benchmarks/training_cost.py [--mnist FOLDER]`.

Whole epochs, of 800 steps or more, of bare, compiled updates on one batch against as many of
`Trainer.windows` (batches from the data set, losses fetched and checked), and of `Run` (all that
`localgrad train` does: the journal, checkpoints, and the test set evaluated after every epoch; an
evaluation is timed apart, too). The three take turns; medians of the rounds.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax

import localgrad as lg
from localgrad.experiments.training import Config, Run, Trainer, Watch
from zil_vs_backprop import markdown, print_environment

CASES = {
    "mlp 512-256, digits": Config(),
    "cnn 16-32, digits": Config(model="cnn"),
    "gru 128, digits": Config(model="gru"),
}
MNIST = {
    "mlp 300-300-100, MNIST": Config(
        model="mlp-ar", data="mnist", loss="squared", optimiser="sgd", batch_size=64
    ),
}
HEAD = ["model", "bare update, us", "windows, us", "ratio", "run, us", "ratio", "evaluation, ms"]


STEPS = 800


def timed(trainer: Trainer, bare_update: Callable, folder: Path) -> list[float]:
    """Microseconds per step of bare updates, windows, run; milliseconds of an evaluation."""
    epochs = math.ceil(STEPS / trainer.steps_per_epoch)
    steps, state = epochs * trainer.steps_per_epoch, trainer.start()
    batch = jax.device_put(trainer.batch(0))
    last = trainer.total_steps - steps

    begin = time.perf_counter()
    now = state
    for _ in range(steps):
        now, loss = bare_update(now, *batch)
    jax.block_until_ready((now, loss))
    bare = time.perf_counter() - begin

    begin = time.perf_counter()
    for window in trainer.windows(state, last, lambda step: step + 100):
        jax.block_until_ready(window.state)
    windows = time.perf_counter() - begin

    run = Run(trainer, Watch(folder))
    run.step = last
    begin = time.perf_counter()
    for _ in run.progress():
        pass
    whole = time.perf_counter() - begin
    run.close()

    begin = time.perf_counter()
    trainer.accuracy(state.params)
    evaluation = time.perf_counter() - begin
    return [*(1e6 * seconds / steps for seconds in (bare, windows, whole)), 1e3 * evaluation]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--mnist", help="folder with MNIST's files")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    mnist = {name: replace(config, folder=args.mnist) for name, config in MNIST.items()}
    cases = CASES | (mnist if args.mnist else {})
    rows = []
    for name, config in cases.items():
        trainer = Trainer(config)
        update = jax.jit(partial(trainer.update, trainer.local(lg.value_and_grad)))
        with tempfile.TemporaryDirectory() as folder:
            rounds = [timed(trainer, update, Path(folder) / str(k)) for k in range(args.rounds + 1)]
        medians = [statistics.median(times) for times in zip(*rounds[1:], strict=True)]
        bare, windows, run, evaluation = medians
        ratios = [f"{bare / windows:.3f}", f"{bare / run:.3f}"]
        times = [f"{time:.0f}" for time in (bare, windows, run)]
        rows.append([name, times[0], times[1], ratios[0], times[2], ratios[1], f"{evaluation:.1f}"])
    print(
        "Microseconds per training step, with Z-IL; ratios of steps per second to the bare ones\n"
    )
    print(markdown([HEAD, *rows]))
    print_environment()


if __name__ == "__main__":
    main()
