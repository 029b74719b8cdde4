from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fomofeed.clip.v1 import clip_service_pb2 as pb
from fomofeed.clip.v1 import clip_service_pb2_grpc as pb_grpc
from services.clip.photos import Photo, main, photos
from serving.models.packages import fetch

Tags = Sequence[pb.Tag]
OF_CONTENT = {"imagenet", "coco", "faces"}
KINDS = {"illustration", "document"}


async def tags_of(clip: pb_grpc.ClipServiceStub, entries: Sequence[Photo]) -> Mapping[str, Tags]:
    answers = {}
    for entry in entries:
        request = pb.AnalyzeImageRequest(image=fetch(entry.source))
        answers[entry.name] = (await clip.AnalyzeImage(request)).tags
    return answers


def first_of(tags: Tags) -> str:
    """The first tag that says what is in the picture, empty if none does."""
    told = [tag.label for tag in tags if tag.source in OF_CONTENT or tag.label in KINDS]
    return told[0] if told else ""


def judged(entries: Sequence[Photo], found: Mapping[str, Tags]) -> tuple[list[str], list[str]]:
    """Names of the photographs that were answered rightly and wrongly; silence is neither."""
    told = {entry: first_of(found[entry.name]) for entry in entries}
    right = [entry.name for entry, label in told.items() if label and label in entry.expect]
    wrong = [entry.name for entry, label in told.items() if label and label not in entry.expect]
    return right, wrong


def animals_and_food(entries: Sequence[Photo], found: Mapping[str, Tags]) -> list[str]:
    """Pictures of people, art, pages, maps and science that were given such a tag."""
    shown = {
        entry.name: {tag.label for tag in found[entry.name]} for entry in entries if entry.kind
    }
    return [name for name, labels in shown.items() if labels & {"animal", "food"}]


async def test_pictures_that_the_gates_were_set_on_are_answered_rightly_or_not_at_all(
    clip: pb_grpc.ClipServiceStub,
) -> None:
    entries = [*photos(), *photos("labelled")]
    found = await tags_of(clip, entries)
    right, wrong = judged(entries, found)
    assert wrong == []
    assert len(right) >= 18
    assert animals_and_food(entries, found) == []


async def test_held_out_pictures_get_thirteen_of_eighteen_first_tags_right(
    clip: pb_grpc.ClipServiceStub,
) -> None:
    entries = photos("held_out")
    found = await tags_of(clip, entries)
    right, wrong = judged(entries, found)
    assert len(right) + len(wrong) >= 18
    assert len(right) >= 13 / 18 * (len(right) + len(wrong))
    assert animals_and_food(entries, found) == []


async def test_every_tag_says_which_signal_it_comes_from_and_none_says_clip(
    clip: pb_grpc.ClipServiceStub,
) -> None:
    found = await tags_of(clip, [*photos("held_out")[-3:], *photos()[:3]])
    sources = {tag.source for tags in found.values() for tag in tags}
    assert {"imagenet", "coco", "faces"} <= sources <= {"imagenet", "coco", "faces", "pixels"}


def test_held_out_pictures_are_in_no_other_list() -> None:
    others = {entry.source.sha256 for part in ("photos", "labelled") for entry in photos(part)}
    assert not others & {entry.source.sha256 for entry in photos("held_out")}


def test_photographs_are_written_in_the_order_of_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert names == [f"{n:02}-{entry.name}" for n, entry in enumerate(photos(), start=1)]
    assert main(["--out", str(tmp_path)]) == 0
    assert "17 photographs" in capsys.readouterr().out
