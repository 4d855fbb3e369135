"""One call of the user's function, posed inside of a compiled program."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from localgrad._call import Call, Signature

T = TypeVar("T")


def compiled(
    signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[Call], T]
) -> T:
    """`run` on the problem that a call poses, with the call's arrays as arguments of the program.

    `run` returns arrays. What else it has to say it says on the way, for it is traced here.
    """
    leaves, tree = jax.tree.flatten((args, kwargs))
    is_array = [isinstance(leaf, jax.Array) for leaf in leaves]

    def posed(arrays: list[Any]) -> T:
        supply = iter(arrays)
        mixed = [next(supply) if a else leaf for a, leaf in zip(is_array, leaves, strict=True)]
        args, kwargs = jax.tree.unflatten(tree, mixed)
        return run(signature.bind(args, kwargs))

    return jax.jit(posed)([leaf for a, leaf in zip(is_array, leaves, strict=True) if a])
