"""Layer 4: the learning rules. One rule, one file, as one neuron sees it."""

from localgrad._rules.backprop import Backprop
from localgrad._rules.rule import Rule
from localgrad._rules.zil import ZIL

__all__ = ["ZIL", "Backprop", "Rule"]
