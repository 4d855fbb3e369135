"""The gradient of a problem by a rule, driven as the rule asks: by events, by steps, by JAX."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from localgrad._engine.dynamics import Dynamics
from localgrad._engine.problem import Problem
from localgrad._engine.trial import trial
from localgrad._network import Network, blaming, tapped
from localgrad._protocol import Rule


class Derivative(NamedTuple):
    """The value of the loss, the auxiliary outputs, and one gradient per leaf."""

    value: Any
    aux: list[Any]
    gradients: list[Any]


def derivative(rule: Rule, problem: Problem) -> Derivative:
    """The loss and its gradients by a rule."""
    return ENGINES[rule.engine](rule, problem)


def by_jax(rule: Rule, problem: Problem) -> Derivative:
    """`jax.vjp` of the whole function; nothing of localgrad's network is used."""
    value, pull, aux = jax.vjp(problem.f, *problem.leaves, has_aux=True)
    return Derivative(value, aux, list(pull(one(value))))


def by_events(rule: Any, problem: Problem, compiled: bool = False) -> Derivative:
    """Forward pass, then one wave of errors; every synapse is read when the wave reaches it.

    On events a rule *is* reverse-mode differentiation in which every vertex answers: everything
    ahead of the wave is silent (no error has arrived), everything behind it is read by nobody, so
    JAX's own reverse pass, from the loss to the leaves, does all the work there is.
    """
    traced = problem.traced(on_events=True)
    run = _wave_compiled if compiled or traced.is_eager else _wave
    inputs = traced.before, traced.leaves, traced.rest
    with blaming(traced.jaxpr, traced.is_leaf):
        return run(rule.arrival, traced.jaxpr, traced.vertices, traced.is_leaf, *inputs)


def by_steps(rule: Rule, problem: Problem) -> Derivative:
    """All vertices at every step, from one snapshot."""
    traced = problem.traced(units=rule.derivatives != "everywhere")
    run = _steps
    if traced.is_eager and is_static(rule):
        run = _steps_compiled
    with blaming(traced.jaxpr, traced.is_leaf):
        return run(rule, traced.network, traced.before, traced.leaves, traced.rest)


ENGINES = {"steps": by_steps, "events": by_events, "oracle": by_jax}


def _wave(
    answer: Any,
    jaxpr: Any,
    vertices: str,
    is_leaf: tuple[bool, ...],
    before: Any,
    leaves: Sequence[Any],
    rest: Any,
) -> Derivative:
    run = tapped(jaxpr, is_leaf, answer, vertices)

    def loss(*leaves: Any) -> tuple[Any, list[Any]]:
        value, *aux = run(*before, *leaves, *rest)
        return value, aux

    value, pull, aux = jax.vjp(loss, *leaves, has_aux=True)
    return Derivative(value, aux, list(pull(one(value))))


def one(value: Any) -> Any:
    """The error of the loss: 1, of the type of errors, which on a mesh may not be the value's."""
    is_real = jnp.issubdtype(value.dtype, jnp.floating)
    return jax.grad(lambda value: value)(value) if is_real else jnp.ones_like(value)


def _steps(
    rule: Any, network: Network, before: Any, leaves: Sequence[Any], rest: Any
) -> Derivative:
    with settings(network):
        dynamics = assembled(rule, network, before, rest)
        forward = dynamics.forward(leaves)
        found = trial(dynamics, leaves, forward).gradients
    gradients = [like(leaf, gradient) for leaf, gradient in zip(leaves, found, strict=True)]
    return Derivative(forward.loss, forward.aux, gradients)


def settings(network: Network) -> Any:
    """The setting in which a rule keeps the dtypes of a network: a function may ask for its own."""
    is_wide = any(jnp.dtype(v.dtype).itemsize == 8 for v in jax.tree.leaves(network.vertices))
    return jax.enable_x64(True) if is_wide else nullcontext()


def like(leaf: Any, gradient: Any) -> Any:
    """A gradient of the leaf's type, weak if that is weak: as the derivative of a cast gives it."""
    if not jax.typeof(leaf).weak_type or jax.typeof(gradient).weak_type:
        return gradient
    _, pull = jax.vjp(lambda leaf: leaf.astype(gradient.dtype), leaf)
    return pull(gradient)[0]


_wave_compiled = jax.jit(_wave, static_argnums=(0, 1, 2, 3))
_steps_compiled = jax.jit(_steps, static_argnums=(0, 1))


def assembled(rule: Rule, network: Network, before: Any, rest: Any) -> Dynamics:
    """The dynamics of a rule on a network; where derivatives are dropped, with its gates."""
    if rule.derivatives == "everywhere":
        return Dynamics(rule, network, (before, rest), (before, rest))

    def gated(*where: str) -> tuple[Any, list[Any]]:
        return before, [*rest, jnp.bool_(rule.derivatives in where)]

    return Dynamics(rule, network, gated("messages"), gated("parameters"))


def is_static(rule: Rule) -> bool:
    """Whether the rule's numbers are Python's own, and may be compiled in."""
    return all(isinstance(x, int | float | bool) for x in jax.tree.leaves(rule))
