"""`compare`: how far a rule's gradient is from backpropagation's, leaf by leaf."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from localgrad._call import Signature
from localgrad._inspect.table import table
from localgrad._rules import ZIL, Backprop, Rule


@dataclass(frozen=True)
class LeafComparison:
    """One parameter leaf: its gradient by the rule (g) against backpropagation's (b).

    Attributes:
        name: Where the leaf stands in the arguments, e.g. ``args[0]['w']``.
        shape: Shape of the leaf.
        dtype: Name of its dtype.
        norm: ``|b|``, the Euclidean norm of backpropagation's gradient.
        max_abs: ``max |g - b|``.
        max_rel: ``max |g - b| / max |b|``; infinite where b is zero and g is not.
        cosine: ``<g, b> / (|g| |b|)``; nan where either is zero.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    norm: float
    max_abs: float
    max_rel: float
    cosine: float


@dataclass(frozen=True)
class Comparison:
    """A rule's gradient against backpropagation's, both compiled; prints as a table.

    Attributes:
        rule: The rule.
        value: The loss.
        leaves: One `LeafComparison` per differentiated leaf.
    """

    rule: Rule
    value: float
    leaves: tuple[LeafComparison, ...]

    @property
    def max_abs(self) -> float:
        """The largest absolute difference of any leaf (nan if one is)."""
        return _worst(leaf.max_abs for leaf in self.leaves)

    @property
    def max_rel(self) -> float:
        """The largest relative difference of any leaf (nan if one is)."""
        return _worst(leaf.max_rel for leaf in self.leaves)

    @property
    def cosine(self) -> float:
        """The smallest cosine of any leaf with a gradient; nan if there is none."""
        return min((c.cosine for c in self.leaves if not math.isnan(c.cosine)), default=math.nan)

    def __str__(self) -> str:
        head = ("parameter", "shape", "dtype", "|gradient|", "max abs", "max rel", "cosine")
        rows = [
            (
                leaf.name,
                str(leaf.shape),
                leaf.dtype,
                f"{leaf.norm:.3e}",
                f"{leaf.max_abs:.1e}",
                f"{leaf.max_rel:.1e}",
                f"{leaf.cosine:.6f}",
            )
            for leaf in self.leaves
        ]
        title = f"{self.rule} against backpropagation, loss {self.value:.6g}"
        return f"{title}\n{table(head, rows, right=(3, 4, 5, 6))}"


def compare(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    rule: Rule = ZIL(),
    vertices: str | None = None,
) -> Callable[..., Comparison]:
    """A function that compares a rule's gradient of `f` with backpropagation's.

    Both are compiled, on the same arguments. Arguments and errors are those of `value_and_grad`.

    Returns:
        A function of the arguments of `f` that returns a `Comparison`.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> result = lg.compare(lambda w: jnp.sum(jnp.tanh(w)), rule=lg.ZIL())(jnp.ones(3))
        >>> result.max_abs, round(result.cosine, 6)
        (0.0, 1.0)
    """
    signature = Signature.of(f, argnums, has_aux, holomorphic, allow_int, rule, vertices)

    def compare_f(*args: Any, **kwargs: Any) -> Comparison:
        leaves, tree = jax.tree.flatten((args, kwargs))
        is_array = [isinstance(leaf, jax.Array) for leaf in leaves]
        names: list[str] = []

        def derivative(rule: Rule) -> tuple[Any, list[Any]]:
            def run(arrays: list[Any]) -> tuple[Any, list[Any]]:
                supply = iter(arrays)
                mixed = [next(supply) if a else x for a, x in zip(is_array, leaves, strict=True)]
                args, kwargs = jax.tree.unflatten(tree, mixed)
                call = signature.bind(args, kwargs)
                names[:] = call.names
                value, _, gradients = rule.engine(rule, call.problem)
                return value, gradients

            return jax.jit(run)([x for a, x in zip(is_array, leaves, strict=True) if a])

        value, gradients = derivative(rule)
        _, exact = derivative(Backprop())
        pairs = zip(names, gradients, exact, strict=True)
        return Comparison(rule, np.asarray(value).item(), tuple(_leaf(*pair) for pair in pairs))

    return compare_f


def _leaf(name: str, gradient: Any, exact: Any) -> LeafComparison:
    shape, dtype = exact.shape, exact.dtype.name
    kind = np.complex128 if np.issubdtype(exact.dtype, np.complexfloating) else np.float64
    g, b = (np.asarray(x).astype(kind).ravel() for x in (gradient, exact))
    norms = float(np.linalg.norm(g)), float(np.linalg.norm(b))
    with np.errstate(invalid="ignore"):  # inf - inf is nan, and shall be seen
        max_abs = float(np.max(np.abs(g - b), initial=0.0))
    largest = float(np.max(np.abs(b), initial=0.0))
    max_rel = max_abs / largest if largest else (math.inf if max_abs else 0.0)
    cosine = float(np.vdot(b, g).real) / (norms[0] * norms[1]) if all(norms) else math.nan
    return LeafComparison(name, shape, dtype, norms[1], max_abs, max_rel, cosine)


def _worst(numbers: Any) -> float:
    return float(np.max(list(numbers), initial=0.0))
