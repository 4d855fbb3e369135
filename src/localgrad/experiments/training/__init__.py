"""Training: a model, a rule, a data set; in a folder that a run can be gone on with."""

from localgrad.experiments.training.config import NAMED, Config
from localgrad.experiments.training.devices import Devices
from localgrad.experiments.training.diagnosis import DivergedError
from localgrad.experiments.training.folder import FolderError
from localgrad.experiments.training.journal import read_metrics
from localgrad.experiments.training.run import Progress, Run, Watch
from localgrad.experiments.training.trainer import State, StepTimes, Trainer

__all__ = [
    "NAMED",
    "Config",
    "Devices",
    "DivergedError",
    "FolderError",
    "Progress",
    "Run",
    "State",
    "StepTimes",
    "Trainer",
    "Watch",
    "read_metrics",
]
