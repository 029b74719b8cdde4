"""Broken pictures get the typed error of the contract and cost bounded memory."""

from collections import Counter

import grpc
import pytest

from bench.clip.serving import ClipServer, clip_server
from fomofeed.clip.v1 import clip_service_pb2 as pb
from fomofeed.clip.v1 import clip_service_pb2_grpc as pb_grpc
from tests.clip.broken_pictures import broken_pictures, whole
from tests.clip.conftest import ReadPhoto

MAX_ABOVE_IDLE_MB = 200.0
_OPTIONS = [("grpc.max_send_message_length", 16 << 20)]


@pytest.mark.filterwarnings("ignore")  # of Pillow about bad EXIF
async def test_broken_pictures_are_analysed_or_refused_with_a_typed_error(
    clip: pb_grpc.ClipServiceStub,
) -> None:
    refused = 0
    for kind, content in broken_pictures(160, seed=1, with_large=False):
        try:
            answer = await clip.AnalyzeImage(pb.AnalyzeImageRequest(image=content))
        except grpc.aio.AioRpcError as error:
            refused += 1
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, kind
            assert (error.details() or "").startswith("image is "), kind
        else:
            assert 0 <= answer.quality_score <= 10, kind
    assert 60 < refused < 150


@pytest.mark.prove
def test_ten_thousand_broken_pictures_cost_bounded_memory_and_no_crash(photo: ReadPhoto) -> None:
    """One caller. The peak of each file is read; whoever asks n at once pays n times as much.

    Without the detector, which takes time for unknown pictures and looks at 320 px of any.
    """
    told: Counter[str] = Counter()
    with (
        clip_server({"DETECT": "never"}) as server,
        grpc.insecure_channel(server.address, _OPTIONS) as channel,
    ):
        stub = pb_grpc.ClipServiceStub(channel)
        good = pb.AnalyzeImageRequest(image=photo("coffee.png"))
        for content in [*whole() * 3, good.image]:
            stub.AnalyzeImage(pb.AnalyzeImageRequest(image=content))
        expected, idle_mb = stub.AnalyzeImage(good), server.resident_mb()
        worst = {kind: max(peaks) for kind, peaks in peaks_of(server, stub, 10_000, told).items()}
        assert not server.has_ended()
        assert stub.AnalyzeImage(good) == expected
        left_mb = server.resident_mb() - idle_mb
    above = {kind: peak - idle_mb for kind, peak in worst.items()}
    print(f"idle {idle_mb:.0f} MB, left {left_mb:+.0f} MB; {dict(told)}")
    for kind, mb in sorted(above.items(), key=lambda item: -item[1]):
        print(f"{kind}: {mb:+.0f} MB")
    assert max(above.values()) <= MAX_ABOVE_IDLE_MB
    assert left_mb < MAX_ABOVE_IDLE_MB / 2
    assert told["OK"] > 500 and set(told) == {"OK", "INVALID_ARGUMENT"}


def peaks_of(
    server: ClipServer, stub: pb_grpc.ClipServiceStub, count: int, told: Counter[str]
) -> dict[str, list[float]]:
    """Sends the files; returns the memory peaks in MB by kind, and counts answers in `told`."""
    peaks: dict[str, list[float]] = {}
    for kind, content in broken_pictures(count):
        server.forget_peak()
        try:
            stub.AnalyzeImage(pb.AnalyzeImageRequest(image=content))
            told["OK"] += 1
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            assert (error.details() or "").startswith("image is "), (kind, error.details())
            told[error.code().name] += 1
        peaks.setdefault(kind, []).append(server.peak_mb())
    return peaks
