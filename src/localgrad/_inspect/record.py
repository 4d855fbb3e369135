"""`record`: run a rule step by step and keep what every vertex did."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from localgrad._call import Call, Signature, require
from localgrad._engine import Moment, Signals, Traced, assembled, over_time, settings, trial
from localgrad._inspect.compiled import compiled
from localgrad._inspect.graph import view
from localgrad._inspect.recording import NEVER, Recording, VertexRecording, nearest
from localgrad._inspect.spots import Spot, Spots
from localgrad._inspect.wiring import Wiring
from localgrad._jaxpr import hoisted
from localgrad._protocol import Rule
from localgrad._rules import ZIL

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
    require(stepwise.engine == "steps", met, do)

    def record_f(*args: Any, **kwargs: Any) -> Recording:
        calls: list[Call] = []

        def run(call: Call) -> tuple[Recording, list[Any], Sequence[Any]]:
            calls.append(call)
            traced = call.problem.traced(units=stepwise.derivatives != "everywhere")
            with settings(traced.network):
                return _Film(stepwise, traced, call.names, every, only).shot()

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
    """The dynamics of a rule in front of a camera."""

    def __init__(
        self, rule: Rule, traced: Traced, names: Sequence[str], every: int, only: Only
    ) -> None:
        self._rule, self._every, self._leaves = rule, every, traced.leaves
        self._dynamics = assembled(rule, traced.network, traced.before, traced.rest)
        self._forward = self._dynamics.forward(traced.leaves)
        self._view = view(traced.network, len(traced.before), names)
        self._spots = Spots(self._dynamics, traced.network)
        self._root = self._view.vertices[-1].name
        self._watched = (*(spot.name for spot in self._spots.all), self._root)
        self._chosen = _chosen(only, self._watched)
        self._recorded = [spot for spot in self._spots.all if spot.name in self._chosen]
        phases = rule.phases(self._dynamics.network.depth)
        kind = self._forward.loss.dtype
        self._nudges = over_time(phases, [phase.nudge for phase in phases], kind)
        self._steps = len(self._nudges) - 1
        # Rules that tell by themselves when a synapse learns. With the others all do at the end.
        self._exact = {} if rule.tells else self._sent(self._nudges[-1])

    def shot(self) -> tuple[Recording, list[Any], Sequence[Any]]:
        """The recording, still without auxiliary output and gradients, and these two."""
        _, gradients, _ = trial(self._dynamics, self._leaves, self._forward)
        frames, times, plastic = self._run()
        if not self._rule.tells:
            plastic = [flags.at[-1].set(True) for flags in plastic]
        seen = [(spot.name, self._spots.levels(spot), spot.copies) for spot in self._recorded]
        if self._root in self._chosen:
            seen.append((self._root, (0,), ()))
        vertices = tuple(
            VertexRecording(*frame[:3], flags, frame[3], *what)
            for frame, flags, what in zip(frames.vertices, plastic, seen, strict=True)
        )
        first = jnp.where(
            jnp.any(frames.broken, 0),
            times[lax.argmax(frames.broken, 0, jnp.int32)],
            jnp.int32(NEVER),
        )
        recording = Recording(
            times=times,
            loss=frames.loss,
            energy=frames.energy,
            gradients=None,
            value=self._forward.loss,
            aux=None,
            vertices=vertices,
            first_not_finite=first,
            rule=self._rule.name,
            names=tuple(name for name, _, _ in seen),
            graph=self._view,
            _watched=self._watched,
            _wiring=Wiring(self._dynamics.network),
        )
        return recording, self._forward.aux, gradients

    def _run(self) -> tuple[_Frame, Any, list[Any]]:
        """At each time what is seen, and what was plastic since the one before.

        A loop over the times, in each a loop over the steps up to the next.
        """
        dynamics, tolerance = self._dynamics, self._rule.tolerance
        start = dynamics.begin(self._forward)

        def onward(now: Moment) -> Moment:
            return dynamics.step(self._leaves, self._forward, now, self._nudge(now))

        step = hoisted(onward, start)
        see = hoisted(self._seen, start)
        distance = hoisted(lambda now: dynamics.residual(self._signals(now)), start)

        def one(at: Any) -> Any:
            now, plastic = at
            now = step(now)
            return now, [a | b for a, b in zip(plastic, self._plastic(now), strict=True)]

        def until_next(at: Any, next_time: Any) -> tuple[Any, Any]:
            def continues(at: Any) -> Any:
                is_early = at[0].time < next_time
                return is_early & (distance(at[0]) > tolerance) if tolerance else is_early

            now, plastic = at
            silent = [jnp.zeros_like(flags) for flags in plastic]
            after = lax.while_loop(continues, one, (now, silent))
            return after, (see(after[0]), after[0].time, after[1])

        steps = self._steps
        ends = [*range(self._every, steps, self._every), steps, steps] if steps else [0]
        begin = start, self._plastic(start)
        first = see(start), start.time, begin[1]
        if steps:
            _, later = lax.scan(until_next, begin, jnp.array(ends[:-1], jnp.int32))
            return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, later)
        return jax.tree.map(lambda a: a[None], first)

    def _nudge(self, now: Moment) -> Any:
        """How strongly the loss pulls now."""
        return self._nudges[jnp.minimum(now.time, self._steps)]

    def _signals(self, now: Moment) -> Signals:
        return self._dynamics.signals(self._leaves, self._forward, now, self._nudge(now))

    def _seen(self, now: Moment) -> _Frame:
        dynamics, forward = self._dynamics, self._forward
        values = dynamics.each(self._rule.value, now.neurons, forward.stored)
        errors, pull = self._signals(now).errors, self._nudge(now)
        loss = dynamics.loss(self._leaves, forward, now)
        # Without the loss as long as it does not pull: it may be infinite.
        nudged = jnp.where(pull != 0, pull * loss, 0)
        held, sent = self._spots.entries(values), self._spots.entries(errors)
        vertices = [self._vertex(spot, held, sent) for spot in self._recorded]
        if self._root in self._chosen:
            vertices.append((loss, pull, nudged, None))
        energy = sum((_energy(error, 0) for error in sent), nudged)
        is_root_broken = ~jnp.isfinite(loss) & jnp.isfinite(forward.loss)
        broken = jnp.append(self._spots.not_finite(forward, now, errors), is_root_broken)
        return _Frame(vertices, nudged, energy, broken)

    def _vertex(self, spot: Spot, values: Any, errors: Any) -> tuple[Any, Any, Any, Any]:
        value, error, axes = spot.read(values), spot.read(errors), len(spot.copies)
        delivered = None
        if spot.name in self._exact:
            exact = self._exact[spot.name]
            delivered = _dot(error, exact, axes) / _dot(exact, exact, axes)
        return value, error, _energy(error, axes), delivered

    def _plastic(self, now: Moment) -> list[Any]:
        """Of the recorded vertices, whether their synapses learn now."""
        if not self._rule.tells:
            flags = [jnp.zeros(spot.copies, bool) for spot in self._recorded]
            return [*flags, jnp.array(False)] if self._root in self._chosen else flags
        found, root = self._dynamics.plastic(self._forward, now, self._nudge(now))
        entries = self._spots.entries(found)
        flags = [jnp.asarray(spot.read(entries)) for spot in self._recorded]
        return [*flags, jnp.asarray(root)] if self._root in self._chosen else flags

    def _sent(self, nudge: Any) -> dict[str, Any]:
        """The error that backpropagation sends to each vertex: the derivative of what flows."""
        dynamics, forward = self._dynamics, self._forward
        entries = self._spots.entries(dynamics.sent(self._leaves, forward, nudge))
        return {spot.name: spot.read(entries) for spot in self._spots.all}


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
