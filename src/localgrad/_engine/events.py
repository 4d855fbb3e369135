"""The event engine: vertices work when the wave of errors reaches them, and only then.

Everything ahead of the wave is silent (no error has arrived) and everything behind it is read by
nobody, so one pass over the levels, from the loss to the leaves, does all the work there is.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import jax.numpy as jnp
from jax import lax

from localgrad._engine.problem import Derivative, Problem
from localgrad._graph import Step, Values


class Neuron(Protocol):
    """What the event engine asks of a rule."""

    def arrival(self, feedback: Any) -> Any:
        """The error of a vertex, silent so far, once its children's feedback has arrived."""
        ...


class Events:
    """Forward pass, then one wave of errors; every synapse is read when the wave reaches it."""

    def __call__(self, rule: Neuron, problem: Problem) -> Derivative:
        graph = problem.graph()
        values = graph.forward(problem.inputs)
        loss, *aux = (values[o] for o in graph.outputs)
        reached = sweep(rule, graph.moving, values, {graph.outputs[0]: jnp.ones_like(loss)})
        gradients = [
            reached[slot] if learns else jnp.zeros_like(leaf)
            for slot, learns, leaf in zip(graph.inputs, graph.learns, problem.leaves, strict=False)
        ]
        return Derivative(loss, aux, gradients)


def sweep(
    rule: Neuron, steps: Sequence[Step], values: Values, errors: dict[int, Any]
) -> dict[int, Any]:
    """Move errors from slots down to the leaves, level by level.

    Returns the sums that arrived at slots which no step writes. A step is handed the residuals of
    its own and the errors that its children sent, nothing else.
    """
    last = len(steps)
    inbox = {slot: [(last, error)] for slot, error in errors.items()}
    wave = partial(sweep, rule)
    for position in turns(steps):
        step = steps[position]
        feedback = [total(inbox.pop(slot)) for slot in step.wanted]
        answers = step.is_vertex and not step.is_root
        arrived = [rule.arrival(fb) for fb in feedback] if answers else feedback
        messages = step.pull([values[s] for s in step.residuals], arrived, wave)
        for parent, message in zip(step.parents, messages, strict=True):
            inbox.setdefault(parent, []).append((position, message))
    return {slot: total(messages) for slot, messages in inbox.items()}


def turns(steps: Sequence[Step]) -> list[int]:
    """The order in which the wave visits steps: by level, the longest path to the end.

    Wiring has no level of its own: it passes errors on as soon as its last consumer has fired, and
    so does a container, whose vertices are visited by a wave of their own.
    """
    level: dict[int, int] = {}  # slot -> the level of a vertex that would write it
    keys = []
    for position in reversed(range(len(steps))):
        step = steps[position]
        own = max((level.get(slot, 0) for slot in step.wanted), default=0)
        for slot in step.parents:
            level[slot] = max(level.get(slot, 0), own + step.is_vertex)
        keys.append((own, step.is_vertex, -position))
    return [-position for _, _, position in sorted(keys)]


def total(messages: list[tuple[int, Any]]) -> Any:
    """The sum of all messages, last sender in program order first (as `jax.grad` adds them)."""
    messages = sorted(messages, key=lambda message: -message[0])
    result = messages[0][1]
    for _, message in messages[1:]:
        result = lax.add(result, message)
    return result
