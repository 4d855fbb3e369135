"""The networks of the study, what they read, and how they are trained."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import TemporaryDirectory
from typing import Any

import localgrad as lg
from localgrad.experiments.reproduce.study import Result, Scale, Setup
from localgrad.experiments.training import Config

TEXT = "topics.txt"


@dataclass(frozen=True)
class Sizes:
    """What differs between scales.

    Attributes:
        model: The model.
        data: What it reads.
        hidden: Its sizes.
        epochs: How long it is trained.
        batch: Examples per step of it.
        compared: The sizes of the network whose gradients are looked at.
        examples: In the batch for that.
    """

    model: str
    data: str
    hidden: tuple[int, ...]
    epochs: int
    batch: int
    compared: tuple[int, ...]
    examples: int


CNN, RNN, LSTM = (6, 16, 200, 150), (256,), (1056,)
"""The sizes of the paper."""

NETWORKS: dict[str, dict[Scale, Sizes]] = {
    "CNN": {
        Scale.QUICK: Sizes("cnn", "digits", (4, 8), 8, 64, (4, 8), 16),
        Scale.DEFAULT: Sizes("cnn-pc", "cifar10", CNN, 3, 64, CNN, 8),
        Scale.FULL: Sizes("cnn-pc", "cifar10", CNN, 50, 64, CNN, 64),
    },
    "RNN": {
        Scale.QUICK: Sizes("rnn", "digits", (64,), 8, 32, (64,), 16),
        Scale.DEFAULT: Sizes("rnn", "mnist", RNN, 1, 64, RNN, 64),
        Scale.FULL: Sizes("rnn", "mnist", RNN, 20, 64, RNN, 64),
    },
    "LSTM": {
        Scale.QUICK: Sizes("lstm", f"text:{TEXT}", (32,), 16, 32, (32,), 4),
        Scale.DEFAULT: Sizes("lstm", f"text:{TEXT}", (128,), 6, 32, LSTM, 2),
        Scale.FULL: Sizes("lstm", f"text:{TEXT}", LSTM, 50, 64, LSTM, 64),
    },
}
"""The networks at every scale."""

CHARACTERS = {Scale.QUICK: 20_000, Scale.DEFAULT: 60_000, Scale.FULL: 400_000}


def trained(setup: Setup, name: str, rule: lg.Rule) -> Config:
    """The training of a network with a rule."""
    sizes = NETWORKS[name][setup.scale]
    return Config(
        data=sizes.data,
        folder=setup.folder,
        model=sizes.model,
        hidden=sizes.hidden,
        rule=rule,
        loss="squared",
        epochs=sizes.epochs,
        batch_size=sizes.batch,
        optimiser="adamw",
        learning_rate=1e-2 if name == "LSTM" else 1e-3,
        schedule="constant",
        weight_decay=0.0,
        seed=setup.seed,
        seeds=setup.seeds or (2 if setup.scale is Scale.QUICK else 3),
    )


def compared(setup: Setup, name: str, rule: lg.Rule) -> Config:
    """The network whose gradients are looked at, before training."""
    sizes = NETWORKS[name][setup.scale]
    config = trained(setup, name, rule)
    return replace(config, hidden=sizes.compared, batch_size=sizes.examples, seeds=1)


def settings_of(setup: Setup, config: Config) -> dict[str, Any]:
    """A configuration, and what the text is, which differs between versions of Python."""
    text = hashlib.sha256(_text(setup).encode()).hexdigest() if _is_text(config) else ""
    return config.as_dict() | {"text": text}


def on_data(setup: Setup, run: Callable[[Config], Result], config: Config) -> Result:
    """Run with a configuration, with the text in a file where it reads one."""
    if not _is_text(config):
        return run(config)
    with TemporaryDirectory() as folder:
        (Path(folder) / TEXT).write_text(_text(setup), encoding="utf-8")
        return run(replace(config, folder=folder))


def _is_text(config: Config) -> bool:
    return config.data.startswith("text:")


def _text(setup: Setup) -> str:
    """The first of Python's own help, which is everywhere where Python is."""
    return "\n".join(topics[name] for name in sorted(topics))[: CHARACTERS[setup.scale]]
