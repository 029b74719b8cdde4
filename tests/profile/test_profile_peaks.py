import numpy as np

from services.profile.peaks import peak_hours


def week(**by_hour: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    cells = np.zeros((7, 24))
    for hour, value in by_hour.items():
        cells[:, int(hour.removeprefix("h"))] = value
    return cells.reshape(168)


def test_no_posts_have_no_peaks() -> None:
    assert peak_hours(np.zeros(168), np.zeros(168)) == []


def test_peaks_are_where_posts_gain_most_not_where_most_are_posted() -> None:
    posts = week(h9=20.0, h19=3.0)
    engagements = week(h9=200.0, h19=90.0)  # 10 a post in the morning, 30 in the evening
    assert peak_hours(posts, engagements)[0] == 19


def test_equal_rates_have_no_peak() -> None:
    assert peak_hours(week(h9=5.0, h19=1.0), week(h9=50.0, h19=10.0)) == []
