"""The network's one interpreter: at each vertex a hook decides what its children read."""

from collections.abc import Callable, Sequence
from typing import Any

from jax import lax

from localgrad._jaxpr import evaluate, is_branch, is_loop, loop_layout, standing
from localgrad._network.body import Body, Inside, Once
from localgrad._network.kind import NUMBERS, Kind
from localgrad._network.scan import at_once, in_turn

Held = dict[int, Any]
"""By equation: of a vertex its values, of a program inside what is held there."""

Meet = Callable[[Any, Any], Any]
"""`meet(prediction, held)`: what the children of a vertex read."""


def cut(prediction: Any, held: Any) -> Any:
    """What is held: no prediction depends on another vertex's."""
    return held


def added(prediction: Any, held: Any) -> Any:
    """The prediction and an error that is held: values that flow through."""
    return lax.add(prediction, held)


def run(
    body: Body, inputs: Sequence[Any], held: Held | None, meet: Meet, kind: Kind = NUMBERS
) -> tuple[list[Any], Held]:
    """The outputs of a network, and the prediction of every vertex.

    With nothing held it is the forward pass: every prediction is its vertex's value, and what
    happens once is among the answers. Otherwise that is among what is held, and only what a vertex
    or the root is computed from is computed.
    """
    answers: Held = {}

    def visit(k: int, eqn: Any, operands: list[Any]) -> Sequence[Any]:
        if held is not None and k not in body.needed:
            return [None] * len(eqn.outvars)
        node = body.nodes.get(k)
        mine = held[k] if held is not None and node is not None else None
        if node is None:
            return kind.bind(eqn, operands)
        if isinstance(node, Inside):
            with standing(eqn):
                operands = kind.operands(eqn.invars, operands)
                outputs, answers[k] = _inside(node, eqn, operands, mine, meet, kind)
            return outputs
        if isinstance(node, Once):
            if mine is not None:
                return kind.kept(mine)
            answers[k] = tuple(kind.bind(eqn, operands))
            return answers[k]
        outputs = list(kind.bind(eqn, operands))
        answers[k] = tuple(outputs[j] for j in node.outputs)
        if mine is not None:
            for j, own in zip(node.outputs, mine, strict=True):
                outputs[j] = meet(outputs[j], own)
        return outputs

    outputs = evaluate(body.jaxpr, kind.kept(body.consts), inputs, visit)
    outputs = kind.operands(body.jaxpr.outvars, outputs)
    if held is not None:
        outputs = [x if a else None for x, a in zip(outputs, body.asked, strict=True)]
    return outputs, answers


def _inside(
    node: Inside, eqn: Any, operands: list[Any], held: Any, meet: Meet, kind: Kind
) -> tuple[Sequence[Any], Any]:
    """The outputs of an equation with programs inside, and the predictions there."""
    if is_branch(eqn):
        index, *given = operands
        ways = [
            lambda given, held, k=k, body=body: run(
                body, given, held if held is None else held[k], meet, kind
            )
            for k, body in enumerate(node.bodies)
        ]
        return kind.choose(index, ways, given, held)
    (body,) = node.bodies
    if not is_loop(eqn):
        return run(body, operands, held, meet, kind)
    layout = loop_layout(eqn)
    operands[layout.inputs[2]] = [kind.enter(x, layout.length) for x in operands[layout.inputs[2]]]
    way = at_once if held is not None and meet is cut else in_turn
    outputs, answers = way(run, body, layout, operands, held, meet, kind)
    outputs[layout.outputs[1]] = [
        None if y is None else kind.leave(y) for y in outputs[layout.outputs[1]]
    ]
    return outputs, answers
