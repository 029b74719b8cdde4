import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from services.ranker.features import (
    COLUMN_COUNT,
    INPUTS,
    MAY_BE_UNKNOWN,
    RANGES,
    UNKNOWN,
    columns_of,
    fingerprint,
    probes,
    to_rows,
    unlearned,
)
from services.ranker.learn import columns
from services.ranker.posts import to_columns
from serving.form import FORM
from simulation.audience import Family
from simulation.feed import FeedTable, draw_feed


def one(**inputs: float) -> np.ndarray:
    return to_rows({name: np.array([value]) for name, value in inputs.items()}, 1)


def as_request(feed: FeedTable, row: int) -> pb.ScorePostRequest:
    return pb.ScorePostRequest(
        quality_score=feed.quality_score[row],
        hour_of_week=int(feed.hour_of_week[row]),
        follower_count=int(feed.follower_count[row]),
        avg_engagement=feed.avg_engagement[row],
        content_type="moment" if feed.is_moment[row] else "post",
        has_video=bool(feed.has_video[row]),
        caption="x" * int(feed.caption_length[row]),
        tags=["tag"] * int(feed.tag_count[row]),
    )


def test_a_thousand_posts_have_the_same_features_in_training_and_in_serving() -> None:
    feed = draw_feed(np.random.default_rng(1), 50, 20, Family.A)
    served = to_rows(to_columns([as_request(feed, row) for row in range(1000)]), 1000)
    formless = {name: np.zeros(1000) for name in FORM}  # nothing but letters in the captions
    assert np.array_equal(served, to_rows(columns(feed) | formless, 1000))


@pytest.mark.parametrize("name", MAY_BE_UNKNOWN)
def test_left_out_and_unknown_are_the_same(name: str) -> None:
    known = {other: float(np.mean(RANGES[other])) for other in INPUTS if other != name}
    left_out = one(**known)
    assert np.array_equal(left_out, one(**known, **{name: UNKNOWN}))
    assert not np.array_equal(left_out, one(**known, **{name: 0.0}))


def test_absent_fields_of_a_request_are_unknown() -> None:
    found = to_columns([pb.ScorePostRequest(hour_of_week=0)])
    assert (found["quality_score"][0], found["hour_of_week"][0]) == (UNKNOWN, 0.0)
    replies = [pb.ScorePostRequest(is_reply=flag) for flag in (None, False, True)]
    assert to_columns(replies)["is_reply"].tolist() == [UNKNOWN, 0.0, 1.0]


def test_the_form_of_a_caption_is_counted_and_never_unknown() -> None:
    captions = ["", "LOOK at https://a.example @ana @bob"]
    found = to_columns([pb.ScorePostRequest(caption=caption) for caption in captions])
    assert found["link_count"].tolist() == [0.0, 1.0]
    assert found["mention_count"].tolist() == [0.0, 2.0]
    assert found["caps_share"].tolist() == [0.0, 4 / 6]


def test_what_moves_no_answer_was_not_learned() -> None:
    rows = probes()
    moved = rows[:, columns_of("link_count")].sum(axis=1, keepdims=True)
    assert unlearned({"score": moved}) == tuple(name for name in INPUTS if name != "link_count")
    assert unlearned({"score": moved, "reach": rows}) == ()


@given(
    name=st.sampled_from(INPUTS), bad=st.sampled_from([float("nan"), float("inf"), float("-inf")])
)
def test_a_value_that_is_not_finite_spoils_its_row_and_no_other(name: str, bad: float) -> None:
    rows = to_rows({name: np.array([0.0, bad, 1.0])}, 3)
    assert np.isnan(rows[1]).all()
    assert np.isfinite(rows[[0, 2]]).all()


@given(st.data())
def test_values_beyond_their_range_count_as_its_end(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(INPUTS))
    low, high = RANGES[name]
    assert np.array_equal(one(**{name: high * 2 + 1}), one(**{name: high}))
    assert np.array_equal(one(**{name: low - 3}), one(**{name: low}))


def test_every_column_belongs_to_one_input() -> None:
    owned = [column for name in INPUTS for column in columns_of(name)]
    assert sorted(owned) == list(range(COLUMN_COUNT))


def test_fingerprint_does_not_hang_on_last_bits() -> None:
    thousandths = probes().astype(np.float64) * 1000
    assert np.abs(np.abs(thousandths - np.floor(thousandths)) - 0.5).min() > 1e-3
    assert probes().std(axis=0).min() > 0  # every column is probed
    assert len(fingerprint()) == 16


def test_neighbouring_hours_meet_across_sunday_midnight() -> None:
    sunday, monday, wednesday = (one(hour_of_week=hour) for hour in (167.0, 0.0, 60.0))
    assert np.abs(sunday - monday).max() < 1.0 < np.abs(monday - wednesday).max()
