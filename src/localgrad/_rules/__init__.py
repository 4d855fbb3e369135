"""Layer 4: the learning rules. One rule, one file, as one neuron sees it."""

from localgrad._rules.backprop import Backprop
from localgrad._rules.fazil import FaZIL, TokenPhi, ValuePhi
from localgrad._rules.fixed import FixedPrediction
from localgrad._rules.inference import InferenceLearning
from localgrad._rules.relaxation import ActivationRelaxation
from localgrad._rules.zil import ZIL

__all__ = [
    "ZIL",
    "ActivationRelaxation",
    "Backprop",
    "FaZIL",
    "FixedPrediction",
    "InferenceLearning",
    "TokenPhi",
    "ValuePhi",
]
