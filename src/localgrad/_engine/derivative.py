"""The gradient of a problem by a rule, driven as the rule asks: by events, by steps, by JAX."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from localgrad._engine.dynamics import Dynamics
from localgrad._engine.problem import Problem, Traced
from localgrad._engine.trial import trial
from localgrad._network import Network, network, tapped
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
    return Derivative(value, aux, list(pull(jnp.ones_like(value))))


def by_events(rule: Any, problem: Problem) -> Derivative:
    """Forward pass, then one wave of errors; every synapse is read when the wave reaches it.

    On events a rule *is* reverse-mode differentiation in which every vertex answers: everything
    ahead of the wave is silent (no error has arrived), everything behind it is read by nobody, so
    JAX's own reverse pass, from the loss to the leaves, does all the work there is.
    """
    traced = problem.traced()
    run = _wave_compiled if traced.is_eager else _wave
    return run(rule.arrival, traced.jaxpr, traced.vertices, traced.before, traced.leaves, traced.rest)


def by_steps(rule: Rule, problem: Problem) -> Derivative:
    """All vertices at every step, from one snapshot."""
    traced = problem.traced(units=rule.derivatives != "everywhere")
    run = _steps
    if traced.is_eager and _is_static(rule):
        run = _steps_compiled
    return run(rule, traced.network, traced.before, traced.leaves, traced.rest)


ENGINES = {"steps": by_steps, "events": by_events, "oracle": by_jax}


def _wave(
    answer: Any, jaxpr: Any, vertices: str, before: Any, leaves: Sequence[Any], rest: Any
) -> Derivative:
    first, last = len(before), len(before) + len(leaves)
    is_leaf = tuple(first <= k < last for k in range(len(jaxpr.invars)))
    run = tapped(jaxpr, is_leaf, answer, vertices)

    def loss(*leaves: Any) -> tuple[Any, list[Any]]:
        value, *aux = run(*before, *leaves, *rest)
        return value, aux

    value, pull, aux = jax.vjp(loss, *leaves, has_aux=True)
    return Derivative(value, aux, list(pull(jnp.ones_like(value))))


def _steps(
    rule: Any, network: Network, before: Any, leaves: Sequence[Any], rest: Any
) -> Derivative:
    dynamics = assembled(rule, network, before, rest)
    forward = dynamics.forward(leaves)
    return Derivative(forward.loss, forward.aux, trial(dynamics, leaves, forward).gradients)


_wave_compiled = jax.jit(_wave, static_argnums=(0, 1, 2))
_steps_compiled = jax.jit(_steps, static_argnums=(0, 1))


def assembled(rule: Rule, network: Network, before: Any, rest: Any) -> Dynamics:
    """The dynamics of a rule on a network; where derivatives are dropped, with its gates."""
    if rule.derivatives == "everywhere":
        return Dynamics(rule, network, (before, rest), (before, rest))

    def gated(*where: str) -> tuple[Any, list[Any]]:
        return before, [*rest, jnp.bool_(rule.derivatives in where)]

    return Dynamics(
        rule, network, gated("messages"), gated("parameters")
    )


def _is_static(rule: Rule) -> bool:
    """Whether the rule's numbers are Python's own, and may be compiled in."""
    return all(isinstance(x, int | float | bool) for x in jax.tree.leaves(rule))
