"""One equation as a function, and its pull: how errors at its outputs become messages.

The pull of an equation depends on nothing but the equation, so equal equations share one, made
once by `jax.vjp` and replayed afterwards without any automatic differentiation. The cache lives
as long as one trace: no setting of JAX can change under it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax.extend.core import Literal

from localgrad._jaxpr.program import Equation, literal


class Source(NamedTuple):
    """Where a residual comes from: an "operand", an "output", or the equation's "own" extra."""

    kind: str
    place: int


@dataclass(frozen=True, slots=True, eq=False)
class Pull:
    """The forward pass of one equation with its residuals, and the pull that reads them.

    `residuals` says where each residual that the pull reads comes from, `own` are the types of
    those that the forward pass must compute beside the outputs. `depends[k]` holds the wanted
    outputs whose error can reach the k-th active operand at all: empty where the derivative is
    zero by construction (`stop_gradient`, `floor`, comparisons).
    """

    forward_program: tuple[Any, Sequence[Any]]
    pull_program: tuple[Any, Sequence[Any]]
    outputs: int
    residuals: tuple[Source, ...]
    own: tuple[Any, ...]
    kept: tuple[int, ...]
    depends: tuple[frozenset[int], ...]

    def forward(self, operands: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Values of the distinct operands -> outputs, own residuals."""
        results = _replay(self.forward_program, operands)
        return results[: self.outputs], [results[i] for i in self.kept]

    def pull(self, residuals: Sequence[Any], errors: Sequence[Any]) -> list[Any]:
        """Residuals and errors of the wanted outputs -> one message per active operand."""
        return _replay(self.pull_program, (*residuals, *errors))


class Pulls:
    """The pulls of one trace, shared by equal equations."""

    def __init__(self) -> None:
        self._single: dict[Any, Any] = {}
        self._pulls: dict[Any, Pull] = {}

    def run(self, equation: Equation, values: dict[int, Any]) -> list[Any]:
        """The equation's outputs, without any residual."""
        _, single = self._function(equation)
        return jax.core.eval_jaxpr(
            single, (), *(values[s] for s in equation.slots), propagate_source_info=False
        )

    def of(self, equation: Equation, active: tuple[bool, ...], wanted: tuple[bool, ...]) -> Pull:
        """The pull from the `wanted` outputs to the `active` ones of the distinct operands.

        Raises whatever `jax.vjp` raises where the equation cannot be differentiated in reverse.
        """
        key, single = self._function(equation)
        key = (key, active, wanted)
        if key not in self._pulls:
            self._pulls[key] = _differentiate(single, active, wanted)
        return self._pulls[key]

    def _function(self, equation: Equation) -> tuple[Any, Any]:
        """The equation as a jaxpr of its own, and the key that it is shared by."""
        key = _key(equation)
        if key not in self._single:
            self._single[key] = _single(equation)
        return key, self._single[key]


def _key(equation: Equation) -> Any:
    """Equal for equations that compute the same function of the same types.

    Types are JAX's own (`jax.typeof`: shape, dtype, weak type, sharding, varying axes). A literal
    counts by its bits: 0.0 and -0.0 differ. Parameters that cannot be hashed are never shared.
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


def _single(equation: Equation) -> Any:
    """A jaxpr with this one equation, from its distinct operands to its outputs."""
    eqn = equation.eqn
    var_of: dict[int, Any] = {}
    invars = [
        var_of.setdefault(o, var) if isinstance(o, int) else o
        for o, var in zip(equation.operands, eqn.invars, strict=True)
    ]
    return equation.home.replace(
        constvars=[],
        invars=list(var_of.values()),
        outvars=list(eqn.outvars),
        eqns=[eqn.replace(invars=invars)],
        effects=eqn.effects,
    )


def _differentiate(single: Any, active: tuple[bool, ...], wanted: tuple[bool, ...]) -> Pull:
    """Trace the equation's vjp once: its forward pass, and its pull on the residuals."""
    structure: list[Any] = []

    def forward(*operands: Any) -> tuple[list[Any], list[Any]]:
        def run(*moving: Any) -> tuple[list[Any], list[Any]]:
            supply = iter(moving)
            full = [next(supply) if a else o for a, o in zip(active, operands, strict=True)]
            outputs = jax.core.eval_jaxpr(single, (), *full)
            return _select(outputs, wanted, True), _select(outputs, wanted, False)

        moved, pull, still = jax.vjp(run, *_select(operands, active, True), has_aux=True)
        residuals, tree = jax.tree.flatten(pull)
        structure.append(tree)
        supply = {True: iter(moved), False: iter(still)}
        return [next(supply[w]) for w in wanted], residuals

    def backward(residuals: list[Any], errors: list[Any]) -> Any:
        return jax.tree.unflatten(structure[0], residuals)(errors)

    outputs = len(wanted)
    forth = jax.make_jaxpr(forward)(*(v.aval for v in single.invars))
    types = list(forth.out_avals)
    back = jax.make_jaxpr(backward)(types[outputs:], _select(types[:outputs], wanted, True))

    count = len(types) - outputs
    used = {v for e in back.jaxpr.eqns for v in e.invars if not isinstance(v, Literal)}
    used |= {v for v in back.jaxpr.outvars if not isinstance(v, Literal)}
    read = [k for k in range(count) if back.jaxpr.invars[k] in used]
    origin = _origins(forth.jaxpr, outputs)
    own: dict[Any, int] = {}  # a residual variable -> its place among the own ones
    sources: list[Source] = []
    kept: list[int] = []
    for k in read:
        atom = forth.jaxpr.outvars[outputs + k]
        known = None if isinstance(atom, Literal) else origin.get(atom)
        if known is None:
            identity = id(atom) if isinstance(atom, Literal) else atom
            if identity not in own:
                own[identity] = len(kept)
                kept.append(outputs + k)
            known = Source("own", own[identity])
        sources.append(known)
    errors = back.jaxpr.invars[count:]
    slim = back.jaxpr.replace(invars=[back.jaxpr.invars[k] for k in read] + list(errors))
    return Pull(
        (forth.jaxpr, forth.consts),
        (slim, back.consts),
        outputs,
        tuple(sources),
        tuple(types[k] for k in kept),
        tuple(kept),
        _dependence(slim, errors),
    )


def _origins(jaxpr: Any, outputs: int) -> dict[Any, Source]:
    """Variables of a forward pass that are operands or outputs, and which."""
    found = {
        var: Source("output", k)
        for k, var in enumerate(jaxpr.outvars[:outputs])
        if not isinstance(var, Literal)
    }
    return found | {var: Source("operand", k) for k, var in enumerate(jaxpr.invars)}


def _dependence(jaxpr: Any, errors: Sequence[Any]) -> tuple[frozenset[int], ...]:
    """For each result, the positions of the errors that it depends on.

    A pull is linear in the errors, so a result that depends on none of them is exactly zero.
    """
    reach: dict[Any, frozenset[int]] = {v: frozenset([k]) for k, v in enumerate(errors)}

    def of(atoms: Sequence[Any]) -> frozenset[int]:
        return frozenset().union(
            *(reach.get(a, frozenset()) for a in atoms if not isinstance(a, Literal))
        )

    for eqn in jaxpr.eqns:
        through = of(eqn.invars)
        reach.update((var, through) for var in eqn.outvars)
    return tuple(of([atom]) for atom in jaxpr.outvars)


def _select(items: Sequence[Any], flags: Sequence[bool], flag: bool) -> list[Any]:
    return [item for item, f in zip(items, flags, strict=True) if f is flag]


def _replay(program: tuple[Any, Sequence[Any]], args: Sequence[Any]) -> list[Any]:
    jaxpr, consts = program
    return jax.core.eval_jaxpr(jaxpr, consts, *args, propagate_source_info=False)
