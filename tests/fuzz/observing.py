"""What a server process shows from outside: its memory, and the calls that it holds."""

import asyncio
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from cluster.ports import HOST

_IN_FLIGHT = "fomofeed_rpc_in_flight"
_PATIENCE_S = 10.0


def resident_bytes(pid: int) -> int:
    """Memory of a process that is its own: anonymous pages, not the files that it has mapped."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


async def until_idle(metrics_port: int) -> None:
    """Returns when a server holds no call; raises `TimeoutError` when it keeps one."""
    async with asyncio.timeout(_PATIENCE_S):
        while await asyncio.to_thread(_in_flight, metrics_port):
            pass


def _in_flight(metrics_port: int) -> float:
    with urllib.request.urlopen(f"http://{HOST}:{metrics_port}/metrics", timeout=5) as page:
        text = page.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return families[_IN_FLIGHT].samples[0].value
