"""`fomofeed train timing` and `evaluate timing` on a file of simulated posts."""

import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from services.timing.own import JOB, learn
from services.timing.own_measure import curves_of, foretell, spearman
from services.timing.prior_file import Trained, read
from serving.models.artifacts import open_artifact
from serving.training.command import main
from serving.training.posts import read_events, split_by_time
from simulation.audience import Family
from tests.serving.training.own_events import write_own_events


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("events") / "own.csv"
    return write_own_events(path, creators=60, posts_each=60, family=Family.B, seed=5)


@pytest.fixture
def own_repository(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository, tmp_path / "models"))


def test_training_publishes_the_next_version_with_card_and_plot(
    own_repository: Path, events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--events", str(events), "--repository", str(own_repository)]
    assert main(JOB, ["train", "--anyway", *arguments]) == 0
    artifact = open_artifact(own_repository, "posting-times")
    assert artifact.manifest.version == "2"
    assert artifact.manifest.trained_on.startswith("own events: 3,600 posts of 60 creators")
    assert read(artifact.path).prior.weights.sum() == pytest.approx(1.0)
    card = (artifact.path.parent / "card.md").read_text()
    assert "rank correlation within a creator" in card
    ElementTree.parse(artifact.path.parent / "calibration.svg")
    assert main(JOB, ["evaluate", *arguments]) == 0
    lines = [line for line in card.splitlines() if line.startswith("- rank correlation")]
    assert lines[0] in capsys.readouterr().out


def test_what_does_worse_on_later_posts_is_not_published(
    own_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Creators whose hours turn round at the split: to have learned from the past must hurt."""
    lines = ["user_id,post_time,engagements"]
    for post in range(100):
        is_late, is_evening = post >= 80, post % 2 == 0
        gained = 90 if is_evening != is_late else 10
        when = f"2026-{1 + post // 28:02}-{1 + post % 28:02}T{20 if is_evening else 8:02}:00:00Z"
        lines += [f"creator {k},{when},{gained + k}" for k in range(30)]
    path = tmp_path / "turned.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    arguments = ["train", "--events", str(path), "--repository", str(own_repository)]
    assert main(JOB, arguments) == 1
    assert "nothing published: version 1 does better" in capsys.readouterr().out
    assert open_artifact(own_repository, "posting-times").manifest.version == "1"


def test_too_few_posts_are_refused_in_words(
    own_repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "few.csv"
    path.write_text("user_id,post_time,like\na,2026-05-04T00:00:00Z,3\n", encoding="utf-8")
    arguments = ["train", "--events", str(path), "--repository", str(own_repository)]
    assert main(JOB, arguments) == 1
    assert "few.csv has 0 posts to measure on, at least 30" in capsys.readouterr().err


def test_history_foretells_later_posts(trained: Trained, events: Path) -> None:
    earlier, later = split_by_time(read_events(events).posts, 0.2)
    found = foretell(curves_of(trained.prior, earlier), later)
    assert found.correlation().p10 > 0.1
    assert found.gain().p10 > 0


def test_what_own_posts_cannot_tell_stays_as_it_was(trained: Trained, events: Path) -> None:
    posts = read_events(events).posts
    few, notes = learn(trained, posts.only(slice(None, 40)))
    assert few == trained
    assert notes[0].startswith("- no curves")


def test_rank_correlation_shares_ranks_among_equals() -> None:
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 15.0])) == pytest.approx(0.5)
    assert spearman(np.array([1.0, 1.0, 2.0]), np.array([5.0, 5.0, 7.0])) == pytest.approx(1.0)
    assert spearman(np.ones(3), np.array([1.0, 2.0, 3.0])) == 0.0
