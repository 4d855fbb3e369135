"""`dynamics`: a rule on a function as pure functions, for loops of one's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from localgrad._call import Call, Signature, require
from localgrad._engine import Dynamics, Forward, Moment, Traced, assembled, over_time, settings
from localgrad._protocol import Rule


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["moment", "forward", "inputs"],
    meta_fields=["names", "structure"],
)
@dataclass(frozen=True, repr=False)
class State:
    """The state of a rule's dynamics: a pytree that may be carried through any loop.

    Attributes:
        moment: What every vertex holds, and the time.
        forward: What the forward pass left.
        inputs: The arguments of the last step, where the rule asks what has moved.
        names: Those of the vertices, in the order of computation; relays are ``name.relays``.
    """

    moment: Moment
    forward: Forward
    inputs: Any
    names: tuple[str, ...]
    structure: Any

    @property
    def time(self) -> Any:
        """The steps since `init`, an int32 scalar."""
        return self.moment.time

    @property
    def loss(self) -> Any:
        """The loss of the forward pass."""
        return self.forward.loss

    def __repr__(self) -> str:
        return f"State({len(self.names)} vertices)"


class RuleDynamics:
    """The functions that `dynamics` returns; see there."""

    def __init__(self, signature: Signature, rule: Rule) -> None:
        self._signature, self._rule = signature, rule

    def init(self, *args: Any, **kwargs: Any) -> State:
        """The state after the forward pass.

        Args:
            args: Those of the function.
            kwargs: Those of the function.
        """
        dynamics, traced, _ = self._posed(args, kwargs)
        with settings(dynamics.network):
            forward = dynamics.forward(traced.leaves)
            moment = dynamics.begin(forward)
        vertices = dynamics.network.vertices
        names = tuple(v.name for v in jax.tree.leaves(vertices))
        inputs = _all(traced) if "moved" in self._rule.asks else None
        return State(moment, forward, inputs, names, jax.tree.structure(vertices))

    def step(self, state: State, *args: Any, nudge: Any = None, **kwargs: Any) -> State:
        """The state one step later: all vertices once, from one snapshot.

        Args:
            state: The state.
            args: Those of the function; parameters and data may have changed since the last step.
            nudge: ``beta`` during this step; None: what the rule's phases say at this time. After
                the last phase that is the last phase's.
            kwargs: Those of the function.
        """
        dynamics, traced, _ = self._posed(args, kwargs)
        changed = self._changed(state, traced)
        nudge = self._nudge(dynamics, state, nudge)
        with settings(dynamics.network):
            moment = dynamics.step(traced.leaves, state.forward, state.moment, nudge, changed)
        inputs = _all(traced) if state.inputs is not None else None
        return State(moment, state.forward, inputs, state.names, state.structure)

    def read(self, state: State, *args: Any, nudge: Any = None, **kwargs: Any) -> Any:
        """What the synapses would learn now: the gradient, as `grad` would return it.

        Of a rule whose vertices tell by themselves when their synapses learn, what those learn that
        are plastic now: sum it over time, or apply it at once. Of the others what all would learn.

        Args:
            state: The state.
            args: Those of the function.
            nudge: As for `step`.
            kwargs: Those of the function.
        """
        dynamics, traced, call = self._posed(args, kwargs)
        changed = self._changed(state, traced)
        nudge = self._nudge(dynamics, state, nudge)
        with settings(dynamics.network):
            found = dynamics.read(
                traced.leaves, state.forward, state.moment, nudge, self._rule.tells, changed
            )
        pulls = jnp.where(nudge == 0, 1, nudge)
        return call.gradient([(fb / pulls).astype(fb.dtype) for fb in found])

    def values(self, state: State) -> dict[str, Any]:
        """What every vertex holds, by name."""
        neurons = state.structure.flatten_up_to(state.moment.neurons)
        stored = state.structure.flatten_up_to(state.forward.stored)
        held = [self._rule.value(s, mu) for s, mu in zip(neurons, stored, strict=True)]
        return self._named(state, held)

    def errors(self, state: State, *args: Any, nudge: Any = None, **kwargs: Any) -> dict[str, Any]:
        """The error ``e = mu - x`` that every vertex sends to its parents now, by name."""
        dynamics, traced, _ = self._posed(args, kwargs)
        nudge = self._nudge(dynamics, state, nudge)
        with settings(dynamics.network):
            found = dynamics.signals(traced.leaves, state.forward, state.moment, nudge)
        return self._named(state, state.structure.flatten_up_to(found.errors))

    def energy(self, state: State, *args: Any, nudge: Any = None, **kwargs: Any) -> Any:
        """The free energy ``1/2 sum |e|^2 + beta L`` at the values of now, a scalar."""
        dynamics, traced, _ = self._posed(args, kwargs)
        nudge = self._nudge(dynamics, state, nudge)
        with settings(dynamics.network):
            found = dynamics.signals(traced.leaves, state.forward, state.moment, nudge)
            loss = dynamics.loss(traced.leaves, state.forward, state.moment)
        squares = (jnp.sum(jnp.abs(e) ** 2) for e in jax.tree.leaves(found.errors))
        return sum((s.astype(loss.dtype) / 2 for s in squares), nudge * loss)

    def _posed(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Dynamics, Traced, Call]:
        call = self._signature.bind(args, kwargs)
        traced = call.problem.traced(units=self._rule.derivatives != "everywhere")
        dynamics = assembled(self._rule, traced.network, traced.before, traced.rest)
        return dynamics, traced, call

    def _nudge(self, dynamics: Dynamics, state: State, nudge: Any) -> Any:
        """The nudge at the time of a state."""
        kind = state.forward.loss.dtype
        if nudge is not None:
            return jnp.asarray(nudge, kind)
        phases = self._rule.phases(dynamics.network.depth)
        nudges = over_time(phases, [phase.nudge for phase in phases], kind)
        return nudges[jnp.minimum(state.moment.time, len(nudges) - 1)]

    def _changed(self, state: State, traced: Traced) -> list[Any]:
        """Of each input, whether it is another one than at the last step."""
        if state.inputs is None:
            return []
        pairs = zip(state.inputs, _all(traced), strict=True)
        return [jnp.any(jnp.asarray(a != b)).astype(jnp.float32) for a, b in pairs]

    def _named(self, state: State, entries: Sequence[Any]) -> dict[str, Any]:
        """Entries by the names of their vertices; several of one name are a list."""
        found: dict[str, list[Any]] = {}
        for name, entry in zip(state.names, entries, strict=True):
            found.setdefault(name, []).append(entry)
        return {name: own[0] if len(own) == 1 else own for name, own in found.items()}


def _all(traced: Traced) -> list[Any]:
    return [*traced.before, *traced.leaves, *traced.rest]


def dynamics(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    rule: Rule,
    vertices: str | None = None,
) -> RuleDynamics:
    """A rule on a function as pure functions of a state, in the manner of optax.

    `grad` is ``init``, a loop of ``step``, and ``read``; with these functions the loop is yours:
    early stopping, an optimiser of the values, weights that change during inference, trials that
    follow each other.

    Args:
        f: As for `value_and_grad`, and so are `argnums`, `has_aux` and `vertices`.
        argnums: Position or positions of the arguments to differentiate.
        has_aux: Whether `f` returns a pair of the scalar and any pytree.
        rule: A rule that runs step by step.
        vertices: What a vertex of the graph is.

    Returns:
        ``init(*args) -> state``, ``step(state, *args, nudge=None) -> state``,
        ``read(state, *args) -> gradient``, ``values(state)``, ``errors(state, *args)``,
        ``energy(state, *args)``. `args` are those of `f`.

    Raises:
        TypeError: if the rule does not run step by step, and as `value_and_grad` does.

    Example:
        >>> import jax.numpy as jnp, localgrad as lg
        >>> def loss(w, x): return jnp.sum(jnp.tanh(lg.vertex(x @ w, "h")) ** 2)
        >>> w, x = jnp.ones((3, 2)), jnp.ones((4, 3))
        >>> rule = lg.InferenceLearning(steps=20, rate=0.1)
        >>> dynamics = lg.dynamics(loss, rule=rule)
        >>> state = dynamics.init(w, x)
        >>> for _ in range(20):
        ...     state = dynamics.step(state, w, x)
        >>> exact = lg.grad(loss, rule=rule)(w, x)
        >>> bool(jnp.allclose(dynamics.read(state, w, x), exact, rtol=1e-5))
        True
    """
    signature = Signature.of(f, argnums, has_aux, False, False, rule, vertices)
    met = f"met {type(rule).__name__}, which does not run step by step."
    do = "pass a rule that does, e.g. rule=localgrad.InferenceLearning() or ZIL(clock=True)."
    require(rule.engine == "steps", met, do)
    return RuleDynamics(signature, rule)
