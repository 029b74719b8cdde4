"""What `fomofeed train` and `fomofeed evaluate` share: arguments, steps, the verdict."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.models.artifacts import (
    DEFAULT_REPOSITORY,
    Artifact,
    ArtifactError,
    open_artifact,
)
from serving.training.cells import EventsError
from serving.training.posts import EventsFile, read_events, trained_on
from serving.training.release import CARD_FILE, PLOT_FILE, Release, release

LATER_SHARE = 0.2  # of the posts, the latest: for the measures alone
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model does on the later posts: report lines and the picture of told and seen."""

    lines: Sequence[str]
    plot: str


@dataclass(frozen=True, slots=True)
class Job:
    """How one kind of model is trained and measured; both raise `EventsError`.

    `train` gets the artifact that it follows, and also returns whether the later posts speak for
    what it made. `evaluate` measures an artifact on the later posts.
    """

    artifact: str
    train: Callable[[Artifact, EventsFile, Say], tuple[Release, bool]]
    evaluate: Callable[[Artifact, EventsFile, Say], Measured]


def main(job: Job, arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 1 where nothing could be made, said in words."""
    options = _parse(job, arguments)
    try:
        events = read_events(options.events, _say)
        _say(f"read {trained_on(events)}")
        version = options.version if options.what == "evaluate" else None
        before = open_artifact(options.repository, job.artifact, version)
        if options.what == "evaluate":
            _evaluate(job, before, events, options.plot)
            return 0
        return _train(job, before, events, options)
    except (EventsError, ArtifactError) as error:
        print(f"fomofeed {options.what}: {error}", file=sys.stderr)
    except OSError as error:  # of what is written
        print(f"fomofeed {options.what}: {error.filename}: {error.strerror}", file=sys.stderr)
    return 1


def _train(job: Job, before: Artifact, events: EventsFile, options: argparse.Namespace) -> int:
    made, is_better = job.train(before, events, _say)
    print("\n".join(["", *made.card, ""]))
    if not (is_better or options.anyway):
        reason = f"version {before.manifest.version} does better on the later posts"
        _say(f"nothing published: {reason} (--anyway publishes all the same)")
        return 1
    artifact = release(options.repository, before.manifest, events, made)
    folder = artifact.path.parent
    _say(f"published {artifact.manifest.name} {artifact.manifest.version} in {folder}")
    _say(f"see {CARD_FILE} and {PLOT_FILE} there; `fomofeed models reload` serves it")
    return 0


def _evaluate(job: Job, artifact: Artifact, events: EventsFile, plot: Path | None) -> None:
    measured = job.evaluate(artifact, events, _say)
    print("\n".join(["", f"{job.artifact} {artifact.manifest.version}:", *measured.lines]))
    if plot is not None:
        plot.write_text(measured.plot, encoding="utf-8")
        _say(f"wrote {plot}")


def _parse(job: Job, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fomofeed",
        description=f"Trains or evaluates {job.artifact} on posts of your own.",
        epilog="The file's columns: serving/training/posts.py, or docs/training.md.",
    )
    commands = parser.add_subparsers(dest="what", required=True)
    train = commands.add_parser("train", help="learn from the earlier posts, publish a version")
    train.add_argument("--anyway", action="store_true", help="publish even what does worse")
    evaluate = commands.add_parser("evaluate", help="measure a version on the later posts")
    evaluate.add_argument("--version", help="of the repository (default the highest)")
    evaluate.add_argument("--plot", type=Path, metavar="SVG", help="draw told against seen")
    for command in (train, evaluate):
        command.add_argument("--events", type=Path, required=True, metavar="FILE")
        command.add_argument("--repository", type=Path, default=DEFAULT_REPOSITORY)
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, flush=True)
