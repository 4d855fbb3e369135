"""Marks on the layers of an Equinox model, without editing it. Needs Equinox."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax

from localgrad._marks import Choice, Where, class_name, marked_class, named

__all__ = ["mark"]

M = TypeVar("M")


def mark(model: M, where: Where) -> M:
    """The same model, in which the outputs of the chosen modules are vertices of the graph.

    A chosen module's ``__call__`` marks each floating point array of its output with
    `localgrad.vertex`, under the module's name. Nothing else changes: same leaves and paths, same
    classes for ``isinstance``, same attributes, same numbers.

    A module is named as one would reach it from the model: ``layers[0]``, ``blocks[1].conv``; the
    model itself by its class, ``MLP``. Modules without a ``__call__``, and those in static fields,
    cannot be chosen.

    Args:
        model: An ``equinox.Module``, or any pytree of them.
        where: Which modules to mark. A class; a name; a pattern of names below the model itself,
            in which ``*`` stands for any part of one step (``layers[*]``) and ``**`` for any steps
            (``**.conv``); a predicate ``(name, module) -> bool``; or a list of them, of which each
            has to pick a module.

    Returns:
        A marked copy of `model`, which shares its arrays. A chosen module's class is a subclass of
        what it was (one for each class and name), so that a marked model differs in tree structure
        from an unmarked one, and equals a model that is marked in the same way. A module that was
        marked before is renamed.

    Raises:
        ValueError: if `where`, or a part of it, picks nothing. It lists the modules there are.
        TypeError: if `where` is nothing of the above.

    Example:
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> import localgrad as lg
        >>> from localgrad.equinox import mark
        >>> model = mark(eqx.nn.MLP(3, 2, 5, 1, key=jax.random.key(0)), eqx.nn.Linear)
        >>> weights, rest = eqx.partition(model, eqx.is_inexact_array)
        >>> def loss(weights, x): return jnp.sum(eqx.combine(weights, rest)(x) ** 2)
        >>> [vertex.name for vertex in lg.graph(loss)(weights, jnp.ones(3)).vertices]
        ['layers[0]', 'layers[1]', 'loss']
    """
    choice = Choice(where)
    modules: list[tuple[str, Any]] = []

    def look(path: str, module: Any) -> Any:
        modules.append((path, module))
        return module

    def change(path: str, module: Any) -> Any:
        return _marked(module, named(path, module)) if choice.picks(path, module) else module

    _rebuilt(model, (), look)
    choice.check(modules, f"of this {class_name(model)}")
    result: M = _rebuilt(model, (), change)
    return result


def _rebuilt(node: Any, path: tuple[Any, ...], change: Callable[[str, Any], Any]) -> Any:
    """A pytree in which modules that can be called are changed, the innermost first."""
    children, tree = jax.tree.flatten_with_path(node, is_leaf=lambda x: x is not node)
    if not jax.tree_util.treedef_is_leaf(tree):
        rebuilt = [_rebuilt(child, path + step, change) for step, child in children]
        node = jax.tree.unflatten(tree, rebuilt)
    if not isinstance(node, eqx.Module) or not callable(node):
        return node
    return change(jax.tree_util.keystr(path).removeprefix("."), node)


def _marked(module: Any, name: str) -> Any:
    copy: Any = object.__new__(marked_class(type(module), name))
    vars(copy).update(vars(module))
    return copy
