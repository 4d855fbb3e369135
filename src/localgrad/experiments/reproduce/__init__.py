"""The papers' experiments, each from one command.

A study is a file of this package with a `STUDY`; `study.py` says what it consists of.
"""

from localgrad.experiments.reproduce import (
    infinitesimal_limit,
    millidge_2020_ar,
    millidge_2020_pc,
    salvatori_2022_divergence,
    salvatori_2022_runtime,
    song_2020,
    weight_transport,
    zahid_2023,
)
from localgrad.experiments.reproduce.runner import Done, run_study
from localgrad.experiments.reproduce.study import Scale, Setup, Study

__all__ = ["STUDIES", "Done", "Scale", "Setup", "Study", "run_study"]

STUDIES: dict[str, Study] = {
    study.STUDY.name: study.STUDY
    for study in (
        infinitesimal_limit,
        millidge_2020_ar,
        millidge_2020_pc,
        salvatori_2022_divergence,
        salvatori_2022_runtime,
        song_2020,
        weight_transport,
        zahid_2023,
    )
}
"""The studies by name."""
