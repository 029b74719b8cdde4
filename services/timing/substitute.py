"""The population's hours as a table for the gateway, for when no timing server answers.

The table is a rule, not a constant: what the profile counted still moves it. An hour's engagements
per post are drawn towards the population's relative rate with the weight of five posts. That rule
neither smooths nor tells doubt, and is for the minutes in which the model is away.
"""

from pathlib import Path

import numpy as np

from services.timing.rates import HOURS, Prior, unit_mean

PRIOR_POSTS = 5.0
_HEADER = """\
# Substitute for a dead timing server: fields of SuggestPostingTimesResponse, by the rules of
# services/gateway/policies/tables.py. Written by `python -m services.timing.train`: the mean weekly
# curve of the prior, learned from family A of simulation/.
"""
_PEAK = """\
    counts: engagements_by_hour
    exposure: posts_by_hour
    prior_exposure: {weight:g}
    prior_rate: {anchor}
"""


def population_curve(prior: Prior) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Returns the mean of the curves as they were fitted, the rotated half left out, (168,)."""
    fitted = len(prior.curves) // 2
    mean = prior.weights[:fitted] @ prior.curves[:fitted]
    return np.asarray(unit_mean(mean[None, :])[0])


def population_hours(prior: Prior) -> str:
    """Returns the table as YAML."""
    rates = ", ".join(f"{rate:.3f}" for rate in population_curve(prior))
    week = _PEAK.format(weight=PRIOR_POSTS, anchor=f"&population [{rates}]")
    day = _PEAK.format(weight=PRIOR_POSTS, anchor="*population")
    return (
        f"{_HEADER}optimal_hour_of_week:\n  peak:  # argmax over {HOURS} hours\n{week}"
        f"optimal_hour:\n  modulo: 24\n  peak:\n{day}evidence: EVIDENCE_POPULATION\n"
    )


def write_population_hours(prior: Prior, path: Path) -> None:
    """Writes the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(population_hours(prior), encoding="utf-8")
