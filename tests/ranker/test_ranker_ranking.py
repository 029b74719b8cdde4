from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from services.ranker.ranking import earlier_of_same, rank, tie_break
from services.ranker.weights import WeightProfile, read_profiles

EVEN = WeightProfile((1.0, 1.0, 1.0, 1.0), 0.75, 0.5, 0.25, 48.0)
VALUES = st.one_of(st.floats(0, 1e6), st.sampled_from([float("nan"), float("inf"), 0.5]))
FEEDS = st.integers(0, 40).flatmap(
    lambda count: st.tuples(
        npst.arrays(np.float64, count, elements=VALUES),
        npst.arrays(np.int64, count, elements=st.integers(1, 5)),
        npst.arrays(np.bool_, count),
        st.integers(-(2**63), 2**63 - 1),
    )
)
Feed = tuple[np.ndarray, np.ndarray, np.ndarray, int]


def ties(count: int, seed: int = 0) -> np.ndarray:
    return tie_break(np.arange(1, count + 1), viewer_id=1, seed=seed)


@given(FEEDS)
def test_every_candidate_is_ranked_once_and_scores_descend(feed: Feed) -> None:
    values, authors, network, seed = feed
    ranking = rank(values, authors, network, EVEN, ties(len(values), seed))
    assert sorted(ranking.order.tolist()) == list(range(len(values)))
    scores = ranking.scores[ranking.order]
    finite = np.isfinite(scores)
    assert (np.diff(scores[finite]) <= 0).all()
    assert not finite[finite.sum() :].any()
    assert finite.sum() == np.isfinite(values).sum()


@given(FEEDS, st.data())
def test_the_order_of_the_request_does_not_matter(feed: Feed, data: st.DataObject) -> None:
    values, authors, network, seed = feed
    ids = np.arange(1, len(values) + 1)
    shuffle = np.array(data.draw(st.permutations(range(len(values)))), dtype=np.int64)
    plain = rank(values, authors, network, EVEN, tie_break(ids, 3, seed))
    other = rank(
        values[shuffle], authors[shuffle], network[shuffle], EVEN, tie_break(ids[shuffle], 3, seed)
    )
    assert ids[shuffle][other.order].tolist() == ids[plain.order].tolist()


@given(FEEDS)
def test_steps_explain_the_final_score_and_rank(feed: Feed) -> None:
    values, authors, network, seed = feed
    ranking = rank(values, authors, network, EVEN, ties(len(values), seed))
    finite = np.isfinite(values)
    product = values * ranking.steps[0].factor * ranking.steps[1].factor
    assert ranking.scores[finite] == pytest.approx(product[finite])
    assert np.array_equal(ranking.steps[0].rank_after, ranking.steps[1].rank_before)
    assert np.array_equal(ranking.steps[1].rank_after[ranking.order], np.arange(len(values)))


def test_author_diversity_follows_its_law() -> None:
    values = np.array([10.0, 9.0, 8.0, 7.0, 1.0])
    authors = np.array([1, 1, 1, 1, 2])
    ranking = rank(values, authors, np.ones(5, bool), EVEN, ties(5))
    expected = [1.0, 0.25 + 0.75 * 0.5, 0.25 + 0.75 * 0.25, 0.25 + 0.75 * 0.125, 1.0]
    assert ranking.steps[1].factor.tolist() == expected
    assert ranking.scores.tolist() == (values * expected).tolist()


@given(FEEDS, st.lists(st.integers(1, 5), max_size=6))
def test_author_diversity_counts_who_stands_before_and_who_was_shown(
    feed: Feed, shown: list[int]
) -> None:
    values, authors, network, seed = feed
    before = np.array(shown, dtype=np.int64)
    ranking = rank(values, authors, network, EVEN, ties(len(values), seed), before)
    by_network = np.argsort(ranking.steps[1].rank_before)
    met = list(shown)
    for index in by_network.tolist():
        author = int(authors[index])
        assert ranking.steps[1].factor[index] == 0.25 + 0.75 * 0.5 ** met.count(author)
        met.append(author)


def test_posts_from_outside_the_network_are_worth_three_quarters() -> None:
    values, authors = np.array([1.0, 0.8]), np.array([1, 2])
    ranking = rank(values, authors, np.array([False, True]), EVEN, ties(2))
    assert ranking.order.tolist() == [1, 0]
    assert (ranking.steps[0].rank_before[0], ranking.steps[0].rank_after[0]) == (0, 1)


def test_seed_and_viewer_decide_between_equals() -> None:
    values, authors = np.ones(50), np.arange(50)
    orders = {
        (viewer, seed): tuple(
            rank(
                values, authors, np.ones(50, bool), EVEN, tie_break(np.arange(50), viewer, seed)
            ).order.tolist()
        )
        for viewer in (1, 2)
        for seed in (0, 1)
    }
    assert len(set(orders.values())) == 4


@given(npst.arrays(np.int64, st.integers(0, 60), elements=st.integers(-3, 3)))
def test_earlier_equals_are_counted(ids: np.ndarray) -> None:
    expected = [ids[:index].tolist().count(value) for index, value in enumerate(ids.tolist())]
    assert earlier_of_same(ids).tolist() == expected


def test_shipped_profiles_are_valid() -> None:
    profiles = read_profiles(Path("services/ranker/weights.yaml"))
    assert profiles["default"].out_of_network == 0.75


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("reach: {}", "no profile default"),
        ("default: {actions: {love: 1}}", "profile default weighs unknown actions love"),
        ("default: {actions: {like: 101}, out_of_network: 1, author_decay: 0.5, author_floor: 0,"
         " max_age_hours: 1}", r"profile default: actions\[like\] is 101, 0 to 100"),
        ("default: {actions: {like: 1}, out_of_network: 0, author_decay: 0.5, author_floor: 0,"
         " max_age_hours: 1}", "out_of_network is 0, above 0 to 1"),
        ("default: {actions: {like: 1}, colour: 3}", "profile default: .*colour"),
    ],
)  # fmt: skip
def test_bad_profiles_stop_the_start(tmp_path: Path, entry: str, message: str) -> None:
    path = tmp_path / "weights.yaml"
    path.write_text(entry)
    with pytest.raises(ValueError, match=message):
        read_profiles(path)
