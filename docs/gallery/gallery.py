"""Make the figures of the gallery and its page: `python docs/gallery/gallery.py [NAME ...]`."""

import argparse
import sys
import time
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from distances import ar_start, il_nudge
from pictures import STYLE, save, write_page
from problems import Sources
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from scorecard import audit
from training import relaxations
from waves import energy, fazil_raster, graph, zil_wave

from localgrad.experiments.data import DataError, load

FIGURES = {
    "zil-wave": zil_wave,
    "graph": graph,
    "fazil-raster": fazil_raster,
    "energy": energy,
    "il-nudge": il_nudge,
    "ar-start": ar_start,
    "relaxations": relaxations,
    "audit": audit,
}
"""In the order of the page."""


def make(names: list[str], sources: Sources, folder: Path, console: Console) -> None:
    """Make the figures of these names, and the page of all pictures that are in the folder then.

    Each is written when it is ready. Ctrl-C leaves what is finished.
    """
    mpl.use("Agg")
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    progress = Progress(*columns, console=console, transient=True)
    try:
        with progress, plt.rc_context(STYLE):
            task = progress.add_task("", total=len(names))
            for name in names:
                progress.update(task, description=name)
                _make_one(name, sources, folder, progress, task)
                progress.advance(task)
    finally:
        write_page(FIGURES, folder)


def _make_one(name: str, sources: Sources, folder: Path, progress: Progress, task) -> None:
    start = time.perf_counter()
    picture = FIGURES[name](sources, lambda at: progress.update(task, description=f"{name}: {at}"))
    path = save(picture, name, folder)
    plt.close(picture.figure)
    seconds, size = time.perf_counter() - start, path.stat().st_size / 1000
    progress.console.print(f"[bold]{path}[/], {size:.0f} kB, in {seconds:.0f} s")
    progress.console.print(picture.shows, markup=False, highlight=False)


def main() -> int:
    """Read the command line and make what it asks for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.replace("`", ""))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FIGURES)}; all")
    parser.add_argument("--mnist", metavar="FOLDER", help="MNIST's four gzipped IDX files")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in FIGURES]
    if unknown:
        parser.error(f"there is no figure {unknown[0]!r}; choose from {', '.join(FIGURES)}")
    console = Console()
    try:
        mnist = load("mnist", options.mnist) if options.mnist else None
        options.out.mkdir(parents=True, exist_ok=True)
        make(options.names or list(FIGURES), Sources(load("digits"), mnist), options.out, console)
    except (DataError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        console.print("Stopped; what was finished is on the page.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
