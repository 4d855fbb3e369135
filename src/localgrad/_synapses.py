"""`Synapses`: parameters whose errors travel back on weights of their own."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from localgrad._jaxpr import called_at, explain


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["forward", "backward"],
    meta_fields=["learns", "decay"],
)
@dataclass(frozen=True)
class Synapses:
    """Parameters with feedback weights: it stands where the parameters stood.

    The function runs on the forward weights ``W``. Where a synapse meets an activity ``x`` in
    ``f(W, x)``, the message to the activity travels on the backward weights ``psi``, every
    derivative of an activation stays at the values of the forward pass::

        fb_x = (df/dx)(psi, x)^T e,     fb_W = (df/dW)(W, x)^T e,     x @ W: fb_x = e psi^T

    The gradient is again `Synapses`, so that an optimiser updates both at the same rate::

        forward:   fb_W + decay W
        backward:  0, or with learns  fb_W + decay psi

    Without decay ``W - psi`` then stays what it is; with decay (Kolen and Pollack) it shrinks by
    ``1 - learning rate * decay`` in each step of gradient descent, and psi becomes W.

    Weights keep their twins through transposes, reshapes, slices, casts, masks and scaling, and in
    scans, branches and checkpoints. What an index picks from a parameter counts as an activity (the
    embedding of a token) if it is bent or meets another synapse in a product, else as a synapse.

    It is a pytree and may stand for a differentiated argument or for any part of one. The function
    gets `forward` in its place. `Backprop` sends its messages on the forward weights, whatever the
    backward weights are, so that `compare` measures the distance from true backpropagation.

    Attributes:
        forward: Any pytree of parameters, floating-point or complex arrays.
        backward: Their feedback weights: the same structure, shapes and dtypes. None in the place
            of a leaf (or of a whole subtree) is the forward weight itself.
        learns: Whether the backward weights learn. Static.
        decay: Decay of both weights, for leaves that have two; asks for `learns`. Static.

    Raises:
        ValueError: when a gradient is asked for, where structures, shapes or dtypes differ, and
            where a parameter with a feedback weight enters non-linearly or is changed by a scan; at
            once where `decay` is negative, or is given and `learns` is not.

    Source: Lillicrap, Cownden, Tweed and Akerman 2016 (fixed random feedback weights); Millidge,
    Tschantz, Seth and Buckley 2020 (learned ones); Kolen and Pollack 1994; Akrout et al. 2019.

    Example:
        >>> import jax, jax.numpy as jnp, localgrad as lg
        >>> def loss(w, x): return jnp.sum(jnp.tanh(x @ w[0]) @ w[1])
        >>> w, x = [jnp.ones((3, 2)), jnp.ones((2, 1))], jnp.ones((4, 3))
        >>> flipped = lg.Synapses(w, [w[0], -w[1]], learns=False)
        >>> g, exact = lg.grad(loss)(flipped, x), jax.grad(loss)(w, x)
        >>> bool(jnp.allclose(g.forward[0], -exact[0])), bool(jnp.allclose(g.forward[1], exact[1]))
        (True, True)
    """

    forward: Any
    backward: Any
    learns: bool = True
    decay: float = 0.0

    def __post_init__(self) -> None:
        if self.decay < 0 or (self.decay and not self.learns):
            met = f"met Synapses with decay={self.decay!r} and learns={self.learns!r}."
            do = "pass a decay of at least 0, and learns=True with it."
            raise ValueError(explain(met, called_at(), do))

    @classmethod
    def random(
        cls, key: Any, forward: Any, *, learns: bool = False, decay: float = 0.0
    ) -> "Synapses":
        """Random feedback weights for arrays of two axes or more; none for the others.

        Each is drawn from a normal distribution with the standard deviation of the forward weight.

        Args:
            key: A key of `jax.random`.
            forward: The parameters.
            learns: Whether the random weights are only the start. By default they are fixed.
            decay: As for `Synapses`.

        Example:
            >>> import jax, jax.numpy as jnp, localgrad as lg
            >>> params = {"w": jnp.eye(3), "b": jnp.zeros(3)}
            >>> synapses = lg.Synapses.random(jax.random.key(0), params)
            >>> synapses.backward["w"].shape, synapses.backward["b"]
            ((3, 3), None)
        """
        leaves, tree = jax.tree.flatten(forward)
        keys = jax.random.split(key, max(len(leaves), 1))

        def draw(key: Any, leaf: Any) -> Any:
            if jnp.ndim(leaf) < 2 or not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
                return None
            drawn = jax.random.normal(key, jnp.shape(leaf), jnp.result_type(leaf))
            return drawn * jnp.std(leaf).astype(drawn.dtype)

        drawn = [draw(key, leaf) for key, leaf in zip(keys, leaves, strict=False)]
        return cls(forward, jax.tree.unflatten(tree, drawn), learns, decay)

    @classmethod
    def copied(cls, forward: Any, *, learns: bool = True, decay: float = 0.0) -> "Synapses":
        """Feedback weights that start as copies of the forward weights.

        Args:
            forward: The parameters.
            learns: Whether the copies learn; otherwise they keep the values of now.
            decay: As for `Synapses`.

        Example:
            >>> import jax.numpy as jnp, localgrad as lg
            >>> synapses = lg.Synapses.copied([jnp.ones(2)])
            >>> synapses.backward[0].tolist()
            [1.0, 1.0]
        """
        return cls(forward, jax.tree.map(jnp.copy, forward), learns, decay)


def bare(tree: Any) -> Any:
    """The tree with the backward weights of its synapses left out."""
    return _each(lambda synapses: replace(synapses, backward=None), tree)


def running(tree: Any) -> Any:
    """The tree that a function runs on: the forward weights in the places of synapses."""
    return _each(lambda synapses: synapses.forward, tree)


def twins(tree: Any) -> list[Any]:
    """For each leaf of the bare tree its backward weight, or None."""
    parts = jax.tree.leaves(tree, is_leaf=_is_synapses)
    each = [_twins(part) if _is_synapses(part) else [None] for part in parts]
    return sum(each, [])


def learned(gradient: Any, tree: Any) -> Any:
    """The gradient of a bare tree as that of the tree: what its synapses learn."""

    def both(part: Any, g: Any) -> Any:
        if not _is_synapses(part):
            return g
        gradients, structure = jax.tree.flatten(g.forward)
        weights = map(jnp.asarray, jax.tree.leaves(part.forward))
        sides = list(map(partial(_update, part), gradients, weights, _twins(part)))
        forward = jax.tree.unflatten(structure, [side for side, _ in sides])
        backward = [side for _, side in sides if side is not None]
        backward = jax.tree.unflatten(jax.tree.structure(part.backward), backward)
        return replace(part, forward=forward, backward=backward)

    return jax.tree.map(both, tree, gradient, is_leaf=_is_synapses)


def _update(synapses: Synapses, gradient: Any, weight: Any, twin: Any) -> tuple[Any, Any]:
    """The gradients of a forward weight and of its twin."""
    if twin is None:
        return gradient, None
    if not jnp.issubdtype(gradient.dtype, jnp.inexact):
        return gradient, gradient
    if not synapses.learns:
        return gradient, jnp.zeros_like(twin)
    if not synapses.decay:
        return gradient, gradient
    return gradient + synapses.decay * weight, gradient + synapses.decay * twin


def _twins(synapses: Synapses) -> list[Any]:
    """For each forward leaf its backward weight, or None; checked."""
    found: list[Any] = []

    def meet(path: Any, twin: Any, forward: Any) -> None:
        leaves = jax.tree.leaves(forward)
        if twin is not None:
            name = jax.tree_util.keystr(path)
            want = _kind(forward) if len(leaves) == 1 and leaves[0] is forward else "no array there"
            if want != _kind(twin):
                raise ValueError(f"backward{name} is {_kind(twin)}, forward{name} {want}")
            twin = jnp.asarray(twin)
        found.extend([twin] * len(leaves))

    def is_none(x: Any) -> bool:
        return x is None

    try:
        jax.tree.map_with_path(meet, synapses.backward, synapses.forward, is_leaf=is_none)
    except ValueError as error:
        met = f"met Synapses whose backward weights do not fit the forward ones: {error}."
        do = "give every forward weight one of the same shape and dtype, or None."
        raise ValueError(explain(met, called_at(), do)) from None
    return found


def _kind(x: Any) -> str:
    return f"{jnp.result_type(x)}[{','.join(map(str, jnp.shape(x)))}]"


def _is_synapses(x: Any) -> bool:
    return isinstance(x, Synapses)


def _each(f: Callable[[Synapses], Any], tree: Any) -> Any:
    return jax.tree.map(lambda x: f(x) if _is_synapses(x) else x, tree, is_leaf=_is_synapses)
