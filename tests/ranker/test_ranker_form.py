"""A ranker that learned from posts whose form mattered: what it says of a link, and what not."""

import csv
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from fomofeed.ranker.v1 import ranker_service_pb2_grpc as pb_grpc
from services.ranker.config import RankerConfig
from services.ranker.fit import log_linear
from services.ranker.own import JOB
from services.ranker.scorer import Scorer
from services.ranker.servicer import RankerServicer
from services.ranker.weights import read_profiles
from serving.form import FORM
from serving.models.artifacts import open_artifact
from serving.models.build import build
from serving.training.command import main
from simulation.audience import Family
from tests.serving.training.own_events import write_own_events

ROOT = Path(__file__).parents[2]
LINK, MENTION = " https://a.example/x", " @ana"
KNOWN: dict[str, Any] = {"quality_score": 6.0, "hour_of_week": 43, "follower_count": 900}
Change = Callable[[np.random.Generator, dict[str, str]], None]


def links_lose_half(rng: np.random.Generator, post: dict[str, str]) -> None:
    """Half the posts get a link, a third are replies; each costs half the actions."""
    has_link, post["is_reply"] = rng.random() < 0.5, str(int(rng.random() < 1 / 3))
    share = (0.5 if has_link else 1.0) * (0.5 if post["is_reply"] == "1" else 1.0)
    post["caption"] += LINK * has_link
    for action in ("like", "comment", "share", "follow"):
        post[action] = str(rng.binomial(int(post[action]), share))


def without_captions(rng: np.random.Generator, post: dict[str, str]) -> None:
    post["caption_length"] = str(len(post.pop("caption")))


def trained(folder: Path, change: Change) -> Path:
    """Returns a repository whose second version learned from changed posts."""
    models, path = folder / "models", folder / "own.csv"
    build(ROOT / "services/ranker/manifests/feed-ranker.yaml", models, folder / "packages", {})
    write_own_events(path, creators=75, posts_each=40, family=Family.B, seed=6)
    rng = np.random.default_rng(7)
    with path.open(encoding="utf-8", newline="") as file:
        posts = list(csv.DictReader(file))
    for post in posts:
        change(rng, post)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(posts[0]))
        writer.writeheader()
        writer.writerows(posts)
    arguments = ["train", "--anyway", "--events", str(path), "--repository", str(models)]
    assert main(JOB, arguments) == 0
    return models


@pytest.fixture(scope="module")
def of_links(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("links"), links_lose_half)


@pytest.fixture(scope="module")
def of_numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("numbers"), without_captions)


@pytest.fixture
async def serve(serving_on: Any) -> AsyncIterator[Callable[[Path], Any]]:
    profiles = read_profiles(ROOT / "services/ranker/weights.yaml")
    opened: list[Scorer] = []

    async def start(models: Path) -> Any:
        scorer = await Scorer(RankerConfig(model_repository=models)).__aenter__()
        opened.append(scorer)
        add = pb_grpc.add_RankerServiceServicer_to_server
        running = await serving_on([(add, RankerServicer(scorer, profiles))])
        return pb_grpc.RankerServiceStub(running.channel)

    yield start
    for scorer in opened:
        await scorer.__aexit__(None, None, None)


def draft(caption: str = "", **more: Any) -> pb.ScorePostRequest:
    return pb.ScorePostRequest(caption=caption.rjust(80, "x"), **KNOWN, **more)


def effects(answer: pb.ScorePostResponse) -> dict[str, float]:
    return {part.feature: part.effect for part in answer.contributions}


async def test_a_link_and_a_reply_lower_the_score_by_what_they_were_seen_to_cost(
    serve: Callable[[Path], Any], of_links: Path
) -> None:
    stub = await serve(of_links)
    plain = await stub.ScorePost(draft(is_reply=False))
    linked = await stub.ScorePost(draft(LINK, is_reply=False))
    answering = await stub.ScorePost(draft(is_reply=True))
    for costly, name in ((linked, "link_count"), (answering, "is_reply")):
        ratio = costly.actions[0].probability / plain.actions[0].probability
        assert ratio == pytest.approx(0.5, abs=0.08)
        assert costly.engagement_score < plain.engagement_score - 10
        assert effects(costly)[name] < -5 < 0 < effects(plain)[name]
        base = costly.engagement_score - sum(effects(costly).values())
        assert base == pytest.approx(plain.engagement_score - sum(effects(plain).values()), abs=0.1)


async def test_an_unknown_form_stands_between_and_says_so(
    serve: Callable[[Path], Any], of_links: Path
) -> None:
    stub = await serve(of_links)
    unknown = await stub.ScorePost(draft())
    told = [(await stub.ScorePost(draft(is_reply=flag))).engagement_score for flag in (True, False)]
    assert told[0] < unknown.engagement_score < told[1]
    assert "is_reply_unknown" in effects(unknown)


async def test_what_posts_did_not_tell_moves_nothing_and_is_named(
    serve: Callable[[Path], Any], of_links: Path
) -> None:
    """Nobody is mentioned and nobody shouts in the file."""
    stub = await serve(of_links)
    plain, calling = [await stub.ScorePost(draft(text)) for text in ("", MENTION + " LOOK")]
    assert list(plain.unlearned_inputs) == ["mention_count", "caps_share"]
    assert not effects(plain).keys() & set(plain.unlearned_inputs)
    assert calling == plain
    card = (open_artifact(of_links, "feed-ranker").path.parent / "card.md").read_text()
    assert "so not learned: mention_count, caps_share" in card


async def test_a_file_without_form_teaches_none_of_it(
    serve: Callable[[Path], Any], of_numbers: Path
) -> None:
    stub = await serve(of_numbers)
    plain = await stub.ScorePost(draft())
    assert list(plain.unlearned_inputs) == ["is_reply", *FORM]
    assert await stub.ScorePost(draft(LINK + MENTION, is_reply=True)) == plain


async def test_a_feed_is_ordered_by_the_form_of_its_posts(
    serve: Callable[[Path], Any], of_links: Path
) -> None:
    stub = await serve(of_links)
    request = pb.RankFeedRequest(
        post_ids=[1, 2, 3],
        author_ids=[1, 2, 3],
        feature_names=["quality_score", "link_count", "is_reply"],
        features=np.array([[6, 1, 1], [6, 1, 0], [6, 0, 0]], "<f4").tobytes(),
    )
    assert [post.post_id for post in (await stub.RankFeed(request)).posts] == [3, 2, 1]


async def test_no_draft_depends_on_the_form_of_its_batch_mates(
    serve: Callable[[Path], Any], of_links: Path
) -> None:
    rng = np.random.default_rng(8)
    parts = [LINK, MENTION, " LOOK", " שלום", " 😀", " word", " a@b.example", " www."]
    drafts = [
        draft("".join(rng.choice(parts, rng.integers(0, 9)).tolist()), is_reply=reply)
        for reply in (None, True, False) * 20
    ]
    stub = await serve(of_links)
    batch = await stub.BatchScorePosts(pb.BatchScorePostsRequest(requests=drafts))
    for request, result in zip(drafts, batch.results, strict=True):
        alone, together = await stub.ScorePost(request), result.response
        assert together.engagement_score == pytest.approx(alone.engagement_score, abs=1e-4)
        assert effects(together) == pytest.approx(effects(alone), abs=1e-4)
        rates = [[action.probability for action in a.actions] for a in (alone, together)]
        assert rates[0] == pytest.approx(rates[1], abs=1e-6)


@pytest.mark.parametrize(("seen", "at_least", "at_most"), [(3, 0.2, 0.45), (300, 0.67, 0.7)])
def test_an_effect_counts_as_much_as_posts_have_shown_it(
    seen: int, at_least: float, at_most: float
) -> None:
    """Posts with a flag gain twice as much (log .69): of three posts that is half believed."""
    flag = (np.arange(1000) < seen).astype(float)
    design = np.column_stack([flag, np.ones(1000)])
    weight, _ = log_linear(design, 1.0 + flag, np.ones(1000))
    assert at_least < weight < at_most
