"""The profile server as a process of its own, and the requests that bring it simulated traffic."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fomofeed.profile.v1 import profile_service_pb2 as pb
from services.profile.events import Message


@contextmanager
def server(database: str) -> Iterator[tuple[str, int]]:
    """Runs the service over a database; yields its address and its process."""
    environment = {
        **os.environ,
        "FOMOFEED_PROFILE_DATABASE": database,
        "FOMOFEED_PROFILE_SEED_DEMO_USERS": "false",
        "FOMOFEED_PROFILE_LAME_DUCK_S": "0",
    }
    command = [sys.executable, "-m", "services.profile"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            lines = (re.search(r"listening on (\S+)", line) for line in process.stderr)
            yield next(filter(None, lines))[1], process.pid
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def requests_of(messages: Iterable[Message]) -> list[pb.IngestEventsRequest]:
    """Returns messages as a client sends them; all weights are 1."""
    requests = []
    for message in messages:
        request = pb.IngestEventsRequest(request_id=message.request_id)
        for action in message.actions:
            event = request.events.add(
                kind=action.kind,  # type: ignore[arg-type]  # a number of the same enumeration
                user_id=action.user_id,
                post_id=action.post_id,
            )
            event.event_time.FromMicroseconds(action.event_us)
        requests.append(request)
    return requests
