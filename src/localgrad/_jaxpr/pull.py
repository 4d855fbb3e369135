"""One equation as a function, and its pull: how errors at its outputs become messages.

The pull of an equation depends on nothing but the equation, so equal equations share one. It is
made once, by `jax.vjp`, and replayed afterwards without any automatic differentiation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Literal

from localgrad._jaxpr.primitives import is_self_contained
from localgrad._jaxpr.program import Equation, literal

Flags = tuple[bool, ...]


class Source(NamedTuple):
    """Where a residual comes from: an "operand", an "output", or the equation's "own" extra."""

    kind: str
    place: int


@dataclass(frozen=True, slots=True, eq=False)
class Pull:
    """The forward pass of one equation with its residuals, and the pull that reads them.

    `residuals` says where each residual that the pull reads comes from; the forward pass computes
    `own` of them beside the outputs. `depends[k]` holds the wanted outputs whose error can reach
    the k-th active operand at all: none where the derivative is zero by construction
    (`stop_gradient`, `floor`, comparisons).
    """

    outputs: int
    own: int
    residuals: tuple[Source, ...]
    depends: tuple[frozenset[int], ...]
    forward_jaxpr: Any
    pull_jaxpr: Any
    consts: Sequence[Any]

    @property
    def reads(self) -> tuple[frozenset[int], ...]:
        """For each message, the distinct operands whose values it depends on."""
        forward, pull, count = self.forward_jaxpr, self.pull_jaxpr, len(self.residuals)
        made = _dependence(forward.eqns, forward.invars, forward.outvars)
        of = {
            "operand": [frozenset([k]) for k in range(len(forward.invars))],
            "output": made[: self.outputs],
            "own": made[self.outputs :],
        }
        through = _dependence(pull.eqns, pull.invars[:count], pull.outvars)
        read = [of[source.kind][source.place] for source in self.residuals]
        return tuple(frozenset().union(*(read[k] for k in message)) for message in through)

    def forward(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Values of the distinct operands -> outputs, own residuals."""
        results = _replay(self.forward_jaxpr, self.consts, *operands)
        return results[: self.outputs], results[self.outputs :]

    def pull(self, residuals: Sequence[Any], errors: Sequence[Any]) -> list[Any]:
        """Residuals and errors of the wanted outputs -> one message per active operand."""
        return _replay(self.pull_jaxpr, self.consts, *residuals, *errors)


class Pulls:
    """The pulls of one trace, shared by equal equations.

    Those of equations without code of their own are kept beyond the trace as well, by JAX's own
    cache of traces: it knows of every setting that matters and obeys `jax.clear_caches`.
    """

    def __init__(self) -> None:
        self._recipes: dict[Any, Recipe] = {}
        self._pulls: dict[Any, Pull] = {}

    def run(self, equation: Equation, values: dict[int, Any]) -> list[Any]:
        """The equation's outputs, without any residual."""
        recipe = self._recipe(equation)
        return _replay(recipe.jaxpr, (), *(values[s] for s in equation.slots))

    def of(self, equation: Equation, active: Flags, wanted: Flags) -> Pull:
        """The pull from the `wanted` outputs to the `active` ones of the distinct operands.

        Raises whatever `jax.vjp` raises where the equation cannot be differentiated in reverse.
        """
        recipe = self._recipe(equation)
        key = (recipe.key, active, wanted)
        if key not in self._pulls:
            self._pulls[key] = _differentiate(recipe, active, wanted)
        return self._pulls[key]

    def _recipe(self, equation: Equation) -> "Recipe":
        key = _key(equation)
        if key not in self._recipes:
            self._recipes[key] = Recipe(key, equation)
        return self._recipes[key]


class Recipe:
    """One equation as a jaxpr of its own, from distinct operands to its outputs.

    Recipes are equal if their equations compute the same function of the same types.
    """

    def __init__(self, key: Any, equation: Equation) -> None:
        eqn = equation.eqn
        var_of: dict[int, Any] = {}
        invars = [
            var_of.setdefault(o, var) if isinstance(o, int) else o
            for o, var in zip(equation.operands, eqn.invars, strict=True)
        ]
        self.key = key
        self.is_self_contained = key is not equation and is_self_contained(eqn)
        self.jaxpr = equation.home.replace(
            constvars=[],
            invars=list(var_of.values()),
            outvars=list(eqn.outvars),
            eqns=[eqn.replace(invars=invars)],
            effects=eqn.effects,
        )

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.key == other.key


def _key(equation: Equation) -> Any:
    """What makes two equations the same: operation, parameters, types, pattern of operands.

    Types are JAX's own (shape, dtype, weak type, sharding, varying axes). A literal counts by its
    bits: 0.0 and -0.0 differ. Parameters that cannot be hashed are never shared.
    """
    eqn = equation.eqn
    position = {slot: k for k, slot in enumerate(equation.slots)}
    pattern = tuple(
        (position[o] if isinstance(o, int) else literal(o).tobytes(), var.aval)
        for o, var in zip(equation.operands, eqn.invars, strict=True)
    )
    key = (eqn.primitive, tuple(eqn.params.items()), pattern, eqn.ctx)
    try:
        hash(key)
    except TypeError:
        return equation
    return key


def _both(
    recipe: Recipe, active: Flags, wanted: Flags, operands: list[Any], errors: list[Any]
) -> tuple[list[Any], Any]:
    """Forward pass and pull in one; the names given to the errors mark where the pull begins."""

    def run(*moving: Any) -> tuple[list[Any], list[Any]]:
        supply = iter(moving)
        full = [next(supply) if a else o for a, o in zip(active, operands, strict=True)]
        outputs = _replay(recipe.jaxpr, (), *full)
        return _select(outputs, wanted, True), _select(outputs, wanted, False)

    moved, pull, still = jax.vjp(run, *_select(operands, active, True), has_aux=True)
    supply = {True: iter(moved), False: iter(still)}
    outputs = [next(supply[w]) for w in wanted]
    return outputs, pull([checkpoint_name(error, "error") for error in errors])


_kept = jax.jit(_both, static_argnums=(0, 1, 2))


def _differentiate(recipe: Recipe, active: Flags, wanted: Flags) -> Pull:
    """Trace forward pass and pull of an equation once, and divide the trace in two."""
    operands = [var.aval for var in recipe.jaxpr.invars]
    errors = [var.aval for var in _select(recipe.jaxpr.outvars, wanted, True)]
    if recipe.is_self_contained:
        traced = _kept.trace(recipe, active, wanted, operands, errors).jaxpr
    else:
        traced = jax.make_jaxpr(partial(_both, recipe, active, wanted))(operands, errors)
    jaxpr, outputs = traced.jaxpr, len(wanted)
    given = jaxpr.invars[len(operands) :]
    begin = next(k for k, eqn in enumerate(jaxpr.eqns) if set(_vars(eqn.invars)) & set(given))
    end = begin + len(errors)
    before, after = jaxpr.eqns[:begin], jaxpr.eqns[end:]
    arrived = [eqn.outvars[0] for eqn in jaxpr.eqns[begin:end]]
    messages = jaxpr.outvars[outputs:]

    made = {*arrived, *jaxpr.constvars, *(var for eqn in after for var in eqn.outvars)}
    reads = (var for eqn in after for var in _vars(eqn.invars))
    read = [v for v in dict.fromkeys((*reads, *_vars(messages))) if v not in made]
    source: dict[Any, Source] = {}
    for k, atom in enumerate(jaxpr.outvars[:outputs]):
        if not isinstance(atom, Literal):
            source[atom] = Source("output", k)
    source |= {var: Source("operand", k) for k, var in enumerate(jaxpr.invars[: len(operands)])}
    own = [var for var in read if var not in source]
    source |= {var: Source("own", k) for k, var in enumerate(own)}
    return Pull(
        outputs=outputs,
        own=len(own),
        residuals=tuple(source[var] for var in read),
        depends=_dependence(after, arrived, messages),
        forward_jaxpr=_part(
            jaxpr, jaxpr.invars[: len(operands)], before, [*jaxpr.outvars[:outputs], *own]
        ),
        pull_jaxpr=_part(jaxpr, [*read, *arrived], after, messages),
        consts=traced.consts,
    )


def _part(jaxpr: Any, invars: Sequence[Any], eqns: Sequence[Any], outvars: Sequence[Any]) -> Any:
    effects = frozenset().union(*(eqn.effects for eqn in eqns))
    return jaxpr.replace(
        invars=list(invars), eqns=list(eqns), outvars=list(outvars), effects=effects
    )


def _dependence(
    eqns: Sequence[Any], errors: Sequence[Any], messages: Sequence[Any]
) -> tuple[frozenset[int], ...]:
    """For each message, the positions of the errors that it depends on.

    A pull is linear in the errors, so a message that depends on none of them is exactly zero. The
    same for what else is computed, and the variables it is computed from.
    """
    reach: dict[Any, frozenset[int]] = {var: frozenset([k]) for k, var in enumerate(errors)}

    def of(atoms: Sequence[Any]) -> frozenset[int]:
        return frozenset().union(*(reach.get(var, frozenset()) for var in _vars(atoms)))

    for eqn in eqns:
        through = of(eqn.invars)
        reach.update((var, through) for var in eqn.outvars)
    return tuple(of([message]) for message in messages)


def _vars(atoms: Sequence[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def _select(items: Sequence[Any], flags: Flags, flag: bool) -> list[Any]:
    return [item for item, f in zip(items, flags, strict=True) if f is flag]


def _replay(jaxpr: Any, consts: Sequence[Any], *args: Any) -> list[Any]:
    return jax.core.eval_jaxpr(jaxpr, consts, *args, propagate_source_info=False)
