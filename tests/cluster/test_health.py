import asyncio
from pathlib import Path

import pytest

from cluster.health import ask, until_serving
from serving.rpc.server import Server, ServerConfig


def sockets_to(port: int) -> int:
    """TCP connections of this machine towards `port`, as the kernel lists them."""
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in (Path("/proc/net") / table).read_text().splitlines()[1:]
    ]
    established = "01"
    return sum(
        int(fields[2].rsplit(":", 1)[1], 16) == port and fields[3] == established
        for fields in lines
    )


async def test_a_server_that_begins_to_serve_is_noticed_and_then_left_alone() -> None:
    stop = asyncio.Event()
    config = ServerConfig(metrics_port=None, lame_duck_s=0.0)
    async with Server(config, "test", []) as server:
        target = f"127.0.0.1:{server.port}"
        waiting = asyncio.create_task(until_serving(target))
        assert await ask(target) == "NOT_SERVING"
        serving = asyncio.create_task(server.serve(stop))
        await waiting
        assert await ask(target) == "SERVING"
        stop.set()
        await serving
    assert sockets_to(server.port) == 0


async def test_a_server_that_is_not_there_gives_no_answer() -> None:
    assert await ask("127.0.0.1:1") == "no answer"


async def test_waiting_for_a_server_that_never_comes_can_be_ended() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(until_serving("127.0.0.1:1"), 0.05)
