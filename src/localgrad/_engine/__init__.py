"""Layer 3: what drives a rule over a graph."""

from localgrad._engine.autonomous import Autonomous
from localgrad._engine.clocked import Clocked
from localgrad._engine.loop import Loop
from localgrad._engine.oracle import Oracle
from localgrad._engine.problem import Derivative, Engine, Problem
from localgrad._engine.simulation import Simulation, Synchronous
from localgrad._engine.sweeping import Sweeping
from localgrad._engine.wave import Events

__all__ = [
    "Autonomous",
    "Clocked",
    "Derivative",
    "Engine",
    "Events",
    "Loop",
    "Oracle",
    "Problem",
    "Simulation",
    "Sweeping",
    "Synchronous",
]
