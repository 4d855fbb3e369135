"""The only table of primitives: those with programs inside, and the wiring. By object, not name.

Everything else that JAX can differentiate needs no entry: one equation becomes a function, and
`jax.vjp` of that function gives its messages.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jax.extend.core import primitives as p

CALLS = frozenset({p.jit_p, p.closed_call_p, p.call_p})
"""Their bodies are part of the caller."""

DERIVED = frozenset({p.custom_jvp_call_p, p.custom_vjp_call_p})
"""Calls with a derivative of their own: never opened."""

WIRING = frozenset(
    {
        lax.bitcast_convert_type_p,
        lax.broadcast_in_dim_p,
        lax.concatenate_p,
        lax.convert_element_type_p,
        lax.copy_p,
        lax.dynamic_slice_p,
        lax.imag_p,
        lax.optimization_barrier_p,
        lax.pad_p,
        lax.real_p,
        lax.reduce_precision_p,
        lax.reshape_p,
        lax.rev_p,
        lax.sharding_constraint_p,
        lax.slice_p,
        lax.split_p,
        lax.squeeze_p,
        lax.stop_gradient_p,
        lax.transpose_p,
        p.name_p,
        # Primitives of their own since JAX 0.9, compositions of the others before.
        *(getattr(lax, name) for name in ("stack_p", "tile_p", "unstack_p") if hasattr(lax, name)),
    }
)
"""They move or cast numbers and compute nothing: no vertex of their own."""


FLAT = frozenset({lax.ceil_p, lax.floor_p, lax.round_p, lax.sign_p, lax.stop_gradient_p})
"""Steps and constants: their derivative is zero, and no error passes."""


def is_call(eqn: JaxprEqn) -> bool:
    """Whether the equation calls a program that belongs to its caller (jit and its like)."""
    return eqn.primitive in CALLS


def is_derived(eqn: JaxprEqn) -> bool:
    """Whether the equation calls a function with a derivative of its own."""
    return eqn.primitive in DERIVED


def is_loop(eqn: JaxprEqn) -> bool:
    """Whether the equation is a `scan` (also `fori_loop` with static bounds)."""
    return eqn.primitive is p.scan_p


def is_branch(eqn: JaxprEqn) -> bool:
    """Whether the equation is a `cond` or `switch` whose branches can be opened.

    The branches of `lax.platform_dependent` are chosen by the compiler: they stay closed.
    """
    return eqn.primitive is p.cond_p and not eqn.params.get("branches_platforms")


def is_while(eqn: JaxprEqn) -> bool:
    """Whether the equation is a loop of unknown length."""
    return eqn.primitive is p.while_p


def is_convolution(eqn: JaxprEqn) -> bool:
    """Whether the equation is a convolution."""
    return eqn.primitive is lax.conv_general_dilated_p


def advice(eqn: JaxprEqn, error: Exception) -> str:
    """What to do about an equation that raised an error when its derivative was taken."""
    if isinstance(error, jax.errors.UnexpectedTracerError):
        return (
            "its derivative closes over an array that was computed inside the function; pass that "
            "array as an argument of the custom_vjp or custom_jvp function (as for jax.jit)."
        )
    if eqn.primitive is p.while_p:
        return (
            "give the loop a static number of iterations (lax.scan, or lax.fori_loop with Python "
            "integers as bounds), or keep it out of the gradient with lax.stop_gradient."
        )
    return (
        "wrap it in a jax.custom_vjp (or jax.custom_jvp) with its derivative, or keep it out of "
        "the gradient with lax.stop_gradient on its inputs."
    )


def is_mark(eqn: JaxprEqn) -> bool:
    """Whether the equation is a name given by `vertex` (`checkpoint_name`)."""
    return eqn.primitive is p.name_p


def is_inexact(aval: Any) -> bool:
    """Whether values of a type, or what references of it hold, have a derivative."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def is_summed_later(aval: Any) -> bool:
    """Whether errors of a value are parts of sums over an axis of a mesh, of another type than it.

    JAX calls the value reduced there, and its errors unreduced.
    """
    spec = getattr(getattr(aval, "sharding", None), "spec", None)
    return bool(getattr(spec, "reduced", None) or getattr(spec, "unreduced", None))


def is_seen(eqn: JaxprEqn) -> bool:
    """Whether evaluating the equation can be seen from outside: a callback, a print.

    What JAX keeps a record of as well is what is done to which reference (an effect with an
    `input_index`), and over which axis of a mesh is summed (one with a `name`).
    """
    return any(not hasattr(e, "input_index") and not hasattr(e, "name") for e in eqn.effects)


def is_reference(aval: Any) -> bool:
    """Whether a type is that of a mutable reference."""
    return hasattr(aval, "inner_aval")


def refers(eqn: JaxprEqn) -> bool:
    """Whether the equation makes a mutable reference, or does something to one."""
    return any(is_reference(v.aval) for v in (*eqn.invars, *eqn.outvars))


def passes(eqn: JaxprEqn) -> bool:
    """Whether errors pass the equation at all: not where its derivative is zero everywhere."""
    return eqn.primitive not in FLAT


def programs(eqn: JaxprEqn) -> tuple[Any, ...]:
    """The programs inside an equation that can be entered; none for other equations."""
    if is_branch(eqn):
        return branches(eqn)
    can_enter = is_call(eqn) or is_loop(eqn) or eqn.primitive is p.remat_p
    return (body_of(eqn),) if can_enter else ()


def with_programs(eqn: JaxprEqn, changed: tuple[Any, ...]) -> dict[str, Any]:
    """The parameter of an equation that holds its programs, with others in their places."""
    if is_branch(eqn):
        return {"branches": changed}
    return {"jaxpr" if "jaxpr" in eqn.params else "call_jaxpr": changed[0]}


def is_wiring(eqn: JaxprEqn) -> bool:
    """Whether the equation only moves, casts or names numbers, or keeps them in a reference."""
    return eqn.primitive in WIRING or refers(eqn)


class Layout(NamedTuple):
    """A `scan` equation: inputs are constants, carries and xs, outputs carries and ys."""

    consts: int
    carries: int
    length: int
    reverse: bool
    unroll: int | bool

    @property
    def inputs(self) -> tuple[slice, slice, slice]:
        """Where the constants, the carries and the xs stand."""
        first, last = self.consts, self.consts + self.carries
        return slice(first), slice(first, last), slice(last, None)

    @property
    def outputs(self) -> tuple[slice, slice]:
        """Where the carries and the ys stand."""
        return slice(self.carries), slice(self.carries, None)


def loop_layout(eqn: JaxprEqn) -> Layout:
    """The layout of a `scan` equation. The one place that knows JAX's spellings of it."""
    params = eqn.params
    if "ft_in" in params:  # since JAX 0.11
        consts, carries = map(len, tuple(params["ft_in"].unpack())[:2])
    else:
        consts, carries = params["num_consts"], params["num_carry"]
    return Layout(consts, carries, params["length"], params["reverse"], params["unroll"])


def branches(eqn: JaxprEqn) -> tuple[Any, ...]:
    """The jaxprs of a `cond` equation's branches, in the order of its index."""
    return eqn.params["branches"]


def recomputation(eqn: JaxprEqn) -> tuple[Callable[..., Any] | None, bool]:
    """The policy and `prevent_cse` of a `jax.checkpoint` equation."""
    return eqn.params["policy"], eqn.params["prevent_cse"]


def survives(policy: Callable[..., Any] | None, eqn: JaxprEqn) -> bool | None:
    """Whether a checkpoint policy stores this equation's results; None if it offloads them."""
    if policy is None:
        return False
    verdict = policy(eqn.primitive, *(v.aval for v in eqn.invars), **eqn.params)
    return verdict if isinstance(verdict, bool) else None


def is_recomputed(eqn: JaxprEqn) -> bool:
    """Whether the equation is a `jax.checkpoint` whose inside can be opened."""
    if eqn.primitive is not p.remat_p:
        return False
    policy, _ = recomputation(eqn)
    body, _ = opened(body_of(eqn))
    return all(survives(policy, inner) is not None for inner in body.eqns)


def body_of(eqn: JaxprEqn) -> Any:
    """The jaxpr inside a call, a scan or a checkpoint."""
    return eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]


def opened(jaxpr: Any) -> tuple[Any, tuple[Any, ...]]:
    """A jaxpr, open or closed, as the open jaxpr and its constants."""
    return getattr(jaxpr, "jaxpr", jaxpr), tuple(getattr(jaxpr, "consts", ()))


def computing(eqn: JaxprEqn) -> list[JaxprEqn]:
    """The equation itself if it computes, or those inside that do, where it can be entered."""
    bodies = programs(eqn)
    if not bodies:
        return [] if is_wiring(eqn) else [eqn]
    return [e for body in bodies for inside in opened(body)[0].eqns for e in computing(inside)]


def holds_code(eqn: JaxprEqn) -> bool:
    """Whether an unopened equation has more than one computing equation inside.

    Such a vertex is opaque: its derivative is taken through all of them at once.
    """
    return _computing(eqn) > 1


def _parameters(eqn: JaxprEqn) -> list[Any]:
    """The parameters one by one, also those in tuples; a program counts as one."""
    return jax.tree.leaves(dict(eqn.params), is_leaf=lambda x: hasattr(x, "eqns"))


def _computing(eqn: JaxprEqn) -> int:
    inside = [inner for leaf in _parameters(eqn) for inner in getattr(leaf, "eqns", ())]
    if not inside:
        return 0 if is_wiring(eqn) else 1
    return sum(map(_computing, inside))
