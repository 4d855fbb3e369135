"""Marks on the layers of a Flax model, nnx or linen, without editing it. Needs Flax."""

import functools
from typing import Any, TypeVar

from flax import linen, nnx

from localgrad._marks import Choice, Where, class_name, marked, marked_class, named

__all__ = ["mark"]

M = TypeVar("M")


def mark(model: M, where: Where) -> M:
    """The same model, in which the outputs of the chosen modules are vertices of the graph.

    A chosen module's ``__call__`` marks each floating point array of its output with
    `localgrad.vertex`, under the module's name. Nothing else changes: same parameters and paths,
    same numbers.

    **nnx.** `model` is an ``nnx.Module``. A module is named as one would reach it from the model:
    ``layers[0]``, ``block.conv``; one that is reached in several ways, by the first. The model
    itself is named by its class.

    **linen.** The modules of a linen model come to be while it runs, so what is marked is the
    function that runs it: `model` is ``model.apply``, a bound method, or any function that calls
    them, such as the loss. A module is named by its path, as ``nn.tabulate`` shows it:
    ``Dense_0``, ``encoder/layers_1``; the outermost by its class. Mark the function first and
    ``jit`` the result: what was traced before has no marks, which also goes for ``nn.jit``.

    Args:
        model: An ``nnx.Module``, or a function that runs linen modules.
        where: Which modules to mark. A class; a name; a pattern of names below the model itself,
            in which ``*`` stands for any part of one step (``Dense_*``) and ``**`` for any steps
            (``**/Dense_0``); a predicate ``(name, module) -> bool``; or a list of them, of which
            each has to pick a module.

    Returns:
        For nnx, a copy of the modules that shares the Variables of `model`: what trains one trains
        the other. A chosen module's class is a subclass of what it was (one for each class and
        name), in the graphdef too. For linen, a function with the arguments and results of `model`.

    Raises:
        ValueError: if `where`, or a part of it, picks nothing (linen: raised by the returned
            function). It lists the modules there are.
        TypeError: if `where` or `model` is nothing of the above, or `model` is a linen module.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> import localgrad as lg
        >>> from localgrad.flax import mark
        >>> model, x = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)]), jnp.ones((5, 3))
        >>> variables = model.init(jax.random.key(0), x)
        >>> apply = mark(model.apply, nn.Dense)
        >>> def loss(variables, x): return jnp.sum(apply(variables, x) ** 2)
        >>> [vertex.name for vertex in lg.graph(loss)(variables, x).vertices]
        ['layers_0', 'layers_2', 'loss']
    """
    choice = Choice(where)
    if isinstance(model, linen.Module):
        met = f"met a {class_name(model)}, a linen module, whose modules come to be while it runs."
        do = "mark what runs it: mark(model.apply, where), or the loss that calls it."
        raise TypeError(choice.explain(met, do))
    if not isinstance(model, nnx.Module) and not callable(model):
        met = f"met {model!r}, which is no nnx module and no function."
        raise TypeError(choice.explain(met, "mark an nnx.Module, or model.apply of a linen model."))
    result: Any = _nnx(model, choice) if isinstance(model, nnx.Module) else _linen(model, choice)
    return result


def _nnx(model: Any, choice: Choice) -> Any:
    copy = nnx.clone(model, variables=False)
    modules = [
        (_nnx_path(steps), module) for steps, module in nnx.iter_modules(copy) if callable(module)
    ]
    choice.check(modules, f"of this {class_name(model)}")
    for path, module in modules:
        if choice.picks(path, module):
            module.__class__ = marked_class(type(module), named(path, module))
    return copy


def _nnx_path(steps: tuple[Any, ...]) -> str:
    written = (f".{step}" if isinstance(step, str) else f"[{step}]" for step in steps)
    return "".join(written).removeprefix(".")


def _linen(function: Any, choice: Choice) -> Any:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        modules: list[tuple[str, Any]] = []
        running: list[Any] = []

        def mark_output(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            module = context.module
            # One call of a module is several of its methods: setup, and super().__call__ inside.
            if context.method_name != "__call__" or any(module is other for other in running):
                return call(*args, **kwargs)
            running.append(module)
            try:
                output = call(*args, **kwargs)
            finally:
                running.pop()
            path = "/".join(module.path)
            modules.append((path, module))
            return marked(output, named(path, module)) if choice.picks(path, module) else output

        with linen.intercept_methods(mark_output):
            result = function(*args, **kwargs)
        advice = " What was jitted before is not seen: mark first, then jit."
        choice.check(modules, "that ran", advice)
        return result

    return run
