"""Triton's own load tool, unchanged, against our server: run where the machine has it.

Its wheel (PyPI, perf-analyzer 2.60.0) wants a newer C library than Debian 12's: there, name the
command in PERF_ANALYZER with the loader before it, such as
`ROOT/ld-linux-x86-64.so.2 --library-path ROOT perf_analyzer`.
"""

import asyncio
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.serving.oip.serve_process import serve
from tests.serving.tiny_models import write_linear

COMMAND = shlex.split(os.environ.get("PERF_ANALYZER", shutil.which("perf_analyzer") or ""))

pytestmark = [
    pytest.mark.prove,
    pytest.mark.skipif(not COMMAND, reason="no perf_analyzer: PERF_ANALYZER may name it"),
]


@pytest.mark.parametrize(
    "load", [("--concurrency-range", "2:2"), ("--request-rate-range", "50:50")]
)
async def test_perf_analyzer_measures_and_reads_our_statistics(
    load: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "linear" / "1").mkdir(parents=True)
    write_linear(tmp_path / "linear" / "1" / "model.onnx")
    async with serve(tmp_path) as served:
        asks = ("-m", "linear", "-i", "grpc", "-u", served.target, "-b", "3", *load)
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, *asks, "--measurement-interval", "1000", "-s", "95"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
        assert await served.stop() == 0
    assert process.returncode == 0, output
    requests, rows = _figure("Successful request count", output), _figure("Inference count", output)
    assert (requests > 0, rows) == (True, 3 * requests), output
    assert _figure("compute infer", output) >= 0


def _figure(name: str, output: str) -> int:
    found = re.search(rf"{name}:? (\d+)", output)
    assert found, output
    return int(found[1])
