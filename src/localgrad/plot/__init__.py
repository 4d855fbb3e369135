"""Figures of what `record`, `compare` and `graph` return. Needs matplotlib.

Every function takes the plain object and an optional ``ax``, and returns the `Axes` that it has
drawn into. Fonts, backgrounds and sizes are those of the user's style sheet; colours of categories
are those of Okabe and Ito, which differ for colour-blind readers too, with a line style or a marker
as the second channel.
"""

try:
    import matplotlib as mpl  # noqa: F401
except ImportError as error:
    raise ImportError(
        "localgrad.plot needs matplotlib, which is not installed: pip install 'localgrad[plot]'"
    ) from error

from localgrad.plot._curves import learning_curves
from localgrad.plot._divergence import divergence
from localgrad.plot._energy import energy
from localgrad.plot._errors import errors
from localgrad.plot._graph import graph
from localgrad.plot._layers import layers

__all__ = ["divergence", "energy", "errors", "graph", "layers", "learning_curves"]
