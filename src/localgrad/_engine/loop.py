"""How the steps of an inference are compiled."""

from dataclasses import dataclass
from typing import Literal

import jax


@dataclass(frozen=True)
class Loop:
    """How the loop over inference steps is compiled; without influence on what it computes.

    Attributes:
        unroll: How many steps stand side by side in the compiled loop. Compile time grows with it.
        convolutions: ``"direct"`` leaves convolutions inside the loop to XLA, ``"rewritten"``
            brings them into forms that XLA's CPU compiler keeps fast inside a loop (a layout of
            its routine's own, or patches and one matrix product). ``"auto"``: rewritten if JAX's
            default backend is the CPU. `benchmarks/inference.py` measures them.

    Example:
        >>> import localgrad as lg
        >>> rule = lg.InferenceLearning(steps=20, loop=lg.Loop(unroll=4, convolutions="direct"))
    """

    unroll: int = 1
    convolutions: Literal["auto", "direct", "rewritten"] = "auto"

    @property
    def rewrites(self) -> bool:
        """Whether convolutions are rewritten on this machine."""
        if self.convolutions == "auto":
            return jax.default_backend() == "cpu"
        return self.convolutions == "rewritten"
