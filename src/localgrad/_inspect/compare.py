"""`compare`: how far a rule's gradient is from backpropagation's, leaf by leaf."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from localgrad._call import Signature
from localgrad._engine import Dynamics, Problem, assembled, by_events, is_static, settings, trial
from localgrad._inspect.spots import Spots
from localgrad._inspect.table import Column, Table
from localgrad._inspect.tabular import Tabular
from localgrad._jaxpr import replayed
from localgrad._network import Network
from localgrad._protocol import Rule
from localgrad._rules import ZIL

AT_REST = 1e-2
"""The residual above which a relaxation is not called converged."""


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
        delivered: ``<g, b> / <b, b>``, the part of backpropagation's gradient that the rule
            delivers; nan where `b` is zero.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    norm: float
    max_abs: float
    max_rel: float
    cosine: float
    delivered: float = math.nan


@dataclass(frozen=True)
class Comparison(Tabular):
    """A rule's gradient against backpropagation's, both compiled; prints as a table.

    Attributes:
        rule: The rule.
        value: The loss.
        leaves: One `LeafComparison` per differentiated leaf.
        steps: How many steps were taken, by rules that run step by step.
        depth: The deepest level of their network: after so many steps, and not before, every
            vertex has received all of its error (top-down: after one).
        residual: How far from rest a relaxation was at its end, ``max |fb - e| / max |fb|`` over
            all vertices. A vertex that nothing has reached yet counts as at rest. None for rules
            that do not relax.
        not_finite: The names of the vertices with an error that is not finite at the end, or a
            value that was finite in the forward pass.
        warnings: What makes the gradients doubtful, and what to do about it.
    """

    rule: Rule
    value: float
    leaves: tuple[LeafComparison, ...]
    steps: int | None = None
    depth: int | None = None
    residual: float | None = None
    not_finite: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

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

    def _table(self) -> Table:
        # Rules on events deliver all of the gradient, each of them.
        is_stepwise = self.steps is not None
        head = ["parameter", "shape", "dtype", "|gradient|", "max abs", "max rel", "cosine"]
        rows = [
            [
                leaf.name,
                "x".join(map(str, leaf.shape)) or "scalar",
                leaf.dtype,
                f"{leaf.norm:.3e}",
                f"{leaf.max_abs:.1e}",
                f"{leaf.max_rel:.1e}",
                f"{leaf.cosine:.6f}",
            ]
            for leaf in self.leaves
        ]
        if is_stepwise:
            head[3], head[-1:] = "|grad|", ["cosine", "part"]
            for row, leaf in zip(rows, self.leaves, strict=True):
                row[3:4], row[-1:] = [f"{leaf.norm:.1e}"], [f"{leaf.cosine:.4f}", _part(leaf)]
        title = f"{self.rule} against backpropagation, loss {self.value:.6g}"
        parameter = Column(head[0], keeps_end=True, gives=True)
        others = (Column(text, right=k > 2) for k, text in enumerate(head) if k)
        residual = "" if self.residual is None else f", residual {self.residual:.1e}"
        notes = (f"{self.steps} steps, depth {self.depth}{residual}",) if is_stepwise else ()
        warnings = tuple(f"warning: {text}" for text in self.warnings)
        return Table((title,), (parameter, *others), rows, notes, warnings)


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
        call = signature.bind(args, kwargs)
        whole = replace(call.problem, twins=()).traced()
        exact = _exact(whole.jaxpr, whole.before, whole.leaves)
        report: dict[str, Any] = {}
        if rule.engine == "steps":
            value, gradients, report = _stepwise(rule, call.problem)
        elif rule.engine == "events":
            value, _, gradients = by_events(rule, call.problem, compiled=True)
        else:
            value, gradients = _value(whole.jaxpr, whole.before, whole.leaves), exact
        leaves = tuple(_leaf(*pair) for pair in zip(call.names, gradients, exact, strict=True))
        return Comparison(rule, np.asarray(value).item(), leaves, **report)

    return compare_f


def _replayed(jaxpr: Any, before: Any, leaves: Any) -> Any:
    return replayed(jaxpr, [*before, *leaves])[0]


_value = jax.jit(_replayed, static_argnums=0)


@partial(jax.jit, static_argnums=0)
def _exact(jaxpr: Any, before: Any, leaves: Any) -> Any:
    """Backpropagation's gradients: those of the whole program, by JAX."""
    loss, pull = jax.vjp(lambda *leaves: _replayed(jaxpr, before, leaves), *leaves)
    return pull(jnp.ones_like(loss))


def _stepwise(rule: Rule, problem: Problem) -> Any:
    """The loss, the gradients, and how the inference has ended."""
    traced = problem.traced(units=rule.derivatives != "everywhere")
    inputs = traced.before, traced.leaves, traced.rest
    # A rule with arrays for its numbers is an argument like any other.
    run = _measured_with if is_static(rule) else _measured_of
    value, gradients, measured = run(rule, traced.network, *inputs)
    dynamics = assembled(rule, traced.network, traced.before, traced.rest)
    names = [spot.name for spot in Spots(dynamics, traced.network).all]
    return value, gradients, _report(measured, dynamics, names)


def _measured(rule: Rule, network: Network, before: Any, leaves: Any, rest: Any) -> Any:
    with settings(network):
        dynamics = assembled(rule, network, before, rest)
        forward = dynamics.forward(leaves)
        now, gradients, steps = trial(dynamics, leaves, forward)
        signals = dynamics.signals(leaves, forward, now, now.nudge)
        broken = Spots(dynamics, network).not_finite(forward, now, signals.errors)
        # What is not finite is not at rest.
        residual = jnp.where(jnp.any(broken), jnp.nan, dynamics.residual(signals))
    return forward.loss, gradients, {"steps": steps, "broken": broken, "residual": residual}


_measured_with = jax.jit(_measured, static_argnums=(0, 1))
_measured_of = jax.jit(_measured, static_argnums=1)


def _report(measured: dict[str, Any], dynamics: Dynamics, names: Sequence[str]) -> dict[str, Any]:
    """The fields of a comparison that say how an inference has ended."""
    steps, depth = int(measured["steps"]), dynamics.network.depth
    # Behind the wave of a rule that tells by itself when its synapses learn, nothing rests.
    residual = None if dynamics.rule.tells else float(measured["residual"])
    broken = [n for n, b in zip(names, measured["broken"], strict=True) if b]
    warnings = []
    if broken:
        shown = ", ".join([*broken[:5], *(["..."] if len(broken) > 5 else [])])
        warnings.append(
            f"values or errors that are not finite at {len(broken)} of {len(names)} "
            f"vertices ({shown}): the inference diverges. Lower the rate or the nudge; "
            "localgrad.record shows where and when it begins."
        )
    if steps < depth and not dynamics.rule.sweeps:
        warnings.append(
            f"{steps} steps met a network of depth {depth}, where errors move one level a step: "
            f"what is more than {steps} levels from the loss has received nothing, or not all of "
            f"its error. Take at least {depth} steps, or make fewer vertices with "
            "localgrad.vertex."
        )
    if residual is not None and residual > AT_REST:
        warnings.append(
            f"the inference is not at rest after {steps} steps (residual {residual:.1e}, which "
            f"should be below {AT_REST:g}). Take more steps, or another rate."
        )
    return {
        "steps": steps,
        "depth": depth,
        "residual": residual,
        "not_finite": tuple(broken),
        "warnings": tuple(warnings),
    }


def _part(leaf: LeafComparison) -> str:
    part = leaf.delivered
    return f"{part:.3f}" if abs(part) < 100 or math.isnan(part) else f"{part:.0e}"


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
    delivered = float(np.vdot(b, g).real) / norms[1] ** 2 if norms[1] else math.nan
    return LeafComparison(name, shape, dtype, norms[1], max_abs, max_rel, cosine, delivered)


def _worst(numbers: Any) -> float:
    return float(np.max(list(numbers), initial=0.0))
