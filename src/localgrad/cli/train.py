"""``localgrad train``: training with a progress bar, then the report."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import localgrad as lg
from localgrad.cli.compare import described
from localgrad.cli.document import document, print_document
from localgrad.cli.errors import FailedError
from localgrad.cli.options import (
    Model,
    ModelOptions,
    Reporting,
    ReportingOptions,
    RuleFields,
    rule_name,
)
from localgrad.cli.problem import make_trainer
from localgrad.cli.progress import doing, errors
from localgrad.cli.ranges import Count, Positive
from localgrad.cli.report import Output, print_comparison
from localgrad.experiments.training import Config, DivergedError, Metrics, StepTimes, Trainer


@dataclass(frozen=True)
class Options:
    """Train a classifier with a rule; report the accuracy, the time per step, and how far the
    rule's gradient is from backpropagation's at the end.

    Example: localgrad train --model cnn --rule zil --epochs 20
    """

    model: ModelOptions = field(default_factory=Model)
    rule: Annotated[str, rule_name(lg.ZIL.name)] = lg.ZIL.name
    """How to compute the gradients. Its settings: localgrad train --rule NAME --help."""
    rule_fields: RuleFields = field(default_factory=lg.ZIL)
    """The rule's own settings."""
    epochs: Count = Config.epochs
    """Visits to every training example."""
    learning_rate: Positive = Config.learning_rate
    """AdamW's learning rate at the start; it falls to zero along a half cosine."""
    output: ReportingOptions = field(default_factory=Reporting)


@dataclass(frozen=True)
class Epoch:
    """What one epoch left behind; its last batch's loss, the test set's accuracy."""

    epoch: int
    step: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Report:
    """What a training came to.

    Without `times` and `comparison` if Ctrl-C ended it.
    """

    model: str
    rule: lg.Rule
    step: int
    total_steps: int
    seconds: float
    loss: float
    accuracy: float
    epochs: tuple[Epoch, ...]
    interrupted: bool
    times: StepTimes | None = None
    comparison: lg.Comparison | None = None


def run(options: Options) -> None:
    """Train, then report the accuracy, the time per step and the comparison of the gradients.

    Raises:
        UsageError: if the options make no sense.
        FailedError: if the loss stops being finite.
        KeyboardInterrupt: after Ctrl-C, once what was reached has been printed.
    """
    trainer = make_trainer(
        options.model,
        rule=options.rule_fields,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
    )
    console = Output(quiet=options.output.json)
    start = time.perf_counter()
    epochs: list[Epoch] = []
    last, interrupted = _train(trainer, epochs)
    seconds = time.perf_counter() - start
    if last is None:
        raise KeyboardInterrupt
    with doing("testing"):
        accuracy = trainer.accuracy(last.params)
    model = trainer.config.model
    console.print(
        f"{model} trained by {options.rule}: "
        f"{last.step:,} of {trainer.total_steps:,} steps in {seconds:.1f} s"
    )
    console.print(f"test accuracy: {accuracy:.2%}")
    report = Report(
        model=model,
        rule=options.rule_fields,
        step=last.step,
        total_steps=trainer.total_steps,
        seconds=seconds,
        loss=last.loss,
        accuracy=accuracy,
        epochs=tuple(epochs),
        interrupted=interrupted,
    )
    if not interrupted:
        report = _compared(report, trainer, last.params, console)
    if options.output.json:
        shown = {} if report.comparison is None else {"comparison": described(report.comparison)}
        times = {} if report.times is None else {"times": document(report.times, "ratio")}
        print_document(document(report) | times | shown)
    if interrupted:
        raise KeyboardInterrupt


def _compared(report: Report, trainer: Trainer, params: Any, console: Output) -> Report:
    """The report with the comparison to backpropagation in time and in gradients, printed."""
    with doing("timing steps"):
        times = trainer.time_steps(params)
    console.print(
        f"seconds per step: {report.rule.name} {times.rule:.6f}, "
        f"backpropagation {times.backprop:.6f}, "
        f"ratio {times.ratio:.3f} (medians of {times.rounds} alternated steps)",
        soft_wrap=not console.is_terminal,
    )
    console.print()
    with doing("comparing with backpropagation"):
        comparison = trainer.compare(params)
    print_comparison(console, comparison)
    return replace(report, times=times, comparison=comparison)


def _train(trainer: Trainer, epochs: list[Epoch]) -> tuple[Metrics | None, bool]:
    """Train and show the progress on standard error: a bar on a terminal, else a line per epoch.

    Returns the last step's metrics (None before the first step), and whether Ctrl-C ended it.
    `epochs` receives what each left behind.
    """
    console = errors()
    bar = Progress(
        BarColumn(bar_width=None),
        TextColumn("{task.completed:,}/{task.total:,}"),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        expand=True,
    )
    last, accuracy = None, ""
    with bar, _ctrl_c() as is_pressed:
        task = bar.add_task("compiling", total=trainer.total_steps)
        try:
            for last in trainer.train():
                if last.step == 1:
                    compiled = time.perf_counter()
                rate = (last.step - 1) / (time.perf_counter() - compiled)
                if last.accuracy is not None:
                    accuracy = f"accuracy {last.accuracy:.1%}  "
                text = f"loss {last.loss:.4f}  {accuracy}{rate:,.0f} steps/s"
                bar.update(task, completed=last.step, description=text)
                if last.accuracy is not None:
                    epoch = last.step // trainer.steps_per_epoch
                    epochs.append(Epoch(epoch, last.step, last.loss, last.accuracy))
                    if not console.is_terminal:
                        console.print(f"epoch {epoch}/{trainer.config.epochs}  {text}")
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
