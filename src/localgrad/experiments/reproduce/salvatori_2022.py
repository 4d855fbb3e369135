"""What the two studies of Salvatori et al. 2022 have in common: the five networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from localgrad.experiments.reproduce.study import Scale, Setup
from localgrad.experiments.training import Config

SOURCE = "Salvatori, Song, Xu, Lukasiewicz, Bogacz 2022, Reverse differentiation via predictive "
SOURCE += "coding, AAAI."
PAPER = "Salvatori et al. 2022"

BATCH = {Scale.QUICK: 32, Scale.DEFAULT: 32, Scale.FULL: 128}


@dataclass(frozen=True)
class Network:
    """One of the paper's networks.

    Attributes:
        model: The model that it is here.
        data: What it reads, but at the quick scale, where all read digits.
        hidden: Its sizes at every scale.
    """

    model: str
    data: str
    hidden: dict[Scale, tuple[int, ...]]


def _sizes(quick: Sequence[int], default: Sequence[int], full: Sequence[int]) -> Any:
    return dict(zip(Scale, map(tuple, (quick, default, full)), strict=True))


NETWORKS: dict[str, Network] = {
    "MLP": Network("mlp", "mnist", _sizes([256] * 3, [768] * 3, [2048] * 3)),
    "AlexNet": Network(
        "alexnet",
        "cifar10",
        _sizes(
            (4, 8, 8, 8, 8, 16, 16),
            (16, 48, 96, 64, 64, 256, 256),
            (64, 192, 384, 256, 256, 4096, 4096),
        ),
    ),
    "RNN": Network("rnn", "mnist", _sizes([128], [256], [1024])),
    "ResNet-18": Network(
        "resnet18", "cifar10", _sizes([8] * 4, (16, 32, 64, 128), (64, 128, 256, 512))
    ),
    "Transformer": Network("transformer", "cifar10", _sizes([32] * 2, [256] * 2, [2048] * 6)),
}
"""By the names that the paper's tables give them."""

CHAINS = ("MLP", "AlexNet", "RNN")
"""Those without skip connections."""

ABOUT_SIZES = (
    "The networks are those of docs/models.md with their value nodes marked, group normalisation "
    "in the place of batch normalisation, and a vision transformer as the transformer; AlexNet, "
    "ResNet-18 and the transformer read CIFAR-10, MLP and RNN read MNIST, all of them digits at "
    "the quick scale. The widths of the paper are not known to us: at full scale they are those "
    "with which the architectures are usually published, below it the layers are the same and "
    "their widths smaller."
)


def configuration(setup: Setup, name: str, seed: int) -> Config:
    """The network's first batch and initial parameters, as a training begins with."""
    network = NETWORKS[name]
    return Config(
        model=network.model,
        hidden=network.hidden[setup.scale],
        data="digits" if setup.scale is Scale.QUICK else network.data,
        folder=setup.folder,
        batch_size=BATCH[setup.scale],
        epochs=1,
        seed=seed,
    )


def settings(config: Config) -> dict[str, Any]:
    """What of a configuration a gradient of the first batch depends on."""
    names = ("model", "hidden", "data", "batch_size", "loss", "seed")
    return {name: getattr(config, name) for name in names}
