"""Equinox classifiers with the value nodes of predictive coding marked, one file per family.

`build` initialises one of `MODELS` for data of a given shape.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from localgrad.experiments.models import own
from localgrad.experiments.models.convolutional import CNN, AlexNet, PublishedCNN
from localgrad.experiments.models.needs import need
from localgrad.experiments.models.own import check_seeds, is_own
from localgrad.experiments.models.perceptron import MLP, PublishedMLP
from localgrad.experiments.models.recurrent import ElmanCell, Recurrent
from localgrad.experiments.models.residual import ResidualCNN, ResNet18
from localgrad.experiments.models.transformer import Decoder, Encoder
from localgrad.experiments.names import suggest

__all__ = ["MODELS", "Family", "Model", "Params", "build", "check_seeds", "is_own"]

Params = Any
"""A pytree of the arrays that learn."""


class Family(NamedTuple):
    """How to make a model, ``make(hidden, shape, classes, key=key)``, and its usual sizes."""

    make: Callable[..., Any]
    hidden: tuple[int, ...]


MODELS: dict[str, Family] = {
    "mlp": Family(MLP, (512, 256)),
    "mlp-ar": Family(partial(PublishedMLP, activation=jax.nn.relu), (300, 300, 100)),
    "mlp-ar-tanh": Family(partial(PublishedMLP, activation=jnp.tanh), (300, 300, 100)),
    "cnn": Family(CNN, (16, 32)),
    "cnn-ar": Family(partial(PublishedCNN, activation=jnp.tanh), (6, 16, 120, 120)),
    "cnn-pc": Family(partial(PublishedCNN, activation=jax.nn.relu), (6, 16, 200, 150)),
    "alexnet": Family(AlexNet, (64, 192, 384, 256, 256, 1024, 1024)),
    "rnn": Family(partial(Recurrent, cell=ElmanCell), (256,)),
    "gru": Family(partial(Recurrent, cell=eqx.nn.GRUCell), (128,)),
    "lstm": Family(partial(Recurrent, cell=eqx.nn.LSTMCell), (128,)),
    "residual": Family(ResidualCNN, (16, 32)),
    "resnet18": Family(ResNet18, (64, 128, 256, 512)),
    "transformer": Family(Encoder, (128, 128)),
    "decoder": Family(Decoder, (256, 256)),
}
"""The models by name. docs/models.md tells what each is and where it is from."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model split into what learns and what does not.

    ``apply(params, inputs)`` maps inputs of shape (n, *shape) to outputs of shape (n, classes), or
    (n, length, classes) for text. Images of unsigned bytes are taken for 255 times their value, and
    images are cast to the dtype of the parameters.
    """

    params: Params
    apply: Callable[[Params, ArrayLike], Array]


def build(
    name: str,
    hidden: Sequence[int],
    seed: int,
    *,
    shape: Sequence[int] = (1, 8, 8),
    classes: int = 10,
) -> Model:
    """Initialise a model.

    Args:
        name: A key of `MODELS`; or ``package.module:function``, a function that is called as
            ``function(shape=shape, classes=classes, key=key)`` and returns a model of your own:
            a callable pytree, such as an Equinox module, that maps one input to its outputs, or a
            pair ``(params, apply)`` where ``apply(params, inputs)`` maps a batch.
        hidden: Sizes of the model's layers or blocks, positive; empty for its usual ones, and for
            a model of your own.
        seed: Draws the parameters.
        shape: Of one input: (channels, rows, columns) of an image, (length,) of a text.
        classes: How many outputs there are; for a text, how many different characters, too.

    Raises:
        ValueError: if there is no such model, or ``hidden`` or ``shape`` does not fit it, or a
            model of your own is none that can be trained.

    Example:
        >>> import jax.numpy as jnp
        >>> from localgrad.experiments.models import build
        >>> model = build("mlp", (32, 16), seed=0)
        >>> model.apply(model.params, jnp.zeros((5, 1, 8, 8))).shape
        (5, 10)
    """
    key = jax.random.key(seed)
    if is_own(name):
        need(not hidden, f"the sizes of {name} are its function's business; leave out hidden sizes")
        params, mapping = _split(own.make(name, shape, classes, key))
        own.check(name, params, mapping, shape, classes)
    else:
        need(name in MODELS, f"there is no model {name!r}; {suggest(name, MODELS)}")
        hidden = tuple(hidden) or MODELS[name].hidden
        need(min(hidden) >= 1, f"hidden sizes must be positive, got {hidden}")
        params, mapping = _split(MODELS[name].make(hidden, shape, classes, key=key))

    def apply(params: Params, inputs: ArrayLike) -> Array:
        inputs = jnp.asarray(inputs)
        if inputs.dtype == jnp.uint8:
            inputs = inputs.astype(jnp.float32) / 255
        if jnp.issubdtype(inputs.dtype, jnp.floating):
            inputs = inputs.astype(jnp.result_type(*jax.tree.leaves(params)))
        return mapping(params, inputs)

    return Model(params, apply)


def _split(made: Any) -> tuple[Params, Callable[[Params, Array], Array]]:
    """What learns, and the function of it and of a batch; as it is if it is such a pair."""
    if isinstance(made, tuple):
        return made
    params, static = eqx.partition(made, eqx.is_inexact_array)
    return params, lambda params, inputs: jax.vmap(eqx.combine(params, static))(inputs)
