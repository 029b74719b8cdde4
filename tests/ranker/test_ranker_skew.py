"""The same thousand posts by the path of training and by the two paths of serving."""

import csv
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from services.ranker.candidates import read_candidates
from services.ranker.features import INPUTS, UNKNOWN, columns_of, to_rows
from services.ranker.learn import columns
from services.ranker.posts import to_columns
from serving.engines.onnx import OnnxEngine
from serving.form import FORM, form_of
from serving.training.posts import read_events
from tests.ranker.test_ranker_server import Stub, ranker  # noqa: F401  # a fixture

ZONES = ("America/Sao_Paulo", "Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe", "UTC")
START = datetime(2026, 1, 5, 0, 7, tzinfo=UTC)
COUNT = 1000
HEADER = (
    *("user_id", "post_time", "time_zone", "like", "quality_score", "follower_count"),
    *("avg_engagement", "content_type", "has_video", "caption", "tag_count", "is_reply"),
)
WORDS = (
    *(
        "é",
        "SALE",
        "https://a.example/x",
        "www.b.example",
        "@ana",
        "ana@c.example",
        "שלום",
        "👩‍👩‍👧",
    ),
    *("youtu.be/x", "don't", '"quoted,"', "two\nlines", " ", "#tag", "@@x", "Ⅷ"),
)


@dataclass(frozen=True, slots=True)
class Post:
    """What is known of a post; None = unknown."""

    local: datetime
    quality: float | None
    followers: int | None
    engagement: float | None
    is_moment: bool
    has_video: bool
    caption: str
    tag_count: int
    is_reply: bool | None

    @property
    def hour(self) -> int:
        return self.local.weekday() * 24 + self.local.hour

    def cells(self) -> list[object]:
        unsure = (self.quality, self.followers, self.engagement, self.is_reply)
        *known, is_reply = ("" if value is None else value for value in unsure)
        kind = "moment" if self.is_moment else "post"
        rest = (kind, int(self.has_video), self.caption, self.tag_count, is_reply)
        return ["a", self.local.isoformat(), self.local.tzinfo, 1, *known, *rest]

    def request(self) -> pb.ScorePostRequest:
        return pb.ScorePostRequest(
            quality_score=self.quality,
            hour_of_week=self.hour,
            follower_count=self.followers,
            avg_engagement=self.engagement,
            content_type="moment" if self.is_moment else "",
            has_video=self.has_video,
            caption=self.caption,
            tags=["tag"] * self.tag_count,
            is_reply=self.is_reply,
        )

    def inputs(self) -> list[float]:
        optional = (self.quality, self.hour, self.followers, self.engagement, self.is_reply)
        *known, is_reply = (UNKNOWN if value is None else value for value in optional)
        plain = (self.is_moment, self.has_video, len(self.caption), self.tag_count)
        form = form_of(self.caption)
        return [*known, *plain, is_reply, *(getattr(form, name) for name in FORM)]


def as_feed(posts: list[Post]) -> pb.RankFeedRequest:
    return pb.RankFeedRequest(
        post_ids=range(COUNT),
        author_ids=range(COUNT),
        feature_names=INPUTS,
        features=np.array([post.inputs() for post in posts], "<f4").tobytes(),
        page_size=COUNT,
        explain=True,
    )


@pytest.fixture(scope="module")
def posts() -> list[Post]:
    """A post every nine hours for a year, each in one of five zones, some things unknown."""
    rng = np.random.default_rng(17)

    def known(value: float) -> float | None:
        return None if rng.random() < 0.1 else value

    def one(number: int) -> Post:
        followers = known(float(int(rng.lognormal(7, 2))))
        return Post(
            local=(START + timedelta(hours=9 * number)).astimezone(ZoneInfo(ZONES[number % 5])),
            quality=known(float(rng.uniform(0, 10))),
            followers=None if followers is None else int(followers),
            engagement=known(float(rng.uniform(0, 0.3))),
            is_moment=bool(rng.random() < 0.3),
            has_video=bool(rng.random() < 0.3),
            caption=" ".join(rng.choice(WORDS, rng.integers(0, 40)).tolist()),
            tag_count=int(rng.integers(0, 12)),
            is_reply=None if rng.random() < 0.1 else bool(rng.random() < 0.3),
        )

    return [one(number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def learned_from(posts: list[Post], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The features that training makes of a file of these posts."""
    path = tmp_path_factory.mktemp("skew") / "own.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *(post.cells() for post in posts)])
    return to_rows(columns(read_events(path).posts), COUNT)


def test_drafts_and_candidates_have_the_features_that_training_saw(
    posts: list[Post], learned_from: np.ndarray
) -> None:
    """Those too of which the shipped model has learned nothing, and no answer could tell."""
    drafts = to_rows(to_columns([post.request() for post in posts]), COUNT)
    assert np.array_equal(drafts, learned_from)
    candidates = to_rows(read_candidates(as_feed(posts)).features(), COUNT)
    assert np.abs(candidates - learned_from).max() <= 1e-6  # they travel as float32
    assert all(learned_from[:, columns_of(name)[0]].std() > 0 for name in ("is_reply", *FORM))


async def test_drafts_are_answered_as_training_saw_them(
    ranker: Stub,  # noqa: F811
    engine: OnnxEngine,
    posts: list[Post],
    learned_from: np.ndarray,
) -> None:
    told = engine.infer({"rows": learned_from})
    batch = pb.BatchScorePostsRequest(requests=[post.request() for post in posts])
    served = [result.response for result in (await ranker.BatchScorePosts(batch)).results]
    assert [r.engagement_score for r in served] == told["score"][:, 0].tolist()
    assert [r.confidence for r in served] == told["confidence"][:, 0].tolist()
    assert [[a.probability for a in r.actions] for r in served] == told["actions"].tolist()
    assert [[r.reach.p10, r.reach.p50, r.reach.p90] for r in served] == told["reach"].tolist()


async def test_candidates_are_answered_as_training_saw_them(
    ranker: Stub,  # noqa: F811
    engine: OnnxEngine,
    posts: list[Post],
    learned_from: np.ndarray,
) -> None:
    """Features travel as float32, so the last of its digits may differ."""
    served = {post.post_id: post for post in (await ranker.RankFeed(as_feed(posts))).posts}
    actions = [[a.probability for a in served[index].actions] for index in range(COUNT)]
    told = engine.infer({"rows": learned_from})["actions"]
    assert np.abs(np.array(actions) - told).max() <= 1e-6
