from datetime import UTC, datetime

import numpy as np
import pytest

from services.timing.suggest import probability_within_hour

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
STARTS = dict.fromkeys(range(168), MONDAY)


def curves_with_best_hours(*hours: int) -> np.ndarray:
    draws = np.ones((len(hours), 168))
    draws[np.arange(len(hours)), hours] = 2.0
    return draws


def test_certainty_counts_the_draws_whose_best_hour_is_near_on_any_day() -> None:
    draws = curves_with_best_hours(19, 24 + 20, 48 + 18, 72 + 21)
    assert probability_within_hour(draws, STARTS, 19) == pytest.approx(0.75)


def test_midnight_lies_between_eleven_pm_and_one_am() -> None:
    draws = curves_with_best_hours(23, 0, 1, 2)
    assert probability_within_hour(draws, STARTS, 0) == pytest.approx(0.75)


def test_blocked_hours_are_never_the_best() -> None:
    permitted = {hour: start for hour, start in STARTS.items() if hour != 12}
    draws = curves_with_best_hours(12, 12)
    draws[:, 30] = 1.5
    assert probability_within_hour(draws, permitted, 6) == 1.0
