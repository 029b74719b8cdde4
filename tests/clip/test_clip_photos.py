from pathlib import Path

import pytest

from fomofeed.clip.v1 import clip_service_pb2 as pb
from fomofeed.clip.v1 import clip_service_pb2_grpc as pb_grpc
from services.clip.photos import main, photos
from tests.clip.conftest import ReadPhoto


async def test_each_photograph_gets_its_first_tag_or_rightly_none(
    clip: pb_grpc.ClipServiceStub, photo: ReadPhoto
) -> None:
    found = {}
    for entry in photos():
        answer = await clip.AnalyzeImage(pb.AnalyzeImageRequest(image=photo(entry.name)))
        labels = [tag.label for tag in answer.tags if tag.source == "imagenet"]
        found[entry.name] = labels[0] if labels else ""
    assert found == {entry.name: entry.expect for entry in photos()}
    assert len(found) >= 10


def test_photographs_are_written_in_the_order_of_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert names == [f"{n:02}-{entry.name}" for n, entry in enumerate(photos(), start=1)]
    assert main(["--out", str(tmp_path)]) == 0
    assert "17 photographs" in capsys.readouterr().out
