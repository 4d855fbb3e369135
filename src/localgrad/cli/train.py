"""``localgrad train``: training with a progress bar, then the report."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import OmitArgPrefixes, arg

import localgrad as lg
from localgrad.cli.compare import described
from localgrad.cli.document import document, print_document
from localgrad.cli.errors import FailedError, UsageError
from localgrad.cli.options import (
    Flag,
    Model,
    ModelOptions,
    Reporting,
    ReportingOptions,
    RuleFields,
    one_of,
    rule_name,
)
from localgrad.cli.problem import OPTIONS, blamed, make_trainer
from localgrad.cli.progress import doing, errors, tell, without_logs
from localgrad.cli.ranges import Count, Natural, NotNegative, Positive
from localgrad.cli.report import Output, print_comparison
from localgrad.experiments.training import (
    NAMED,
    Config,
    DivergedError,
    Run,
    StepTimes,
    Trainer,
    Watch,
)


@dataclass(frozen=True)
class Descent:
    """What becomes of the gradients."""

    epochs: Count = Config.epochs
    """Passes through the training examples, in whole batches."""
    optimiser: Annotated[str, one_of(NAMED["optimiser"], Config.optimiser)] = Config.optimiser
    learning_rate: Positive = Config.learning_rate
    """The learning rate at its highest."""
    schedule: Annotated[str, one_of(NAMED["schedule"], Config.schedule, OPTIONS["schedule"])] = (
        Config.schedule
    )
    weight_decay: NotNegative = Config.weight_decay
    """Decoupled from the gradient, multiplied with the learning rate."""
    feedback: Annotated[str, one_of(NAMED["feedback"], Config.feedback)] = Config.feedback
    seeds: Count = Config.seeds
    """How many networks to train at once, from --seed on, as one program."""


@dataclass(frozen=True)
class Keeping:
    """What is kept of the run. No number depends on it."""

    out: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="(default: none)")] = None
    """Where settings.json, metrics.jsonl and checkpoints go."""
    resume: Flag = False
    """Go on from the newest checkpoint in the folder, bit for bit."""
    log_every: Count = Watch.log_every
    """Steps between two lines of metrics.jsonl."""
    align_every: Natural = Watch.align_every
    """Steps between two measurements of how the gradient stands to backpropagation's; 0: none."""
    checkpoint_every: Count = Watch.checkpoint_every
    """Steps between two checkpoints; the last step has one, too."""
    tensorboard: Flag = False
    """Write TensorBoard's files, too."""


@dataclass(frozen=True)
class Machines:
    """Several processes that train one network; each is started with the same options but one."""

    coordinator: Annotated[
        str | None, arg(metavar="HOST:PORT", help_behavior_hint="(default: one process)")
    ] = None
    """Where the first process listens."""
    processes: Count = 1
    """How many there are."""
    process: Natural = 0
    """The number of this one, from 0 on."""


@dataclass(frozen=True)
class Options:
    """Train a classifier with a rule; report the accuracy, the time per step, and how far the
    rule's gradient is from backpropagation's at the end.

    Example: localgrad train --model cnn --rule zil --epochs 20 --out runs/cnn
    """

    model: ModelOptions = field(default_factory=Model)
    rule: Annotated[str, rule_name(lg.ZIL.name)] = lg.ZIL.name
    """How to compute the gradients. Its settings: localgrad train --rule NAME --help."""
    rule_fields: RuleFields = field(default_factory=lg.ZIL)
    """The rule's own settings."""
    descent: Annotated[Descent, OmitArgPrefixes] = Descent()
    keeping: Annotated[Keeping, OmitArgPrefixes] = Keeping()
    machines: Annotated[Machines, OmitArgPrefixes] = Machines()
    output: ReportingOptions = field(default_factory=Reporting)


@dataclass(frozen=True)
class Epoch:
    """What one epoch left behind; its last batch's loss, the test set's accuracy."""

    epoch: int
    step: int
    loss: Any
    accuracy: Any


@dataclass(frozen=True)
class Report:
    """What a training came to; with several seeds, losses and accuracies are lists.

    `partial` says what is missing of the data set. Without `times` and `comparison` if Ctrl-C ended
    it.
    """

    model: str
    rule: lg.Rule
    step: int
    total_steps: int
    seconds: float
    loss: Any
    accuracy: Any
    epochs: tuple[Epoch, ...]
    interrupted: bool
    partial: str
    out: Path | None = None
    times: StepTimes | None = None
    comparison: lg.Comparison | None = None


def run(options: Options) -> None:
    """Train, then report the accuracy, the time per step and the comparison of the gradients.

    Raises:
        UsageError: if the options make no sense.
        FailedError: if the loss stops being finite, a model of the user's own fails, or the run
            cannot be kept.
        KeyboardInterrupt: after Ctrl-C, once what was reached has been printed.
    """
    _join(options.machines)
    trainer = make_trainer(options.model, rule=options.rule_fields, **vars(options.descent))
    model = trainer.config.model
    with without_logs(), blamed("preparing", model):
        training = _begin(trainer, options.keeping)
    console = Output(quiet=options.output.json or jax.process_index() > 0)
    start = time.perf_counter()
    epochs: list[Epoch] = []
    with _ctrl_c() as is_pressed:
        loss, interrupted = _trained(training, epochs, is_pressed)
        seconds = time.perf_counter() - start
        if loss is None and interrupted:
            raise KeyboardInterrupt
        if epochs and epochs[-1].step == training.step:
            accuracy = epochs[-1].accuracy
        else:  # Stopped within an epoch, or nothing was left to train.
            with doing("testing"), blamed("testing", model):
                accuracy = trainer.accuracy(training.state.params)
        interrupted = interrupted or is_pressed()
        if interrupted:
            jax.distributed.shutdown()  # Waits for the other processes, if there are any.
    console.print(
        f"{model} trained by {options.rule}: "
        f"{training.step:,} of {trainer.total_steps:,} steps in {seconds:.1f} s"
    )
    console.print(f"test accuracy: {_percent(accuracy)}")
    if options.keeping.out is not None:
        console.print(f"kept in {options.keeping.out}", soft_wrap=True)
    report = Report(
        model=model,
        rule=options.rule_fields,
        step=training.step,
        total_steps=trainer.total_steps,
        seconds=seconds,
        loss=loss,
        accuracy=accuracy,
        epochs=tuple(epochs),
        interrupted=interrupted,
        partial=trainer.data.partial,
        out=options.keeping.out,
    )
    if not interrupted and jax.process_count() == 1:
        report = _compared(report, trainer, training.state.params, console)
    if options.output.json and jax.process_index() == 0:
        shown = {} if report.comparison is None else {"comparison": described(report.comparison)}
        times = {} if report.times is None else {"times": document(report.times, "ratio")}
        print_document(document(report) | times | shown)
    if interrupted:
        raise KeyboardInterrupt


def _join(machines: Machines) -> None:
    """Join the other processes, if there are any.

    Raises:
        UsageError: if there are, and the options do not say who coordinates them, or which one
            this is.
    """
    address, count, number = machines.coordinator, machines.processes, machines.process
    if address is None:
        if count > 1 or number > 0:
            raise UsageError(
                "several processes need one that coordinates them",
                f"--processes {count} --process {number}",
                "say where the first one listens: --coordinator HOST:PORT",
            )
        return
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
        what, advice = f"{address!r} is no address with a port", "write it as HOST:PORT"
        raise UsageError(what, f"--coordinator {address}", f"{advice}, such as: 10.0.0.1:1234")
    if number >= count:
        raise UsageError(
            f"there is no process {number} of {count}",
            f"--processes {count} --process {number}",
            "say how many there are, and number them from 0 on",
        )
    with doing("waiting for the other processes"):
        jax.distributed.initialize(address, count, number)


def _begin(trainer: Trainer, keeping: Keeping) -> Run:
    """The run, begun or gone on with.

    Raises:
        UsageError: if the folder holds another run, or the batch cannot be divided.
        FailedError: if TensorBoard's writer is not installed, or the folder cannot be written.
    """
    try:
        with doing("preparing"):
            settings = {name: value for name, value in vars(keeping).items() if name != "out"}
            training = Run(trainer, Watch(keeping.out, **settings))
    except ValueError as error:
        what, _, advice = str(error).partition("; ")
        where = "the options given" if keeping.out is None else f"--out {keeping.out}"
        raise UsageError(what, where, advice or "see --help for all options") from error
    except ModuleNotFoundError as error:
        raise FailedError(
            f"TensorBoard's files need {error.name}, which is not installed",
            "--tensorboard",
            "install it with: pip install 'localgrad[tensorboard]'",
        ) from error
    except OSError as error:
        what = f"the folder cannot be written: {error.strerror or error}"
        raise FailedError(what, f"--out {keeping.out}", "name another folder") from error
    if keeping.resume:
        new = f"nothing to resume in {keeping.out}: beginning"
        tell(f"resumed at step {training.step}" if training.step else new)
    return training


def _compared(report: Report, trainer: Trainer, params: Any, console: Output) -> Report:
    """The report with the comparison to backpropagation in time and in gradients, printed.

    Both are of one seed on one device, which is said where there are more.
    """
    is_part = len(trainer.seeds) > 1 or len(trainer.devices) > 1
    part = " of one seed, on one device" if is_part else ""
    with doing("timing steps"), blamed("timing steps", report.model):
        times = trainer.time_steps(params)
    console.print(
        f"seconds per step{part}: {report.rule.name} {times.rule:.6f}, "
        f"backpropagation {times.backprop:.6f}, "
        f"ratio {times.ratio:.3f} (medians of {times.rounds} alternated steps)",
        soft_wrap=not console.is_terminal,
    )
    console.print()
    with doing("comparing with backpropagation"), blamed("the comparison", report.model):
        comparison = trainer.compare(params)
    print_comparison(console, comparison, part)
    return replace(report, times=times, comparison=comparison)


def _trained(
    training: Run, epochs: list[Epoch], is_pressed: Callable[[], bool]
) -> tuple[Any, bool]:
    """The same as `_train`, and save what was reached, however that ended."""
    model = training.trainer.config.model
    with without_logs():
        try:
            with blamed("training", model):
                return _train(training, epochs, is_pressed)
        finally:
            with doing("saving"), blamed("saving", model):
                training.close()


def _train(training: Run, epochs: list[Epoch], is_pressed: Callable[[], bool]) -> tuple[Any, bool]:
    """Train and show the progress on standard error: a bar on a terminal, else a line per epoch.

    Returns the last loss (None before the first step), and whether Ctrl-C ended it. `epochs`
    receives what each left behind.
    """
    console, trainer = errors(), training.trainer
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
    loss, compiled = None, None
    with bar:
        task = bar.add_task(
            "", total=trainer.total_steps, completed=training.step, loss=0.0, accuracy=0.0, rate=0.0
        )
        try:
            for progress in training.progress():
                step, loss = progress.step, progress.loss
                compiled = compiled or (step, progress.seconds)
                rate = (step - compiled[0]) / max(progress.seconds - compiled[1], 1e-9)
                mean = float(np.mean(loss))
                bar.update(task, completed=step, loss=mean, rate=rate)
                if progress.accuracy is not None:
                    accuracy = float(np.mean(progress.accuracy))
                    bar.update(task, accuracy=accuracy)
                    epoch = step // trainer.steps_per_epoch
                    epochs.append(Epoch(epoch, step, loss, progress.accuracy))
                    if not console.is_terminal and jax.process_index() == 0:
                        console.print(
                            f"epoch {epoch}/{trainer.config.epochs}  loss {mean:.4f}"
                            f"  accuracy {accuracy:.1%}  {rate:,.0f} steps/s"
                        )
                if is_pressed():
                    return loss, True
        except KeyboardInterrupt:
            return loss, True
        except DivergedError as error:
            raise FailedError(
                f"training diverged: {error}",
                f"step {error.step}, --learning-rate {trainer.config.learning_rate:g}",
                "lower the learning rate, or change the rule's settings",
            ) from error
    return loss, False


def _percent(accuracy: np.ndarray) -> str:
    if accuracy.ndim == 0:
        return f"{float(accuracy):.2%}"
    each = ", ".join(f"{a:.2%}" for a in accuracy)
    return f"{accuracy.mean():.2%} (of each seed: {each})"


@contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, to be asked between steps; pressed again, it acts at once.

    An exception raised inside of one of JAX's callbacks would be lost. All processes have to ask at
    the same step, and are told the same: one that stopped alone would leave the others waiting.
    """
    pressed: list[int] = []

    def handle(number: int, _: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: _anywhere(bool(pressed))
    finally:
        signal.signal(signal.SIGINT, previous)


def _anywhere(is_so: bool) -> bool:
    """Whether it is so in any of the processes."""
    if jax.process_count() == 1:
        return is_so
    return bool(np.any(multihost_utils.process_allgather(np.array(is_so))))
