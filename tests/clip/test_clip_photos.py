from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.clip.labelled import RIGHT, WRONG, Judged, count, judged
from fomofeed.clip.v1 import clip_service_pb2 as pb
from fomofeed.clip.v1 import clip_service_pb2_grpc as pb_grpc
from services.clip.photos import Photo, main, photos
from services.clip.tags import Tag
from serving.models.packages import fetch


async def results_of(clip: pb_grpc.ClipServiceStub, entries: Sequence[Photo]) -> list[Judged]:
    answers = {}
    for entry in entries:
        request = pb.AnalyzeImageRequest(image=fetch(entry.source))
        told = (await clip.AnalyzeImage(request)).tags
        answers[entry.name] = [Tag(tag.label, tag.probability, tag.source) for tag in told]
    return judged(entries, answers)


async def test_pictures_that_the_gates_were_set_on_are_answered_rightly_or_not_at_all(
    clip: pb_grpc.ClipServiceStub,
) -> None:
    results = await results_of(clip, [*photos(), *photos("labelled")])
    assert count(results, WRONG) == 0
    assert count(results, RIGHT) >= 18
    assert [result.photo.name for result in results if result.is_misled] == []


async def test_held_out_pictures_get_thirteen_of_eighteen_first_tags_right(
    clip: pb_grpc.ClipServiceStub,
) -> None:
    results = await results_of(clip, photos("held_out"))
    answered = count(results, RIGHT) + count(results, WRONG)
    assert answered >= 18
    assert count(results, RIGHT) >= 13 / 18 * answered
    assert [result.photo.name for result in results if result.is_misled] == []


async def test_every_tag_says_which_signal_it_comes_from_and_none_says_clip(
    clip: pb_grpc.ClipServiceStub,
) -> None:
    sources = set()
    for entry in [*photos("held_out")[-3:], *photos()[:3]]:
        answer = await clip.AnalyzeImage(pb.AnalyzeImageRequest(image=fetch(entry.source)))
        sources |= {tag.source for tag in answer.tags}
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
