"""What is running, on disk, so that `down` and `status` find what `up` started.

The lock says whether a cluster runs: the kernel frees it when the supervisor ends, however it
ends. The state file says which processes it has; after a supervisor was killed it names orphans.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cluster.errors import CommandError
from cluster.procfs import ProcessId

STATE_FILE = "cluster.json"
LOCK_FILE = "cluster.lock"


@dataclass(frozen=True, slots=True)
class ServerState:
    """One server as its supervisor last saw it."""

    process: ProcessId
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A supervisor, its ports and its servers by name."""

    supervisor: ProcessId
    port_base: int
    metrics_base: int
    servers: dict[str, ServerState] = field(default_factory=dict)

    def is_running(self) -> bool:
        return self.supervisor.is_running()

    def orphans(self) -> dict[str, ProcessId]:
        """Servers that outlived a supervisor that was killed."""
        if self.is_running():
            return {}
        return {
            name: server.process
            for name, server in self.servers.items()
            if server.process.is_running()
        }

    def write(self, folder: Path) -> None:
        """Replaces the state file at once, so that a reader never sees half of it."""
        fresh = folder / f"{STATE_FILE}.new"
        fresh.write_text(json.dumps(asdict(self), indent=1))
        fresh.replace(folder / STATE_FILE)


def read_state(folder: Path) -> ClusterState | None:
    """The last state written there; none where no cluster ever ran or the file is unreadable."""
    try:
        document = json.loads((folder / STATE_FILE).read_text())
        return _parse(document)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def forget_state(folder: Path) -> None:
    (folder / STATE_FILE).unlink(missing_ok=True)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder`. Raises `CommandError` naming the supervisor that has it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            state = read_state(folder)
            who = f" (supervisor {state.supervisor.pid})" if state else ""
            raise CommandError(
                f"a cluster already runs here{who}: `fomofeed status` shows it, "
                "`fomofeed down` stops it"
            ) from None
        yield
    finally:
        os.close(handle)


def _parse(document: dict[str, Any]) -> ClusterState:
    servers = {
        name: ServerState(ProcessId(**server["process"]), server["restarts"])
        for name, server in document["servers"].items()
    }
    return ClusterState(
        ProcessId(**document["supervisor"]),
        document["port_base"],
        document["metrics_base"],
        servers,
    )
