"""``localgrad train``: training with a progress bar, then the report."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from localgrad.cli.errors import FailedError
from localgrad.cli.experiment import make_trainer
from localgrad.cli.options import Train
from localgrad.cli.report import output, print_comparison
from localgrad.experiments.training import Config, DivergedError, Metrics, Trainer


def run(options: Train) -> None:
    """Train, then report the accuracy, the time per step and the comparison of the gradients.

    Raises:
        UsageError: if the options make no sense.
        FailedError: if the loss stops being finite.
        KeyboardInterrupt: after Ctrl-C, once what was reached has been printed.
    """
    trainer = make_trainer(
        Config(
            model=options.model,
            rule=options.rule_fields,
            hidden=options.hidden,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            seed=options.seed,
        )
    )
    console = output()
    start = time.perf_counter()
    last, interrupted = _train(trainer)
    seconds = time.perf_counter() - start
    if last is not None:
        console.print(
            f"{options.model} trained by {options.rule}: "
            f"{last.step:,} of {trainer.total_steps:,} steps in {seconds:.1f} s"
        )
        console.print(f"test accuracy: {trainer.accuracy(last.params):.2%}")
    if last is None or interrupted:
        raise KeyboardInterrupt
    times = trainer.time_steps(last.params)
    console.print(
        f"seconds per step: {options.rule} {times.rule:.6f}, backpropagation {times.backprop:.6f}, "
        f"ratio {times.ratio:.3f} (medians of {times.rounds} alternated steps)",
        soft_wrap=True,
    )
    console.print()
    print_comparison(console, trainer.compare(last.params))


def _train(trainer: Trainer) -> tuple[Metrics | None, bool]:
    """Train and show the progress on standard error: a bar on a terminal, else a line per epoch.

    Returns the last step's metrics (None before the first step), and whether Ctrl-C ended it.
    """
    console = Console(stderr=True, markup=False, highlight=False)
    bar = Progress(
        BarColumn(bar_width=None),
        TextColumn("{task.completed:,}/{task.total:,}"),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TextColumn("accuracy {task.fields[accuracy]:.1%}"),
        TextColumn("{task.fields[rate]:,.0f} steps/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        expand=True,
    )
    last = None
    with bar, _ctrl_c() as is_pressed:
        task = bar.add_task("", total=trainer.total_steps, loss=0.0, accuracy=0.0, rate=0.0)
        try:
            for last in trainer.train():
                if last.step == 1:
                    compiled = time.perf_counter()
                rate = (last.step - 1) / (time.perf_counter() - compiled)
                bar.update(task, completed=last.step, loss=last.loss, rate=rate)
                if last.accuracy is not None:
                    bar.update(task, accuracy=last.accuracy)
                    if not console.is_terminal:
                        console.print(
                            f"epoch {last.step // trainer.steps_per_epoch}"
                            f"/{trainer.config.epochs}  loss {last.loss:.4f}"
                            f"  accuracy {last.accuracy:.1%}  {rate:,.0f} steps/s"
                        )
                if is_pressed():
                    return last, True
        except KeyboardInterrupt:
            return last, True
        except DivergedError as error:
            raise FailedError(
                f"training diverged: {error}",
                f"--learning-rate {trainer.config.learning_rate:g}",
                "lower the learning rate, or change the rule's settings",
            ) from error
    return last, False


@contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, to be asked between steps; pressed again, it acts at once.

    An exception raised inside of one of JAX's callbacks would be lost.
    """
    pressed: list[int] = []

    def handle(number: int, _: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, previous)
