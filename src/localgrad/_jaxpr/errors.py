"""Error texts in three parts: what was met, where in the user's code, what to do."""

import jax

from localgrad._jaxpr.source import raised_at


def explain(met: str, where: str, do: str) -> str:
    """One message: what was met, where (file:line), what to do about it."""
    return f"{met}\n  where: {where}\n  what to do: {do}"


NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def untraceable(error: Exception) -> Exception:
    """`error`, raised while a user's function was traced, with a note that says where and why."""
    if "what to do:" in str(error):
        return error
    met = "localgrad met this error while it traced the function to differentiate."
    do = "mend it there; the function is traced as under jax.jit."
    if isinstance(error, NEEDS_VALUES):
        met = "localgrad met Python code that needs the value of a traced array."
        do = (
            "write the function as for jax.jit: jnp.where, lax.cond or lax.scan instead of Python "
            "control flow on arrays, jnp instead of numpy; flags may be Python values in arguments "
            "that are not differentiated."
        )
    error.add_note(explain(met, raised_at(error), do))
    return error
