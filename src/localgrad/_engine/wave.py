"""Events: vertices work when the wave of errors reaches them, and only then.

On events a rule *is* reverse-mode differentiation in which every vertex answers: everything ahead
of the wave is silent (no error has arrived), everything behind it is read by nobody, so JAX's own
reverse pass, from the loss to the leaves, does all the work there is.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from localgrad._engine.problem import Derivative, Problem
from localgrad._network import tapped


class Answering(Protocol):
    """What events ask of a rule."""

    def arrival(self, feedback: Any) -> Any:
        """The error of a vertex, silent so far, once its children's feedback has arrived."""
        ...


class Events:
    """Forward pass, then one wave of errors; every synapse is read when the wave reaches it."""

    def __call__(self, rule: Answering, problem: Problem) -> Derivative:
        jaxpr, consts = problem.traced()
        leaves, rest = problem.leaves, problem.inputs[len(problem.leaves) :]
        is_leaf = tuple(k < len(leaves) for k, _ in enumerate(problem.inputs))
        run = tapped(jaxpr, consts, is_leaf, rule.arrival, problem.chosen(jaxpr))

        def loss(*leaves: Any) -> tuple[Any, list[Any]]:
            value, *aux = run(*leaves, *rest)
            return value, aux

        value, pull, aux = jax.vjp(loss, *leaves, has_aux=True)
        return Derivative(value, aux, list(pull(jnp.ones_like(value))))
