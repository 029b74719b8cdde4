"""The population's hours as a table for the gateway, for when no timing server answers."""

from pathlib import Path

import numpy as np

from services.timing.hours import HOURS
from services.timing.prior_file import Trained
from services.timing.rates import RateModel

_HEADER = """\
# Substitute for a dead timing server: fields of SuggestPostingTimesResponse, the population's best.
# Written by `python -m services.timing.train` from the prior; family A of simulation/ alone.
"""


def population_hours(trained: Trained) -> str:
    """Returns the table as YAML."""
    nobody = np.zeros(HOURS)
    draws = RateModel(trained.prior).draw(nobody, nobody)
    best = int(draws.mean(axis=0).argmax())
    return _HEADER + (
        f"optimal_hour_of_week: {best}\noptimal_hour: {best % 24}\n"
        "evidence: EVIDENCE_POPULATION\npost_count: 0\n"
    )


def write_population_hours(trained: Trained, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(population_hours(trained), encoding="utf-8")
