"""Layer 3: what drives a rule over a network."""

from localgrad._engine.derivative import (
    Derivative,
    assembled,
    by_events,
    derivative,
    is_static,
    settings,
)
from localgrad._engine.dynamics import Dynamics, Forward, Moment, Signals
from localgrad._engine.problem import Problem, Traced
from localgrad._engine.trial import Outcome, over_time, trial

__all__ = [
    "Derivative",
    "Dynamics",
    "Forward",
    "Moment",
    "Outcome",
    "Problem",
    "Signals",
    "Traced",
    "assembled",
    "by_events",
    "derivative",
    "is_static",
    "over_time",
    "settings",
    "trial",
]
