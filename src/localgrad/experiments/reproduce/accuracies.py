"""Test accuracies at the end of a training, as tables and verdicts have them."""

import numpy as np

from localgrad.experiments.reproduce.study import Result


def final(result: Result) -> np.ndarray:
    """In percent, of each seed, of a cell that trains; nan if its training has diverged."""
    is_whole = result["accuracy"] and not result["diverged"]
    return 100 * np.array(result["accuracy"][-1]) if is_whole else np.array([np.nan])


def mean(result: Result) -> float:
    """The same, the mean over seeds."""
    return float(final(result).mean())


def spread(values: np.ndarray) -> str:
    """Mean and standard deviation over seeds, for people."""
    if np.isnan(values).any():
        return "diverged"
    off = f" +- {deviation(values):.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{off}"


def deviation(values: np.ndarray) -> float:
    """The standard deviation over seeds; 0 of a single one."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
