"""`fomofeed train ranker` and `evaluate ranker` on a file of simulated posts."""

import csv
import shutil
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fomofeed.ranker.v1 import ranker_service_pb2 as pb
from services.ranker.features import to_rows
from services.ranker.learn import columns
from services.ranker.own import JOB, with_past_engagement
from services.ranker.posts import to_columns
from serving.hours import hour_of_week
from serving.models.artifacts import open_artifact
from serving.models.build import build
from serving.training.command import main
from serving.training.posts import UNKNOWN, read_events
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
            caption="x" * int(float(line["caption_length"])),
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


def test_a_file_without_impressions_is_refused_in_words(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.csv"
    path.write_text("user_id,post_time,like\na,2026-05-04T00:00:00Z,3\n", encoding="utf-8")
    assert main(JOB, ["train", "--events", str(path), "--repository", str(models)]) == 1
    message = "own.csv has 0 posts with impressions, at least 1,000"
    assert message in capsys.readouterr().err
