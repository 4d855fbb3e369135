"""`record`: run a rule step by step and keep what every vertex did."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from localgrad._call import Call, Signature, require
from localgrad._engine import Autonomous, Clocked, Problem, Simulation, Synchronous
from localgrad._graph import Graph, State, each, entries
from localgrad._inspect.compiled import compiled
from localgrad._inspect.graph import view
from localgrad._inspect.recording import NEVER, Recording, VertexRecording, nearest
from localgrad._inspect.spots import Spot, not_finite, root_of, spots, values_of
from localgrad._jaxpr import hoisted
from localgrad._rules import ZIL, FixedPrediction, Rule

Only = str | Sequence[str] | Callable[[str], bool] | None


def record(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    has_aux: bool = False,
    *,
    rule: Rule,
    vertices: str | None = None,
    every: int = 1,
    only: Only = None,
) -> Callable[..., Recording]:
    """A function that runs a rule on `f` and returns what every vertex did, step by step.

    Entry `k` of a vertex's errors is its error at time ``t = times[k]``: at ``t = 0`` the forward
    pass, at `t` the state after `t` steps. The whole run is one compiled program, which holds in
    memory what is recorded and one state besides; under ``jit`` and ``vmap`` it is part of theirs.

    A rule that runs on events has no time. ``ZIL()`` is recorded as ``ZIL(clock=True)``, whose
    errors and gradients are the same, on a levelled graph: an edge that would be shorter than the
    longest path gets relays, recorded as ``name.relays``.

    Args:
        f: As for `value_and_grad`, and so are `argnums`, `has_aux` and `vertices`.
        argnums: Position or positions of the arguments to differentiate.
        has_aux: Whether `f` returns a pair of the scalar and any pytree.
        rule: The rule to watch; one that runs step by step.
        vertices: What a vertex of the graph is.
        every: Record every so many steps. The states before the first step and after the last are
            recorded in any case.
        only: The vertices to record: a name as `localgrad.graph` gives it, a pattern (``"h*"``), a
            list of these, or a predicate of names. Energies are those of all vertices. None: all;
            an empty list: none, the energy alone.

    Returns:
        A function of the arguments of `f` that returns a `Recording`.

    Raises:
        TypeError: as `value_and_grad` does, and if the rule has no dynamics.
        ValueError: as `value_and_grad` does, and for a name that no vertex has.

    Example:
        The wave of errors passes a vertex of level `l` at time `l`, with Z-IL:

        >>> import jax.numpy as jnp, localgrad as lg
        >>> def loss(w, x):
        ...     for k in range(3):
        ...         x = lg.vertex(jnp.tanh(x @ w), f"h{k}")
        ...     return 0.5 * jnp.sum(x**2)
        >>> recording = lg.record(loss, rule=lg.ZIL())(jnp.eye(2), jnp.ones(2))
        >>> recording.names
        ('h0', 'h1', 'h2', 'loss')
        >>> recording["h2"].levels, recording["h2"].plastic.tolist()
        ((1,), [False, True, False, False])
        >>> [(recording[name].energy > 0).tolist() for name in ("h2", "h1")]
        [[False, True, True, True], [False, False, True, True]]
    """
    signature = Signature.of(f, argnums, has_aux, False, False, rule, vertices)
    is_count = isinstance(every, int) and every >= 1
    require(is_count, f"met every={every!r}.", "pass an integer of at least 1.", kind=ValueError)
    stepwise = replace(rule, clock=True) if isinstance(rule, ZIL) else rule
    met = f"met {type(rule).__name__}, which has no dynamics: it does not run step by step."
    do = "record a rule that does, e.g. rule=localgrad.InferenceLearning() or localgrad.ZIL()."
    require(isinstance(stepwise.engine, Synchronous), met, do)

    def record_f(*args: Any, **kwargs: Any) -> Recording:
        calls: list[Call] = []

        def run(call: Call) -> tuple[Recording, list[Any], Sequence[Any]]:
            calls.append(call)
            return _Film(stepwise, call, every, only).shot()

        recording, aux, gradients = compiled(signature, args, kwargs, run)
        call = calls[-1]
        return replace(recording, aux=call.auxiliary(aux), gradients=call.gradient(gradients))

    return record_f


class _Frame(NamedTuple):
    """What is seen at one time."""

    vertices: list[tuple[Any, Any, Any, Any]]
    """Of each that is recorded: value, error, energy, part delivered."""
    loss: Any
    energy: Any
    broken: Any


class _Film:
    """A simulation in front of a camera."""

    def __init__(self, rule: Any, call: Call, every: int, only: Only) -> None:
        self._simulation: Simulation = rule.engine.simulation(rule, call.problem)
        self._every = every
        graph = call.problem.graph()
        self._view = view(graph, call.names)
        self._all, self._root = spots(self._simulation, graph), root_of(graph)
        self._watched = (*(spot.name for spot in self._all), self._root)
        self._chosen = _chosen(only, self._watched)
        self._recorded = [spot for spot in self._all if spot.name in self._chosen]
        # Rules that tell by themselves when a synapse learns. With the others all do at the end.
        self._tells = isinstance(self._simulation, Clocked | Autonomous)
        self._exact = {} if self._tells else _exact(call.problem, graph, self._simulation.seed)

    def shot(self) -> tuple[Recording, list[Any], Sequence[Any]]:
        """The recording, still without auxiliary output and gradients, and these two."""
        simulation = self._simulation
        state, (frames, times, plastic) = self._run()
        if not self._tells:
            plastic = [flags.at[-1].set(True) for flags in plastic]
        seen = [(spot.name, spot.levels(simulation), spot.copies) for spot in self._recorded]
        if self._root in self._chosen:
            seen.append((self._root, (0,), ()))
        vertices = tuple(
            VertexRecording(*frame[:3], flags, frame[3], *what)
            for frame, flags, what in zip(frames.vertices, plastic, seen, strict=True)
        )
        first = jnp.where(
            jnp.any(frames.broken, 0), times[jnp.argmax(frames.broken, 0)], jnp.int32(NEVER)
        )
        recording = Recording(
            times=times,
            loss=frames.loss,
            energy=frames.energy,
            gradients=None,
            value=simulation.loss,
            aux=None,
            vertices=vertices,
            first_not_finite=first,
            rule=simulation.rule.name,
            names=tuple(name for name, _, _ in seen),
            graph=self._view,
            _watched=self._watched,
        )
        return recording, simulation.aux, simulation.gradients(state)

    def _run(self) -> tuple[Any, tuple[_Frame, Any, list[Any]]]:
        """The last state; and at each time what is seen, and what was plastic since the one before.

        A loop over the times, in each a loop over the steps up to the next.
        """
        simulation, start = self._simulation, self._simulation.begin()
        outside, tolerance = simulation.outside, simulation.rule.tolerance
        first = jax.tree.map(lambda x: x[0], outside)
        step = hoisted(lambda now: simulation.step(*now), (start, first))
        see = hoisted(self._seen, start)
        distance = hoisted(simulation.residual, start) if tolerance else None

        def one(now: Any) -> Any:
            state, time, plastic = now
            state = step((state, jax.tree.map(lambda x: x[time], outside)))
            plastic = [a | b for a, b in zip(plastic, self._plastic(state), strict=True)]
            return state, time + 1, plastic

        def until_next(now: Any, next_time: Any) -> tuple[Any, Any]:
            def continues(now: Any) -> Any:
                is_early = now[1] < next_time
                return is_early & (distance(now[0]) > tolerance) if distance else is_early

            state, time, plastic = now
            silent = [jnp.zeros_like(flags) for flags in plastic]
            after = lax.while_loop(continues, one, (state, time, silent))
            return after, (see(state), time, plastic)

        steps = simulation.steps
        ends = [*range(self._every, steps, self._every), steps, steps] if steps else [0]
        now = start, jnp.int32(0), self._plastic(start)
        (state, _, _), frames = lax.scan(until_next, now, jnp.array(ends, jnp.int32))
        return state, frames

    def _seen(self, state: Any) -> _Frame:
        simulation = self._simulation
        values, errors = values_of(simulation, state), simulation.signals(state).errors
        loss, pull = _root(simulation, state, values)
        # Without the loss as long as it does not pull: it may be infinite.
        nudged = jnp.where(pull != 0, pull * loss, 0)
        vertices = [self._vertex(spot, values, errors) for spot in self._recorded]
        if self._root in self._chosen:
            vertices.append((loss, pull, nudged, None))
        energy = sum((_energy(error, 0) for error in entries(errors)), nudged)
        is_root_broken = ~jnp.isfinite(loss) & jnp.isfinite(simulation.loss)
        broken = jnp.append(not_finite(simulation, self._all, state, errors), is_root_broken)
        return _Frame(vertices, nudged, energy, broken)

    def _vertex(self, spot: Spot, values: State, errors: State) -> tuple[Any, Any, Any, Any]:
        value, error, axes = spot.read(values), spot.read(errors), len(spot.copies)
        delivered = None
        if spot.name in self._exact:
            exact = self._exact[spot.name]
            delivered = _dot(error, exact, axes) / _dot(exact, exact, axes)
        return value, error, _energy(error, axes), delivered

    def _plastic(self, state: Any) -> list[Any]:
        """Of the recorded vertices, whether their synapses learn now."""
        simulation = self._simulation
        found = simulation.plastic(state)
        plastic = [jnp.asarray(spot.read(found)) for spot in self._recorded]
        if self._root in self._chosen:
            plastic.append(_is_root_plastic(simulation, state))
        return plastic


def _root(simulation: Simulation, state: Any, values: State) -> tuple[Any, Any]:
    """The loss that follows from the values, and the error of the root: how strongly it pulls."""
    _, loss = simulation.network.predict(simulation.messages, values, simulation.looped)
    if isinstance(simulation, Autonomous):
        return loss, state.root.error
    return loss, simulation.seed


def _is_root_plastic(simulation: Simulation, state: Any) -> Any:
    if isinstance(simulation, Autonomous):
        return jnp.any(state.root.phi)
    return state.time == 0 if isinstance(simulation, Clocked) else jnp.array(False)


def _exact(problem: Problem, graph: Graph, seed: Any) -> dict[str, Any]:
    """The error that backpropagation sends to each vertex: the derivative of the uncut network."""
    simulation = Simulation(FixedPrediction(), problem)
    network, inputs = simulation.network, simulation.messages
    silent = each(jnp.zeros_like, simulation.stored)
    _, pull = jax.vjp(lambda added: network.tapped(inputs, added, lax.add), silent)
    (errors,) = pull(seed)
    return {spot.name: spot.read(errors) for spot in spots(simulation, graph)}


def _energy(error: Any, axes: int) -> Any:
    """``1/2 sum |e|^2``, for each copy."""
    return 0.5 * _dot(error, error, axes)


def _dot(a: Any, b: Any, axes: int) -> Any:
    """The real part of ``<a, b>`` over all axes but the first ones, in float32 at least."""
    kind = jnp.promote_types(a.dtype, jnp.float32)
    product = jnp.real(jnp.conj(a.astype(kind)) * b.astype(kind))
    return jnp.sum(product, axis=tuple(range(axes, product.ndim)))


def _chosen(only: Only, names: Sequence[str]) -> set[str]:
    """The names that are meant."""
    if only is None:
        return set(names)
    if callable(only):
        return {name for name in names if only(name)}
    chosen = set[str]()
    for pattern in [only] if isinstance(only, str) else only:
        matching = {n for n in names if n == pattern or fnmatchcase(n, pattern)}
        met = f"met only={pattern!r}, which no vertex is called."
        require(bool(matching), met, nearest(pattern, names), kind=ValueError)
        chosen |= matching
    return chosen
