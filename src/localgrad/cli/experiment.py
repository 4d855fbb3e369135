"""A trainer out of a command's options."""

from localgrad.cli.errors import UsageError, suggest
from localgrad.experiments.models import MODELS
from localgrad.experiments.training import Config, Trainer


def make_trainer(config: Config) -> Trainer:
    """Build the trainer.

    Raises:
        UsageError: if the configuration makes no sense.
    """
    if config.model not in MODELS:
        raise UsageError(
            f"there is no model {config.model!r}",
            f"--model {config.model}",
            suggest(config.model, MODELS),
        )
    try:
        return Trainer(config)
    except ValueError as error:
        raise UsageError(str(error), "the options given", "see --help for all options") from error
