"""Programs rewritten: opened branches, checkpoints and loops."""

import jax
import pytest

from functions import FUNCTIONS, Case, branches, calls, loops, randomness
from localgrad._graph.opened import opened
from localgrad._graph.replay import Replay
from localgrad._jaxpr import flatten, is_loop, opened_inside, trace
from models import MODELS
from oracle import TOLERANCE, assert_close, compiled

TABLE = FUNCTIONS | MODELS


def names(value):
    return value.name if isinstance(value, Case) else value


def rewriting(rewrite):
    """A transform: a function as the rewriting of its program."""

    def transform(f):
        def g(*args, **kwargs):
            leaves, structure = jax.tree.flatten((args, kwargs))
            arrays = [k for k, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]
            out = []

            def flat(*given):
                mixed = dict(enumerate(leaves)) | dict(zip(arrays, given, strict=True))
                args, kwargs = jax.tree.unflatten(structure, mixed.values())
                parts, tree = jax.tree.flatten(f(*args, **kwargs))
                is_array = [isinstance(part, jax.Array) for part in parts]
                out[:] = tree, [None if a else p for a, p in zip(is_array, parts, strict=True)]
                return [p for a, p in zip(is_array, parts, strict=True) if a]

            given = [leaves[k] for k in arrays]
            supply = iter(rewrite(trace(flat, given))(*given))
            tree, parts = out
            return jax.tree.unflatten(tree, [next(supply) if p is None else p for p in parts])

        return g

    return transform


def replayed(program):
    return lambda *inputs: Replay().run(program, inputs)


def unrolled(program):
    return opened(program, unrolled=True)


def stacked(program):
    return opened(program, unrolled=False)


def structured(program):
    """The loops, branches and checkpoints of a program, those inside of others included."""
    found = []
    for equation in program.equations:
        eqn = equation.eqn
        if opened_inside(eqn):
            found.append(eqn)
        found += [e for jaxpr in opened_inside(eqn) for e in structured(flatten(jaxpr))]
    return found


def program_of(call):
    """The program of a row's function, of its arrays."""
    leaves, structure = jax.tree.flatten((call.args, call.kwargs))
    arrays = [k for k, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def flat(*given):
        mixed = dict(enumerate(leaves)) | dict(zip(arrays, given, strict=True))
        args, kwargs = jax.tree.unflatten(structure, mixed.values())
        results = jax.tree.leaves(call.f(*args, **kwargs))
        return [result for result in results if isinstance(result, jax.Array)]

    given = [leaves[k] for k in arrays]
    return trace(flat, given), given


def check(row, dtype, rewrite):
    with jax.enable_x64(dtype == "float64"):
        call = row.call(dtype)

        def transform(f, **options):
            return jax.value_and_grad(rewriting(rewrite)(f), **options)

        got = compiled(transform, row, call)
        want = compiled(jax.value_and_grad, row, call)
        assert_close(got, want, TOLERANCE[row.precision or dtype])


# Opened programs ----------------------------------------------------------------------------------

NESTED = [
    *(row for theme in (loops, branches, calls, randomness) for row in vars(theme).values()),
    *(MODELS[name] for name in ("equinox_gru", "equinox_lstm", "flax_linen_recurrent")),
]
NESTED = {row.name: row for row in NESTED if isinstance(row, Case)}


@pytest.mark.parametrize("rewrite", [stacked, unrolled, replayed], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("row", "dtype"), [(row, dtype) for row in NESTED.values() for dtype in row.dtypes], ids=names
)
def test_nested_programs(row, dtype, rewrite):
    check(row, dtype, rewrite)


@pytest.mark.parametrize(
    "row", [row for row in TABLE.values() if row.name not in NESTED], ids=names
)
def test_straight_programs(row):
    check(row, row.dtypes[-1], stacked)


@pytest.mark.parametrize("row", NESTED.values(), ids=names)
def test_nothing_is_left_closed(row):
    program, given = program_of(row.call("float32"))
    assert all(is_loop(eqn) for eqn in structured(trace(stacked(program), given)))
    assert not structured(trace(unrolled(program), given))
