"""A study: cells that are computed and kept one by one, then tables, figures and verdicts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from matplotlib.figure import Figure

Result = dict[str, Any]
"""What a cell has found: plain numbers, texts, lists and dictionaries, as JSON has them."""

Results = Mapping[str, Result]
"""The results of a study's cells, by their keys."""

Row = list[str | float | None]
"""Of a table: texts, numbers, or None where there is nothing."""


class Scale(StrEnum):
    """How large a study is."""

    QUICK = "quick"
    """On digits, in under three minutes on two cores."""
    DEFAULT = "default"
    """On the papers' data, with as many epochs and seeds as a CPU does in hours."""
    FULL = "full"
    """The papers' own sizes, for a GPU."""


class Verdict(StrEnum):
    """What became of a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    NOT_TESTABLE = "not testable here"


@dataclass(frozen=True)
class Setup:
    """What a study is run with.

    Attributes:
        scale: How large it is.
        folder: Where the data's files are; None where a scale needs none.
        seeds: How many seeds, at least 1; None: as many as the study takes at this scale.
        seed: The first of them.
    """

    scale: Scale = Scale.DEFAULT
    folder: str | None = None
    seeds: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Cell:
    """One part of a study that is computed at a time.

    Attributes:
        key: Its name, unlike all others of the study; also the name of its file.
        settings: All that its result depends on. A kept result is used again if these are the same.
        run: Computes the result.
    """

    key: str
    settings: Mapping[str, Any]
    run: Callable[[], Result]


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        name: Also the name of its files.
        caption: What it shows, with units.
        head: The columns; one of them is the paper's own numbers, where it has any.
        rows: Texts, numbers, or None where there is nothing.
    """

    name: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]


@dataclass(frozen=True)
class Picture:
    """A figure of results.

    Attributes:
        name: Also the name of its file.
        caption: What one sees, in a sentence or two.
        draw: Draws it into an empty figure.
        size: Width and height in inches.
    """

    name: str
    caption: str
    draw: Callable[[Figure], None]
    size: tuple[float, float] = (7.0, 4.0)


@dataclass(frozen=True)
class Claim:
    """What a paper says, and what was found.

    Attributes:
        text: The claim.
        source: The paper, and where in it.
        verdict: What became of it.
        measured: The numbers that the verdict rests on; or why it cannot be tested.
    """

    text: str
    source: str
    verdict: Verdict
    measured: str


@dataclass(frozen=True)
class Study:
    """The experiments of a paper.

    Attributes:
        name: As the command line takes it.
        title: One line.
        source: The paper.
        about: What is done, in a few sentences, with what differs from the paper.
        cells: The cells at a scale, in the order in which they are computed.
        tables: The tables of all results.
        pictures: The figures of all results.
        claims: The claims with their verdicts, from all results.
    """

    name: str
    title: str
    source: str
    about: str
    cells: Callable[[Setup], Sequence[Cell]]
    tables: Callable[[Setup, Results], Sequence[Table]]
    pictures: Callable[[Setup, Results], Sequence[Picture]]
    claims: Callable[[Setup, Results], Sequence[Claim]]


def verdict(holds: bool) -> Verdict:
    """Whether a claim that can be tested holds."""
    return Verdict.REPRODUCED if holds else Verdict.NOT_REPRODUCED
