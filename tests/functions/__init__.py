"""The table of functions: graphs that nobody designed for this library."""

from . import (
    arguments,
    arithmetic,
    branches,
    calls,
    indexing,
    linear_algebra,
    loops,
    precision,
    randomness,
    sharing,
)
from .case import Call, Case, Draw, case

THEMES = (
    arguments,
    sharing,
    arithmetic,
    indexing,
    linear_algebra,
    randomness,
    precision,
    loops,
    branches,
    calls,
)
FUNCTIONS = {
    row.name: row for theme in THEMES for row in vars(theme).values() if isinstance(row, Case)
}

__all__ = ["FUNCTIONS", "Call", "Case", "Draw", "case"]
