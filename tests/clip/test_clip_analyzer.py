"""What a picture's thread does for a caller who leaves while it decodes."""

import asyncio
import threading
from typing import Any

import pytest

from services.clip import analyzer as module
from services.clip.analyzer import Analyzer
from services.clip.config import ClipConfig
from services.clip.frame import Frame, read_frame
from serving.media import sample_image


async def test_a_picture_whose_caller_has_gone_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, gone, measured = threading.Event(), threading.Event(), list[object]()

    def read_slowly(*arguments: Any) -> Frame:
        reading.set()
        gone.wait()
        return read_frame(*arguments)

    async with Analyzer.open(ClipConfig(detect="never", cache_bytes=0)) as analyzer:
        monkeypatch.setattr(module, "read_frame", read_slowly)
        monkeypatch.setattr(Analyzer, "_measure", lambda _, pixels: measured.append(pixels))
        asking = asyncio.create_task(analyzer.analyze(sample_image()))
        await asyncio.to_thread(reading.wait)
        asking.cancel()
        await asyncio.wait([asking])
        gone.set()
    assert asking.cancelled()  # and the threads have ended with their work
    assert measured == []
