"""Error texts in three parts: what was met, where in the user's code, what to do."""

import jax


def explain(met: str, where: str, do: str) -> str:
    """One message: what was met, where (file:line), what to do about it."""
    return f"{met}\n  where: {where}\n  what to do: {do}"


def untraceable(error: Exception, where: str) -> Exception:
    """`error`, raised while a user's function was traced, with advice where we have any."""
    if isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerBoolConversionError):
        error.add_note(
            explain(
                "localgrad met Python code that needs the value of a traced array.",
                where,
                "write the function as for jax.jit: jnp.where, lax.cond or lax.scan instead of "
                "Python control flow on arrays; flags may be Python values in arguments that are "
                "not differentiated.",
            )
        )
    return error
