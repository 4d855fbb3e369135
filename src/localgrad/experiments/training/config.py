"""What to train, on what, and how: all that the numbers depend on."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import localgrad as lg
from localgrad.experiments.losses import LOSSES
from localgrad.experiments.names import suggest
from localgrad.experiments.training.feedback import FEEDBACK
from localgrad.experiments.training.optimisers import OPTIMISERS, SCHEDULES

NAMED: dict[str, Mapping[str, Any]] = {
    "loss": LOSSES,
    "optimiser": OPTIMISERS,
    "schedule": SCHEDULES,
    "feedback": FEEDBACK,
}
"""The settings that are names, and what they name."""


@dataclass(frozen=True)
class Config:
    """A training run. The same configuration gives the same parameters, bit for bit.

    Attributes:
        model: One of `localgrad.experiments.models.MODELS`, or ``package.module:function``; see
            `localgrad.experiments.models.build`.
        rule: How gradients are computed.
        feedback: One of `FEEDBACK`: the weights that errors travel back on.
        hidden: The model's sizes; its own defaults if empty.
        vertices: What a vertex is, as for `localgrad.grad`.
        data: What `localgrad.experiments.data.load` takes, and so is `folder`.
        folder: Where the data's files are.
        loss: One of `localgrad.experiments.losses.LOSSES`.
        epochs: Passes through the training examples in whole batches, at least 1. The examples
            left over wait for another pass.
        batch_size: Examples per step.
        optimiser: One of `OPTIMISERS`.
        learning_rate: At its highest, above 0.
        schedule: One of `SCHEDULES`: what becomes of the learning rate over the run.
        weight_decay: Decoupled from the gradient and multiplied with the learning rate, 0 or more.
        seed: Fixes the split of the data, the initial parameters and the batches; 0 or more.
        seeds: How many networks are trained at once, from `seed` on, as one program. They share
            the split of the data.
    """

    model: str = "mlp"
    rule: lg.Rule = field(default_factory=lg.ZIL)
    feedback: str = "symmetric"
    hidden: tuple[int, ...] = ()
    epochs: int = 40
    batch_size: int = 32
    optimiser: str = "adamw"
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    weight_decay: float = 0.3
    seed: int = 0
    seeds: int = 1
    data: str = "digits"
    folder: str | None = None
    loss: str = "cross-entropy"
    vertices: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("seed", 0), ("seeds", 1), ("weight_decay", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"the learning rate must be positive, got {self.learning_rate}")
        for what, there in NAMED.items():
            name = getattr(self, what)
            if name not in there:
                raise ValueError(f"there is no {what} {name!r}; {suggest(name, there)}")

    def as_dict(self) -> dict[str, object]:
        """What the numbers depend on, as plain values; the rule as its Python expression.

        Without the folder of the data: the same files may lie elsewhere.
        """
        names = [f.name for f in dataclasses.fields(self) if f.name != "folder"]
        plain = {name: getattr(self, name) for name in names}
        return plain | {"rule": repr(self.rule), "hidden": list(self.hidden)}
