"""Cells that train networks, which most studies have."""

from functools import partial
from typing import Any

import jax
import numpy as np

from localgrad.experiments.reproduce.study import Cell, Result
from localgrad.experiments.training import Config, Devices, DivergedError, Run, Trainer, Watch

LOGGED = 200
"""Steps between two points of the curve of the loss."""


def training_cell(key: str, config: Config, *, dtype: str = "float32", align: int = 0) -> Cell:
    """A cell that trains all seeds of a configuration at once.

    Its result has ``accuracy`` (epochs x seeds, from 0 to 1), ``loss`` (the same, of the training
    batches at the end of each epoch), ``steps_per_epoch``, ``alignment`` (what `Measure` gives,
    every `align` steps, with its ``step``) and ``diverged`` (what was not finite, or None).
    """
    settings = config.as_dict() | {"dtype": dtype, "align": align}
    return Cell(key, settings, partial(train, config, dtype, align))


def trainer_of(config: Config) -> Trainer:
    """On one device, so that numbers do not depend on how many there are."""
    return Trainer(config, Devices(jax.devices()[:1]))


def train(config: Config, dtype: str = "float32", align: int = 0) -> Result:
    """Train; see `training_cell`."""
    with jax.enable_x64(dtype == "float64"):
        trainer = trainer_of(config)
        run = Run(trainer, Watch(log_every=LOGGED, align_every=align))
        epochs: list[Any] = []
        aligned: list[Any] = []
        diverged = None
        try:
            for report in run.progress():
                if report.alignment is not None:
                    aligned.append({"step": report.step, **report.alignment})
                if report.accuracy is not None:
                    epochs.append(report)
        except DivergedError as error:
            diverged = str(error)
    return {
        "accuracy": [np.atleast_1d(report.accuracy).tolist() for report in epochs],
        "loss": [np.atleast_1d(report.loss).tolist() for report in epochs],
        "steps_per_epoch": trainer.steps_per_epoch,
        "alignment": aligned,
        "diverged": diverged,
    }
