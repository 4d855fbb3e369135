"""The programs of a rule on a problem, in which everything that can be read carries a label."""

import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from localgrad._call import Signature
from localgrad._engine import Problem, Simulation
from localgrad._graph import Levelled, Network, State, Step
from localgrad._graph.levelled import chain_of
from localgrad._graph.state import Meet, is_answering, key_of
from localgrad._inspect.followed import (
    PREFIX,
    SEED,
    Followed,
    Found,
    Label,
    Labels,
    Path,
    called,
    integers,
)
from localgrad._inspect.graph import label_of, view
from localgrad._jaxpr import (
    Equation,
    Program,
    flatten,
    is_elementwise,
    is_loop,
    is_wiring,
    loop_layout,
    opened_inside,
)
from localgrad._jaxpr.dependence import is_while
from localgrad._rules import Rule, learning_rule

LONGEST = 3000
"""Loops are unrolled for an audit up to this number of equations."""


def labelled(
    rule: Rule,
    simulation: type[Simulation],
    signature: Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Found:
    """Trace every program of a simulation once, and follow the labels through it."""
    found, labels = Found(), Labels()
    listening: Any = _listening(type(rule))
    heard = listening(**{f.name: getattr(rule, f.name) for f in fields(rule) if f.init})
    paths, tree = jax.tree.flatten_with_path((args, kwargs))
    is_array = [isinstance(leaf, jax.Array) for _, leaf in paths]
    owners: dict[str, list[Label]] = {}

    def run(arrays: list[Any]) -> list[Any]:
        supply = iter(arrays)
        mixed = [
            labels.named(next(supply), Label("data", _name(path))) if a else leaf
            for a, (path, leaf) in zip(is_array, paths, strict=True)
        ]
        call = signature.bind(*jax.tree.unflatten(tree, mixed))
        found.parameters = list(call.names)
        given = view(replace(call.problem, twins=()).graph(), call.names)
        opaque = (v for v in given.vertices if v.inside == "opaque")
        found.opaque = tuple(f"{v.name} ({v.source})" for v in opaque)
        problem, found.has_loops, found.is_unrolled = _unrolled(
            _known(call.problem, call.names, labels)
        )
        plain = simulation(heard, problem)
        places = _places(plain.network)
        found.root = places.pop(())
        found.vertices = list(dict.fromkeys(places.values()))

        known: Any = copy(plain)
        for name, value in (vars(plain) | {"levels": plain.levels}).items():
            if name == "stored":
                known.stored = labels.all_of(value, "stored", places)
            elif _is_static(value, plain.stored):
                setattr(known, name, labels.all_of(value, "level", places))
        known.seed = labels.named(called(plain.seed, "error", SEED), Label("state", found.root))
        known.network = _heard(plain.network)

        state = plain.begin()
        whose = jax.tree_util.tree_map_with_path(lambda path, _: _owner(path, places, found), state)
        now = jax.tree.map(
            # Whatever the loss holds may be its error.
            lambda x, owner: labels.named(
                called(x, "error", SEED) if owner.owner == found.root else x, owner
            ),
            state,
            whose,
        )
        values = labels.all_of(plain.stored, "state", places)
        predictions, root = known.network.predict(known.messages, values, known.looped)
        outside = labels.named(jax.tree.map(lambda x: x[0], plain.outside), Label("outside", ""))
        results = {
            "predictions": (predictions, labels.owners(predictions, places)),
            "root": (root, Label("state", found.root)),
            "begin": (known.begin(), whose),
            "step": (known.step(now, outside), whose),
            "gradients": (
                list(known.gradients(now)),
                [Label("parameter", name) for name in call.names],
            ),
        }
        found.loops = _loops(flatten(jax.make_jaxpr(plain.run)(state)))
        arrays_out = []
        for name, (tree_of_arrays, tree_of_owners) in results.items():
            owners[name] = jax.tree.leaves(tree_of_owners, is_leaf=_is_label)
            arrays_out.append(jax.tree.leaves(tree_of_arrays))
        return arrays_out

    arrays = [leaf for a, (_, leaf) in zip(is_array, paths, strict=True) if a]
    Followed(flatten(jax.make_jaxpr(run)(arrays)), labels, owners).tell(found)
    return found


# What is labelled.


def _known(problem: Problem, names: Sequence[str], labels: Labels) -> Problem:
    """The problem with labels on its leaves and on their feedback weights."""
    pairs = zip(problem.leaves, names, strict=True)
    leaves = [labels.named(leaf, Label("parameter", name)) for leaf, name in pairs]
    twins = [
        None if twin is None else labels.named(twin, Label("twin", name))
        for twin, name in zip(problem.twins, names, strict=False)
    ]
    return replace(problem, leaves=leaves, twins=twins)


class Unrolled(Problem):
    """A problem of which a simulation finds no loops."""

    def program(self, **rewriting: bool) -> Program:
        return super().program(**rewriting | {"opened": True, "unrolled": True})


def _unrolled(problem: Problem) -> tuple[Problem, bool, bool]:
    """The problem without loops, unless it is too long; whether it had any, and whether none."""
    program = replace(problem, twins=()).program()
    has_loops = _has_loop(program)
    if not has_loops or _size(program) > LONGEST:
        return problem, has_loops, not has_loops
    return Unrolled(**{f.name: getattr(problem, f.name) for f in fields(problem)}), True, True


def _has_loop(program: Program) -> bool:
    return any(
        is_loop(equation.eqn)
        or any(_has_loop(flatten(jaxpr)) for jaxpr in opened_inside(equation.eqn))
        for equation in program.equations
    )


def _size(program: Program) -> int:
    """The number of equations once every loop is unrolled."""
    return sum(map(_weight, program.equations))


def _weight(equation: Equation) -> int:
    inside = sum(_size(flatten(jaxpr)) for jaxpr in opened_inside(equation.eqn))
    return inside * loop_layout(equation.eqn).length if is_loop(equation.eqn) else inside or 1


def _places(network: Network) -> dict[Path, str]:
    """The names of all vertices by their places in a state; that of the root at the empty path.

    As in `graph`: a mark's name, or the operation, and a number from the second one on.
    """
    count: Counter[str] = Counter()
    places: dict[Path, str] = {}

    def name_of(step: Step) -> str:
        base = label_of(step)
        count[base] += 1
        return f"{base}.{count[base]}" if count[base] > 1 else base

    def visit(network: Network, path: Path) -> None:
        for step in network.graph.steps:
            if step in network.scans:
                visit(network.scans[step].network, (*path, key_of(step)))
            elif step.is_root:
                places[()] = name_of(step)
            elif is_answering(step):
                name = name_of(step)
                for slot in step.wanted:
                    places[(*path, slot)] = name
                    places[(*path, chain_of(slot))] = f"{name}.relays"

    visit(network, ())
    places.setdefault((), "loss")
    # Chains of relays stand where the network has them.
    standing = network.levels() if isinstance(network, Levelled) else {}
    return {
        path: name
        for path, name in places.items()
        if not path or path[-1] >= 0 or path[-1] in standing
    }


def _owner(path: Any, places: dict[Path, str], found: Found) -> Label:
    """Whom a number of the state belongs to: a vertex, the root, a synapse, or none of them."""
    field_name, part = getattr(path[0], "name", "") if path else "", jax.tree_util.keystr(path)
    if integers(path) in places:
        return Label("state", places[integers(path)], part)
    if field_name == "root":
        return Label("state", found.root, part)
    if field_name == "learned":
        return Label("synapse", found.parameters[path[1].idx], part)
    return Label("global", part.lstrip("."), part)


def _is_static(value: Any, stored: Any) -> bool:
    """Whether it holds a number for every vertex that was known before the program: its level."""
    is_state = isinstance(value, dict) and value.keys() == stored.keys()
    leaves = jax.tree.leaves(value) if is_state else []
    return bool(leaves) and all(isinstance(leaf, np.ndarray | np.generic) for leaf in leaves)


def _is_label(x: Any) -> bool:
    return isinstance(x, Label)


def _name(path: Any) -> str:
    """How a user would write an array among the arguments."""
    first, *rest = path
    return f"{'kwargs' if first.idx else 'args'}{jax.tree_util.keystr(tuple(rest))}"


@functools.cache  # JAX keeps pytree classes for ever, too.
def _listening(cls: type[Rule]) -> Any:
    """A subclass of a rule that names the errors it sends and the feedback it gets.

    Names change no number. Each call of a method has a number of its own.
    """
    rule: Any = cls
    calls = itertools.count()

    def sending(method: str) -> Callable[..., Any]:
        def call(self: Any, state: Any, *args: Any) -> Any:
            number, run = next(calls), functools.partial(getattr(rule, method), self)
            answer = run(called(state, "owner", number), *args)
            mixes = _mixes(run, args[0].shape, state, *args)
            return called(_told(answer, method, mixes), "error", number)

        return call

    def holding(method: str) -> Callable[..., Any]:
        def call(self: Any, state: Any, stored: Any) -> Any:
            run = functools.partial(getattr(rule, method), self)
            return _told(run(state, stored), method, _mixes(run, stored.shape, state, stored))

        return call

    def update(
        self: Any, state: Any, prediction: Any, error: Any, feedback: Any, *more: Any
    ) -> Any:
        number, run = next(calls), functools.partial(rule.update, self)
        mixes = _mixes(run, feedback.shape, state, prediction, error, feedback, *more)
        state, feedback = called(state, "owner", number), called(feedback, "feedback", number)
        new = run(state, prediction, error, feedback, *more)
        return called(_told(new, "update", mixes), "error", number)

    methods = {name: sending(name) for name in ("error", "plasticity") if hasattr(rule, name)}
    methods |= {name: holding(name) for name in ("value", "learned") if hasattr(rule, name)}
    described = {"__doc__": cls.__doc__, "__module__": cls.__module__, "update": update}
    return learning_rule(type(cls.__name__, (cls,), methods | described))


def _told(answer: Any, method: str, mixes: bool) -> Any:
    return called(answer, "mixing", method) if mixes else answer


def _mixes(method: Callable[..., Any], shape: tuple[int, ...], *args: Any) -> bool:
    """Whether units of a vertex, of which values have this shape, see each other in a method."""

    def stretched(x: Any) -> Any:
        """A flag for each copy as one for each unit: equations broadcast axes of size 1."""
        fits = len(x.shape) == len(shape) and all(
            a in (1, b) for a, b in zip(x.shape, shape, strict=True)
        )
        return jnp.broadcast_to(x, shape) if fits else x

    program = flatten(jax.make_jaxpr(method)(*jax.tree.map(stretched, args)))
    units = {slot for slot in program.inputs if program.avals[slot].shape == shape}
    for equation in program.equations:
        flags = [isinstance(o, int) and o in units for o in equation.operands]
        if shape and any(flags):
            if not is_elementwise(equation.eqn, equation.home, flags):
                return True
            units.update(equation.outputs)
    return False


def _heard(network: Network) -> Network:
    """A network that names the value of every vertex that an error is sent through in a sweep.

    There values are not cut: they are computed in the step.
    """
    calls = itertools.count(SEED - 1, -1)  # apart from those of the rule

    def tapped(inputs: Sequence[Any], given: State, tap: Meet) -> Any:
        def meet(prediction: Any, held: Any) -> Any:
            number = next(calls)
            return tap(called(prediction, "value", number), called(held, "owner", number))

        return network.tapped(inputs, given, meet)

    heard: Any = copy(network)
    heard.tapped = tapped
    return heard


def _loops(run: Program) -> int:
    """How many different programs run on a state: loops, and what stands outside of loops."""
    moving, bodies, is_more = set(run.inputs), set[str](), False
    for equation in run.equations:
        if moving.isdisjoint(equation.slots):
            continue
        moving.update(equation.outputs)
        if is_loop(equation.eqn) or is_while(equation.eqn):
            bodies.add(re.sub(rf"{PREFIX}\w+/\d+", "", str(equation.eqn.params)))
        elif not is_wiring(equation.eqn):
            is_more = True
    return len(bodies) + is_more
