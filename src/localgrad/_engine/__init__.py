"""Layer 3: what drives a rule over a graph."""

from localgrad._engine.events import Events
from localgrad._engine.oracle import Oracle
from localgrad._engine.problem import Derivative, Engine, Problem

__all__ = ["Derivative", "Engine", "Events", "Oracle", "Problem"]
