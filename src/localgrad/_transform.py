"""`grad` and `value_and_grad`: JAX's signatures, plus the rule and the choice of vertices."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from localgrad._call import Signature
from localgrad._engine import derivative
from localgrad._protocol import Rule
from localgrad._rules import ZIL


def value_and_grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    rule: Rule = ZIL(),
    vertices: str | None = None,
) -> Callable[..., Any]:
    """A function that returns the value of `f` and its gradient by a local learning rule.

    It stands where ``jax.value_and_grad(f)`` stood, and composes with ``jit``, ``vmap``, ``scan``,
    sharding and itself in the same way. `f` is traced as under ``jax.jit``.

    Args:
        f: The function to differentiate. Its arguments at `argnums` are pytrees of arrays of any
            shape with float16, bfloat16, float32, float64 or complex dtype; the others may be any
            Python objects. It returns a real scalar, or ``(scalar, aux)`` with `has_aux`.
        argnums: Position or positions of the arguments to differentiate.
        has_aux: Whether `f` returns a pair of the scalar and any pytree.
        holomorphic: Whether `f` is promised to be holomorphic; then inputs and output are complex.
        allow_int: Whether differentiated arguments may hold integers or booleans, whose gradients
            are zeros of dtype ``float0``.
        rule: The learning rule. Keyword only.
        vertices: What a vertex of the graph is. ``"elementary"``: each equation that computes.
            ``"marked"``: each value that `f` named with `localgrad.vertex`. None: marked if `f`
            has marks, else elementary. Exact rules give the same gradient on both. Keyword only.

    Returns:
        A function of the arguments of `f` that returns ``(value, gradient)``, or
        ``((value, aux), gradient)`` with `has_aux`. The gradient has the structure, shapes and
        dtypes of the differentiated argument, in a tuple if `argnums` is a sequence.

    Raises:
        TypeError: as ``jax.value_and_grad`` does (output no real scalar, integer arguments, wrong
            argnums, no pair with `has_aux`, ...), and where `rule` is no rule.
        ValueError: where an error would have to pass an equation that has no reverse derivative
            (``while_loop`` without static bounds, ``pure_callback``), or `vertices` is unknown.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> def loss(w, x): return jnp.mean((x @ w) ** 2)
        >>> value, g = lg.value_and_grad(loss, rule=lg.ZIL())(jnp.ones(3), jnp.eye(3))
        >>> float(value), g.shape
        (1.0, (3,))
    """
    signature = Signature.of(f, argnums, has_aux, holomorphic, allow_int, rule, vertices)

    @functools.wraps(f)
    def value_and_grad_f(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(args, kwargs)
        value, aux, gradients = derivative(rule, call.problem)
        gradient = call.gradient(gradients)
        return ((value, call.auxiliary(aux)), gradient) if has_aux else (value, gradient)

    return value_and_grad_f


def grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    rule: Rule = ZIL(),
    vertices: str | None = None,
) -> Callable[..., Any]:
    """A function that returns the gradient of `f` by a local learning rule.

    It stands where ``jax.grad(f)`` stood. Arguments and errors are those of `value_and_grad`.

    Returns:
        A function of the arguments of `f` that returns the gradient, or ``(gradient, aux)`` with
        `has_aux`.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> lg.grad(lambda w: jnp.sum(w**2), rule=lg.ZIL())(jnp.array([1.0, 2.0])).tolist()
        [2.0, 4.0]
    """
    both = value_and_grad(f, argnums, has_aux, holomorphic, allow_int, rule=rule, vertices=vertices)

    @functools.wraps(f)
    def grad_f(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return grad_f
