"""What is going on, on standard error."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import jax
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

PATIENCE = 2.0
"""Seconds after which a wait is explained where there is no terminal to show it at once."""


def errors() -> Console:
    """Standard error."""
    return Console(stderr=True, markup=False, highlight=False)


def tell(what: str) -> None:
    """Say what should be known, in a line of its own; of several processes, the first one does."""
    if jax.process_index() == 0:
        errors().print(f"localgrad: {what}", soft_wrap=True)


@contextmanager
def without_logs() -> Iterator[None]:
    """Without what Orbax's threads tell of an error, with tracebacks: it is raised as well.

    They go on telling after the error; all is as it was only if there is none.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels, hook = [logger.level for logger in loggers], sys.unraisablehook

    def without_late_ones(met: "sys.UnraisableHookArgs") -> None:
        if str(met.exc_value) != "Event loop is closed":
            hook(met)

    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = without_late_ones
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    sys.unraisablehook = hook


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say what is going on: with the time on a terminal, in a line elsewhere if it takes long."""
    console = errors()
    if console.is_terminal:
        columns = SpinnerColumn("line"), TextColumn("{task.description}"), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True) as progress:
            progress.add_task(what, total=None)
            yield
        return
    line = f"localgrad: {what} ..."
    timer = threading.Timer(PATIENCE, lambda: print(line, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
