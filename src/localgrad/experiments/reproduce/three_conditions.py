"""What each condition of Z-IL is worth: one gradient without it, on small networks."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np

import localgrad as lg
from localgrad.experiments.reproduce.study import Result

SIZES, EXAMPLES, DRAWS = (5, 7, 8, 6, 9, 3), 6, 20
"""Four hidden tanh layers, weights N(0, 1/n)."""

LEVELS = (4, 3, 2, 1)
"""Of the hidden layers' weights, from the input on; the last weights' is 0."""

OFF = 0.01


@final
@lg.learning_rule
class StartedOff(lg.Rule):
    """Inference learning at rate 1, from values that are a little off the forward pass.

    The state of a vertex is its value; its error is that of the definition, ``mu - x``.
    """

    name: ClassVar[str] = "started-off"

    steps: int = 1

    def init(self, mu: Any) -> Any:
        """Off by `OFF` N(0, 1), drawn anew for each vertex."""
        drawn_by = jax.lax.bitcast_convert_type(jnp.sum(mu).astype(jnp.float32), jnp.uint32)
        return mu + OFF * jax.random.normal(jax.random.key(drawn_by), mu.shape, mu.dtype)

    def step(self, s: Any, inbox: lg.Inbox) -> Any:
        """``x + e - fb``."""
        return s + inbox.error - inbox.feedback


def ablations(seed: int) -> Result:
    """How far one gradient is from backpropagation's, in float64, for each draw of the network.

    Returns:
        ``none``, and without a condition: ``start``, ``time``, ``rate``; each (draws,), the worst
        weight's ``max |g - b| / max |b|``. With gamma .5 ``norms``, ``|g| / |b|``, and ``cosines``,
        (draws, weights), from the output down.
    """
    measures = {
        "none": _distance(lg.ZIL(clock=True)),
        "start": _started_off,
        "time": _distance(lg.InferenceLearning(len(LEVELS), 1.0)),
        "rate": _distance(lg.ZIL(clock=True, rate=0.99999)),
        "norms": lambda *network: _halved(*network)[0],
        "cosines": lambda *network: _halved(*network)[1],
    }
    with jax.enable_x64(True):
        drawn = [_drawn(seed + k) for k in range(DRAWS)]
        networks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)
        return {name: jax.jit(jax.vmap(m))(*networks).tolist() for name, m in measures.items()}


def worst(got: Any, want: Any) -> jax.Array:
    """Of all leaves the largest `max |got - want| / max |want|`."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    return jnp.max(jnp.stack([jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)) for a, b in pairs]))


def _drawn(seed: int) -> tuple[list[Any], Any, Any]:
    """Weights N(0, 1/n), inputs and targets N(0, 1)."""
    normal = np.random.default_rng(seed).standard_normal
    weights = [normal((a, b)) / a**0.5 for a, b in pairwise(SIZES)]
    return weights, normal((EXAMPLES, SIZES[0])), normal((EXAMPLES, SIZES[-1]))


def _loss(weights: list[Any], x: Any, y: Any) -> Any:
    for number, w in enumerate(weights[:-1]):
        x = lg.vertex(jnp.tanh(x @ w), f"x{number}")
    return 0.5 * jnp.sum((x @ weights[-1] - y) ** 2)


def _distance(rule: lg.Rule) -> Callable[..., Any]:
    return lambda *network: worst(lg.grad(_loss, rule=rule)(*network), jax.grad(_loss)(*network))


def _started_off(*network: Any) -> Any:
    """The weights of each layer are read when the wave reaches them, as C2 has it."""
    got = [
        lg.grad(_loss, rule=StartedOff(steps=level))(*network)[layer]
        for layer, level in enumerate(LEVELS)
    ]
    return worst(got, jax.grad(_loss)(*network)[:-1])


def _halved(*network: Any) -> tuple[Any, Any]:
    """Ratios of the norms and cosines, from the output down, at gamma .5."""
    got = lg.grad(_loss, rule=lg.ZIL(clock=True, rate=0.5))(*network)[::-1]
    want = jax.grad(_loss)(*network)[::-1]
    norms = [[jnp.linalg.norm(leaf) for leaf in leaves] for leaves in (got, want)]
    products = jnp.stack([jnp.vdot(a, b) for a, b in zip(got, want, strict=True)])
    mine, others = map(jnp.stack, norms)
    return mine / others, products / (mine * others)
