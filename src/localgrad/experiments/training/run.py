"""A training run in a folder: metrics, alignment, checkpoints; it can be gone on with."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from localgrad.experiments.environment import environment
from localgrad.experiments.files import replace_text
from localgrad.experiments.training import diagnosis
from localgrad.experiments.training.alignment import Alignment, Measure
from localgrad.experiments.training.checkpoints import Checkpoints, has_checkpoint
from localgrad.experiments.training.folder import reading, writing
from localgrad.experiments.training.journal import Journal, board_writer, read_metrics
from localgrad.experiments.training.trainer import State, Trainer

SETTINGS = "settings.json"
CHECKPOINTS = "checkpoints"

AGREEING = {
    "config": "give the settings it was begun with",
    "data": "give the files it was begun with",
    "parameters": "give the model and the precision it was begun with",
}
"""What the settings of a run that is gone on with must share, and what to do if they do not."""


@dataclass(frozen=True)
class Watch:
    """What is seen and kept of a run; no number of the run itself depends on it.

    Attributes:
        folder: Where metrics and checkpoints go; None keeps nothing.
        resume: Whether to go on from the newest checkpoint in the folder.
        log_every: Steps between two lines of the journal; the end of an epoch has one, too.
        align_every: Steps between two measurements of alignment with backpropagation; 0: none.
        checkpoint_every: Steps between two checkpoints. One is written at the end in any case.
        tensorboard: Whether to write TensorBoard's files too.
    """

    folder: str | Path | None = None
    resume: bool = False
    log_every: int = 100
    align_every: int = 0
    checkpoint_every: int = 1000
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, least in (("log_every", 1), ("align_every", 0), ("checkpoint_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.folder is None and (self.resume or self.tensorboard):
            raise ValueError("without a folder nothing is kept: name one to resume or to write to")


@dataclass(frozen=True, eq=False)
class Progress:
    """What is known after some steps.

    Attributes:
        step: The steps done.
        loss: The loss of the last of them, before its update; of each seed if there are several.
        accuracy: Of the whole test set, from 0 to 1; None within an epoch.
        alignment: See `Measure`; None where it was not measured.
        seconds: Since the run was begun or resumed.
        state: The state.
    """

    step: int
    loss: np.ndarray
    accuracy: np.ndarray | None
    alignment: Alignment | None
    seconds: float
    state: State

    def as_line(self) -> dict[str, Any]:
        """A line of the journal."""
        line = {"step": self.step, "loss": self.loss, "accuracy": self.accuracy}
        line |= {"alignment": self.alignment, "seconds": round(self.seconds, 3)}
        return {name: value for name, value in line.items() if value is not None}


class Run:
    """A trainer and its folder.

    Attributes:
        step: The steps done.
        state: The state after them.

    Args:
        trainer: What to train.
        watch: What to keep.

    Raises:
        ValueError: if the folder holds another run, or one that is not to be resumed, or if the
            data or the parameters of a model of the user's own are others than when it was begun.
        ModuleNotFoundError: if TensorBoard's writer is wanted and not installed.
        FolderError: if what the folder holds cannot be read.
    """

    def __init__(self, trainer: Trainer, watch: Watch) -> None:
        self.trainer, self.watch = trainer, watch
        self.step, self.state = 0, trainer.start()
        self._pace = 1
        self._align = Measure(trainer) if watch.align_every else None
        self._checkpoints: Checkpoints | None = None
        self._journal: Journal | None = None
        if watch.folder is None:
            return
        is_writer = jax.process_index() == 0
        board = board_writer() if watch.tensorboard and is_writer else None
        folder = Path(watch.folder)
        leaves = jax.tree_util.tree_leaves_with_path(self.state.params)
        parameters = {jax.tree_util.keystr(p): f"{x.dtype}{list(x.shape)}" for p, x in leaves}
        settings: dict[str, Any] = {"config": trainer.config.as_dict(), "parameters": parameters}
        settings["data"] = {"data": trainer.data.fingerprint}
        _agree(folder, settings, watch.resume)
        settings["environment"] = environment()
        self._checkpoints = Checkpoints(folder / CHECKPOINTS)
        if self._checkpoints.latest is not None:
            self.step = self._checkpoints.latest
            self.state = self._checkpoints.restore(self.state)
        if is_writer:
            replace_text(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")
            self._journal = Journal(folder, self.step, board)

    def progress(self) -> Iterator[Progress]:
        """Train to the end; yields where something is to be told, and about once a second.

        The run may be left at any yield: `close` saves where it stands.

        Raises:
            DivergedError: at the first loss that is not finite; the checkpoints before it remain.
            FolderError: if the folder cannot be written.
        """
        trainer, watch = self.trainer, self.watch
        begin = last = time.perf_counter()
        windows = trainer.windows(self.state, self.step, self._next_stop, self._measure)
        for window in windows:
            diagnosis.check(trainer, window)
            now = time.perf_counter()
            # Carefully, for the first step was compiled, and a machine may be busy.
            self._pace = min(max(1, int(len(window.losses) / (now - last))), 4 * self._pace)
            self.step, self.state = window.step, window.state
            correct, alignment = window.measured
            progress = Progress(
                step=window.step,
                loss=window.losses[-1],
                accuracy=None if correct is None else trainer.fraction(correct),
                alignment=None if alignment is None else Measure.by_measure(alignment),
                seconds=now - begin,
                state=window.state,
            )
            if watch.folder is not None:
                with writing(Path(watch.folder)):
                    self._keep(progress)
            yield progress
            last = time.perf_counter()

    def close(self) -> None:
        """Save where the run stands, and wait until it is on the disk.

        Raises:
            FolderError: if the folder cannot be written.
        """
        if self.watch.folder is None:
            return
        with writing(Path(self.watch.folder)), ExitStack() as kept:
            for part in (self._journal, self._checkpoints):
                if part is not None:
                    kept.callback(part.close)
            self._save()

    def _keep(self, progress: Progress) -> None:
        # The line before the checkpoint, which would else stand for a line that is not there.
        if self._journal is not None and self._is_told(progress.step):
            self._journal.add(progress.as_line())
        if progress.step % self.watch.checkpoint_every == 0:
            self._save()

    def _measure(self, step: int, state: State) -> tuple[Any, Any]:
        """The number of correct predictions and the alignment, where they are to be told."""
        correct = alignment = None
        if step % self.trainer.steps_per_epoch == 0:
            correct = self.trainer.correct(state.params)
        if self._align is not None and step % self.watch.align_every == 0:
            alignment = self._align(state.params)
        return correct, alignment

    def _save(self) -> None:
        if self._checkpoints is not None and self.step:
            self._checkpoints.save(self.step, self.state)

    @property
    def _intervals(self) -> list[int]:
        """Each is a number of steps after which there is something to do."""
        watch = self.watch
        every = [watch.log_every, watch.checkpoint_every, self.trainer.steps_per_epoch]
        return every + ([watch.align_every] if watch.align_every else [])

    def _next_stop(self, step: int) -> int:
        """Where there is something to do next after a step, or about a second has passed."""
        stop = min((step // n + 1) * n for n in self._intervals)
        # Several processes hand over the same programs in the same order, whatever their clocks.
        return min(stop, step + self._pace) if jax.process_count() == 1 else stop

    def _is_told(self, step: int) -> bool:
        return any(step % n == 0 for n in self._intervals)


def _agree(folder: Path, settings: dict[str, Any], resume: bool) -> None:
    """See to it that a folder holds no run, or this very one, which is to be gone on with."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (read_metrics(folder) or has_checkpoint(folder / CHECKPOINTS)):
        return  # Nothing was trained there.
    if not resume:
        raise ValueError(
            f"{folder} holds a run already; resume it with --resume, or name another folder"
        )
    with reading(folder / SETTINGS, "mend it if you can, or name another folder"):
        kept = json.loads((folder / SETTINGS).read_text())
        kept = {part: dict(kept[part]) for part in AGREEING}
    plain = json.loads(json.dumps(settings))
    for part, advice in AGREEING.items():
        before, now = kept[part], plain[part]
        for name in [*now, *before]:
            if before.get(name) != now.get(name):
                raise ValueError(
                    f"{folder} holds another run: its {name} is {before.get(name)!r}, not "
                    f"{now.get(name)!r}; {advice}, or name another folder"
                )
