"""The optimisers and schedules that have names: chains of optax's parts."""

from collections.abc import Callable

import optax

from localgrad.experiments.training.feedback import decaying

OPTIMISERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "sgd": optax.identity,
    "momentum": lambda: optax.trace(decay=0.9),
    "rmsprop": optax.scale_by_rms,
    "adamw": optax.scale_by_adam,
    "lion": optax.scale_by_lion,
}
"""What each does to a gradient, before weight decay and learning rate."""

SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "constant": lambda rate, steps: optax.constant_schedule(rate),
    "cosine": optax.cosine_decay_schedule,
    "linear": lambda rate, steps: optax.linear_schedule(rate, 0.0, steps),
    "warmup-cosine": lambda rate, steps: optax.warmup_cosine_decay_schedule(
        0.0, rate, min(max(1, steps // 20), steps - 1), steps
    ),
}
"""The learning rate over a run: (at its highest, number of steps) -> schedule."""


def make_optimiser(
    name: str, schedule: str, learning_rate: float, weight_decay: float, steps: int
) -> optax.GradientTransformation:
    """The optimiser of a run of `steps` steps.

    An update is ``-rate(step) * (transformed gradient + weight_decay * parameter)``; of feedback
    weights see `decaying`.
    """
    return optax.chain(
        OPTIMISERS[name](),
        optax.add_decayed_weights(weight_decay, decaying),
        optax.scale_by_learning_rate(SCHEDULES[schedule](learning_rate, steps)),
    )
