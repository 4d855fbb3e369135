"""``localgrad reproduce``: the papers' experiments."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from tyro.conf import Positional, arg

from localgrad.cli.document import print_document
from localgrad.cli.errors import FailedError, UsageError
from localgrad.cli.options import Flag, Reporting, ReportingOptions, a_path
from localgrad.cli.progress import errors
from localgrad.cli.ranges import Count, Natural
from localgrad.cli.report import Column, Output, print_table
from localgrad.experiments.data import DataError
from localgrad.experiments.names import suggest
from localgrad.experiments.reproduce import STUDIES, Done, Scale, Setup, Study, run_study

NAMES = ", ".join(STUDIES)


@dataclass(frozen=True)
class Options:
    """Repeat a paper's experiments: tables, figures, and what became of each claim, in a folder.
    A study that was stopped goes on with the cell it was at.

    Example: localgrad reproduce infinitesimal-limit --quick
    """

    name: Annotated[
        str,
        Positional,
        arg(metavar="NAME", help=f"One of {NAMES}.", help_behavior_hint="(required)"),
    ] = ""
    quick: Flag = False
    """On digits, in under three minutes on two cores."""
    full: Flag = False
    """The paper's own sizes, for a GPU."""
    folder: Annotated[str | None, a_path()] = None
    """Where the files of the data sets are, each in a folder of its own; --quick needs none."""
    out: Annotated[
        Path | None, arg(metavar="FOLDER", help_behavior_hint="(default: results/NAME-SCALE)")
    ] = None
    """Where everything goes."""
    seeds: Annotated[Count | None, arg(help_behavior_hint="(default: the study's own)")] = None
    """How many seeds."""
    seed: Natural = 0
    """The first of them."""
    output: ReportingOptions = field(default_factory=Reporting)


def run(options: Options) -> None:
    """Compute what is missing, write the report, and print what became of the claims.

    Raises:
        UsageError: if there is no such study, or two scales were asked for.
        FailedError: if the data cannot be had, or the folder not be written.
        KeyboardInterrupt: after Ctrl-C; finished cells are kept.
    """
    study, setup = _chosen(options)
    out = options.out or Path("results") / f"{study.name}-{setup.scale.value}"
    try:
        done = _with_progress(study, setup, out)
    except DataError as error:
        raise FailedError(error.met, error.where, error.advice) from error
    except OSError as error:
        what = f"the folder cannot be written: {error.strerror or error}"
        raise FailedError(what, str(out), "name another folder with --out") from error
    results = {one.cell.key: one.result for one in done}
    claims = study.claims(setup, results)
    if options.output.json:
        seconds = sum(one.seconds for one in done)
        found = {"study": study.name, "scale": setup.scale.value, "out": out, "seconds": seconds}
        print_document(found | {"claims": list(claims), "results": results})
        return
    console = Output()
    columns = [Column("claim", folds=True), Column("verdict"), Column("measured", folds=True)]
    rows = [[claim.text, claim.verdict.value, claim.measured] for claim in claims]
    print_table(console, study.title, columns, rows)
    console.print(f"report: {out / 'README.md'}", soft_wrap=True)


def _chosen(options: Options) -> tuple[Study, Setup]:
    if not options.name:
        raise UsageError("no study was named", "localgrad reproduce", f"choose from: {NAMES}")
    if options.name not in STUDIES:
        where = f"localgrad reproduce {options.name}"
        advice = suggest(options.name, STUDIES)
        raise UsageError(f"there is no study {options.name!r}", where, advice)
    if options.quick and options.full:
        raise UsageError("a study has one scale", "--quick --full", "give one of the two, or none")
    scale = Scale.QUICK if options.quick else Scale.FULL if options.full else Scale.DEFAULT
    return STUDIES[options.name], Setup(scale, options.folder, options.seeds, options.seed)


def _with_progress(study: Study, setup: Setup, out: Path) -> list[Done]:
    """Run the study, with a bar on a terminal, else with a line for each cell."""
    console = errors()
    bar = Progress(
        SpinnerColumn("line"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        expand=True,
    )
    cells = study.cells(setup)
    done = []
    with bar:
        task = bar.add_task(cells[0].key if cells else "", total=len(cells))
        for one in run_study(study, setup, out, _command(study, setup)):
            done.append(one)
            following = cells[one.number].key if one.number < len(cells) else "writing"
            bar.update(task, completed=one.number, description=following)
            if not console.is_terminal:
                kept = "kept" if one.kept else f"{one.seconds:.1f} s"
                console.print(f"{one.number}/{one.of}  {one.cell.key}  {kept}", soft_wrap=True)
    return done


def _command(study: Study, setup: Setup) -> str:
    """What repeats it. Where the data lie is left out."""
    parts = ["localgrad", "reproduce", study.name]
    if setup.scale is not Scale.DEFAULT:
        parts.append(f"--{setup.scale.value}")
    if setup.scale is not Scale.QUICK:
        parts += ["--folder", "DATA"]
    if setup.seeds is not None:
        parts += ["--seeds", str(setup.seeds)]
    if setup.seed:
        parts += ["--seed", str(setup.seed)]
    return shlex.join(parts)
