"""`fomofeed train ranker` and `evaluate ranker` on a file of simulated posts."""

import csv
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from services.ranker.features import fingerprint, to_rows
from services.ranker.learn import columns
from services.ranker.own import JOB, with_past_engagement
from services.ranker.posts import to_columns
from serving.hours import hour_of_week
from serving.models.artifacts import open_artifact
from serving.models.build import build
from serving.training.command import main
from serving.training.posts import read_events
from serving.training.rows import UNKNOWN
from simulation.audience import Family
from tests.serving.training.own_events import write_own_events, write_own_log

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("events") / "own.csv"
    return write_own_events(path, creators=60, posts_each=40, family=Family.B, seed=6)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    manifest = ROOT / "services/ranker/manifests/feed-ranker.yaml"
    build(manifest, tmp_path / "models", tmp_path / "packages", {})
    return tmp_path / "models"


def test_training_publishes_a_better_version_with_card_and_plot(
    models: Path, events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--events", str(events), "--repository", str(models)]
    assert main(JOB, ["train", *arguments]) == 0
    artifact = open_artifact(models, "feed-ranker")
    assert artifact.manifest.version == "2"
    assert not artifact.manifest.experimental  # better beyond chance, on what it had not seen
    assert artifact.manifest.preprocessing == {"features": fingerprint()}
    assert artifact.manifest.inputs == open_artifact(models, "feed-ranker", "1").manifest.inputs
    card = (artifact.path.parent / "card.md").read_text()
    plot = ElementTree.parse(artifact.path.parent / "calibration.svg")
    assert len(plot.findall(".//{http://www.w3.org/2000/svg}circle")) == 40
    capsys.readouterr()
    assert main(JOB, ["evaluate", *arguments]) == 0
    told = capsys.readouterr().out
    assert all(line in told for line in card.splitlines() if line.startswith("- like"))
    shutil.rmtree(artifact.path.parent)
    assert open_artifact(models, "feed-ranker").manifest.version == "1"


def test_card_says_that_places_and_propensities_were_taken_out(
    models: Path, tmp_path: Path, events: Path
) -> None:
    log = write_own_log(tmp_path / "log.csv", creators=350, posts_each=20, seed=7)
    arguments = ["train", "--anyway", "--repository", str(models), "--events"]
    assert main(JOB, [*arguments, str(log)]) == 0
    card = (open_artifact(models, "feed-ranker").path.parent / "card.md").read_text()
    assert "- place in the feed taken out (100% known): 10th / 1st 0." in card
    assert "- weighed by inverse propensity: as good as" in card
    assert main(JOB, [*arguments, str(events)]) == 0
    card = (open_artifact(models, "feed-ranker").path.parent / "card.md").read_text()
    assert "- no places and no propensities in the file" in card


def test_a_thousand_own_posts_have_the_same_features_as_their_requests(tmp_path: Path) -> None:
    path = write_own_events(tmp_path / "own.csv", 50, 20, Family.A, seed=8)
    with path.open(encoding="utf-8") as file:
        lines = sorted(csv.DictReader(file), key=lambda line: line["post_time"])
    requests = [
        pb.ScorePostRequest(
            quality_score=float(line["quality_score"]),
            hour_of_week=hour_of_week(datetime.fromisoformat(line["post_time"]), ZoneInfo("UTC")),
            follower_count=int(float(line["follower_count"])),
            content_type=line["content_type"],
            has_video=line["has_video"] == "1",
            caption=line["caption"],
            tags=["tag"] * int(float(line["tag_count"])),
        )
        for line in lines
    ]
    learned_from = to_rows(columns(read_events(path).posts), 1000)
    served = to_rows(to_columns(requests), 1000)
    assert np.array_equal(np.unique(served, axis=0), np.unique(learned_from, axis=0))


def test_past_engagement_knows_nothing_of_the_post_itself(events: Path) -> None:
    posts = read_events(events).posts
    filled = with_past_engagement(posts).avg_engagement
    mine = np.flatnonzero(posts.creator == 3)
    assert filled[mine[0]] == UNKNOWN
    before = mine[:7]
    rate = posts.actions[before].sum() / posts.reach[before].sum()
    assert filled[mine[7]] == pytest.approx(rate)


def no_early_shares(rows: list[list[str]]) -> None:
    for row in sorted(rows, key=lambda row: row[1])[: len(rows) * 7 // 10]:
        row[5] = "0"


def everybody_likes(rows: list[list[str]]) -> None:
    for row in rows:
        row[3] = row[2]


def no_impressions(rows: list[list[str]]) -> None:
    for row in rows:
        row[2] = ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_early_shares, "own.csv has no share in its first 720 posts, at least one of each"),
        (everybody_likes, "own.csv has a like for every impression: nothing to tell apart"),
        (no_impressions, "own.csv has 0 posts with impressions, at least 1,000"),
    ],
)
def test_posts_that_teach_nothing_are_refused_in_words(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[list[list[str]]], None],
    message: str,
) -> None:
    path = write_own_events(tmp_path / "own.csv", 60, 20, Family.A, seed=9)
    header, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    change(rows)
    lines = [",".join(row) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(JOB, ["train", "--events", str(path), "--repository", str(models)]) == 1
    assert f"fomofeed train: {message}\n" == capsys.readouterr().err
    assert open_artifact(models, "feed-ranker").manifest.version == "1"


def test_later_posts_without_an_action_are_told_and_not_measured(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_own_events(tmp_path / "own.csv", 60, 20, Family.A, seed=9)
    header, *rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    for row in rows:
        row[2:7] = ["5", "5", "0", "9", "0"]
    lines = [",".join(row) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(JOB, ["evaluate", "--events", str(path), "--repository", str(models)]) == 0
    told = capsys.readouterr().out
    assert "1,200 posts have more actions than impressions: no more than those count" in told
    assert "- like: 1,200 seen, too many to measure" in told
    assert "- comment: 0 seen, too few to measure" in told


@pytest.mark.parametrize("what", ["train", "evaluate"])
def test_a_version_of_other_features_is_not_measured(
    models: Path, events: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    manifest = models / "feed-ranker" / "1" / "manifest.yaml"
    manifest.write_text(manifest.read_text() + "preprocessing: {features: 0123456789abcdef}\n")
    assert main(JOB, [what, "--events", str(events), "--repository", str(models)]) == 1
    assert "feed-ranker 1 was learned from features 0123456789abcdef" in capsys.readouterr().err


def test_what_cannot_be_written_is_named(
    models: Path, tmp_path: Path, events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "nowhere" / "told.svg"
    arguments = ["--events", str(events), "--repository", str(models), "--plot", str(plot)]
    assert main(JOB, ["evaluate", *arguments]) == 1
    assert capsys.readouterr().err == f"fomofeed evaluate: {plot}: No such file or directory\n"
