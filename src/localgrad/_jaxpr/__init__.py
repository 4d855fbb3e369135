"""Layer 1: JAX's intermediate language. The only folder that imports `jax.core` or `jax.extend`.

`Program` is a jaxpr as a flat list of equations over numbered slots. `Pull` is what one equation
computes and how an error at its outputs becomes messages to its operands.
"""

from localgrad._jaxpr.again import (
    bind,
    derivative,
    evaluate,
    is_literal,
    replayed,
    standing,
    variables,
)
from localgrad._jaxpr.convolution import in_loop
from localgrad._jaxpr.elementwise import is_elementwise
from localgrad._jaxpr.empty import empty
from localgrad._jaxpr.errors import explain
from localgrad._jaxpr.hoist import hoisted
from localgrad._jaxpr.known import holds_functions, is_traced, known
from localgrad._jaxpr.primitives import (
    Layout,
    advice,
    body_of,
    branches,
    computing,
    holds_code,
    is_branch,
    is_call,
    is_convolution,
    is_derived,
    is_inexact,
    is_loop,
    is_mark,
    is_recomputed,
    is_reference,
    is_seen,
    is_while,
    is_wiring,
    loop_layout,
    opened,
    passes,
    programs,
    recomputation,
    refers,
    survives,
    with_programs,
)
from localgrad._jaxpr.program import Equation, Program, flatten, made, trace
from localgrad._jaxpr.pull import Pulls
from localgrad._jaxpr.source import (
    called_at,
    defined_at,
    is_of_library,
    located_at,
    located_in,
)
from localgrad._jaxpr.unasked import sends_unasked

__all__ = [
    "Equation",
    "Layout",
    "Program",
    "Pulls",
    "advice",
    "bind",
    "body_of",
    "branches",
    "called_at",
    "computing",
    "defined_at",
    "derivative",
    "empty",
    "evaluate",
    "explain",
    "flatten",
    "hoisted",
    "holds_code",
    "holds_functions",
    "in_loop",
    "is_branch",
    "is_call",
    "is_convolution",
    "is_derived",
    "is_elementwise",
    "is_inexact",
    "is_literal",
    "is_loop",
    "is_mark",
    "is_of_library",
    "is_recomputed",
    "is_reference",
    "is_seen",
    "is_traced",
    "is_while",
    "is_wiring",
    "known",
    "located_at",
    "located_in",
    "loop_layout",
    "made",
    "opened",
    "passes",
    "programs",
    "recomputation",
    "refers",
    "replayed",
    "sends_unasked",
    "standing",
    "survives",
    "trace",
    "variables",
    "with_programs",
]
