import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from bench.timing_hits import BARS, BELOW_SMOOTHING, COVERED, hit_rate, measure, smoothed
from services.timing.prior_file import Trained
from services.timing.rates import DRAW_COUNT, HOURS, RateModel
from services.timing.suggest import Evidence, evidence_of, rank_slots
from simulation.audience import Family, best_hour_of_day, draw_curves
from simulation.history import draw_histories

COUNTS = npst.arrays(np.float64, HOURS, elements=st.sampled_from([0.0, 0.0, 0.0, 1.0, 4.0, 1e6]))


@pytest.fixture(scope="module")
def model(trained: Trained) -> RateModel:
    return RateModel(trained.prior)


@settings(max_examples=25, deadline=None)
@given(posts=COUNTS, engagements=COUNTS)
def test_draws_are_finite_positive_weeks_of_mean_one(
    model: RateModel, posts: np.ndarray, engagements: np.ndarray
) -> None:
    draws = model.draw(posts, engagements)
    assert draws.shape == (DRAW_COUNT, HOURS)
    assert np.isfinite(draws).all()
    assert (draws > 0).all()
    assert draws.mean(axis=1) == pytest.approx(1.0)


def test_equal_histories_have_equal_answers(model: RateModel, trained: Trained) -> None:
    posts, engagements = np.ones(HOURS), np.arange(HOURS, dtype=float)
    again = RateModel(trained.prior).draw(posts, engagements)
    assert np.array_equal(model.draw(posts, engagements), again)


def test_clear_history_decides_the_hour(model: RateModel) -> None:
    posts = np.full(HOURS, 2.0)
    engagements = np.full(HOURS, 20.0)
    engagements[[42, 43, 44]] = 60.0, 200.0, 60.0
    assert model.draw(posts, engagements).mean(axis=0).argmax() == 43


def test_posting_often_at_an_hour_does_not_make_it_the_best(model: RateModel) -> None:
    posts, engagements = np.zeros(HOURS), np.zeros(HOURS)
    for day in range(7):
        posts[day * 24 + 9], engagements[day * 24 + 9] = 20.0, 200.0  # 10 a post
        posts[day * 24 + 19], engagements[day * 24 + 19] = 2.0, 80.0  # 40 a post
    best = int(model.draw(posts, engagements).mean(axis=0).argmax())
    assert abs(best % 24 - 19) <= 1


def test_posts_without_engagement_leave_the_population(model: RateModel) -> None:
    nobody = np.zeros(HOURS)
    idle = model.draw(np.ones(HOURS), nobody).mean(axis=0)
    unknown = model.draw(nobody, nobody).mean(axis=0)
    assert np.corrcoef(idle, unknown)[0, 1] > 0.95


def test_more_posts_narrow_the_interval(model: RateModel) -> None:
    curve = draw_curves(np.random.default_rng(1), 1, Family.A)
    widths = []
    for posts in (3, 30, 300):
        history = draw_histories(np.random.default_rng(2), curve, posts)
        draws = model.draw(history.posts[0], history.engagements[0])
        low, high = np.percentile(draws, (10, 90), axis=0)
        widths.append(float(np.log(high / low).mean()))
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("family", "posts"), BARS)
def test_best_hours_are_hit_in_both_families(model: RateModel, family: Family, posts: int) -> None:
    """150 users a case; the bars less two standard errors of that many."""
    users = 150
    histogram, smooth, hit, _, covered, _ = measure(model, family, posts, users=users, seed=5)
    bar = BARS[family, posts]
    assert hit >= bar - 2 * (bar * (1 - bar) / users) ** 0.5
    assert hit > histogram + 0.05
    assert hit >= smooth - BELOW_SMOOTHING - 0.03
    assert COVERED[0] - 0.04 <= covered <= COVERED[1] + 0.04


@pytest.mark.prove
@pytest.mark.parametrize(("family", "posts"), [*BARS, (Family.B, 3)])
def test_hit_rates_hold_their_bars(model: RateModel, family: Family, posts: int) -> None:
    """4,000 users a case; the bars less one standard error of that many."""
    users = 4000
    _, smooth, hit, _, covered, _ = measure(model, family, posts, users=users, seed=11)
    bar = BARS.get((family, posts), 0.0)
    assert hit >= bar - (bar * (1 - bar) / users) ** 0.5
    assert hit >= smooth - BELOW_SMOOTHING
    assert COVERED[0] <= covered <= COVERED[1]


def test_hits_wrap_around_midnight() -> None:
    assert hit_rate(np.array([23, 0, 12]), np.array([0, 23, 15])) == pytest.approx(2 / 3)


def test_smoothing_divides_by_exposure() -> None:
    curve = draw_curves(np.random.default_rng(1), 1, Family.A)
    history = draw_histories(np.random.default_rng(1), curve, 3000)
    assert hit_rate(smoothed(history), best_hour_of_day(curve)) == 1.0


def test_slots_are_the_permitted_hours_best_first() -> None:
    draws = np.tile(np.linspace(0.5, 1.5, HOURS), (10, 1))
    starts = dict.fromkeys((3, 100, 42))
    slots = rank_slots(draws, starts, max_slots=2)  # type: ignore[arg-type]  # starts are passed through
    assert [slot.hour_of_week for slot in slots] == [100, 42]
    assert [slot.probability_best for slot in slots] == [1.0, 0.0]


@given(st.integers(0, 2**32 - 1))
def test_probabilities_of_all_permitted_hours_sum_to_one(seed: int) -> None:
    draws = np.random.default_rng(seed).lognormal(size=(50, HOURS))
    slots = rank_slots(draws, dict.fromkeys(range(0, HOURS, 3)), HOURS)  # type: ignore[arg-type]  # as above
    assert sum(slot.probability_best for slot in slots) == pytest.approx(1.0)
    for slot in slots:
        low, middle, high = slot.relative_engagement
        assert low <= middle <= high


@pytest.mark.parametrize(
    ("posts", "evidence"),
    [
        (0, Evidence.POPULATION),
        (1, Evidence.SHRUNK),
        (49, Evidence.SHRUNK),
        (50, Evidence.OWN_HISTORY),
    ],
)
def test_evidence_grows_with_posts(posts: float, evidence: Evidence) -> None:
    assert evidence_of(posts) is evidence
