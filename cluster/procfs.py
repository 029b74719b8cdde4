"""What Linux tells about processes and ports under `/proc`.

A pid alone names nobody: after a while it is given to another process. With its start time it
does, so every pid that this command keeps on disk has its start time beside it.
"""

import os
import select
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, never another that got its pid later."""

    pid: int
    start_time: int  # clock ticks since boot, field 22 of /proc/<pid>/stat

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Raises `ProcessLookupError` when there is no such process."""
        started = start_time(pid)
        if started is None:
            raise ProcessLookupError(pid)
        return cls(pid, started)

    @classmethod
    def of_child(cls, pid: int) -> "ProcessId":
        """Names a child of ours, even if it has ended by now."""
        return cls(pid, start_time(pid) or 0)

    def is_running(self) -> bool:
        return start_time(self.pid) == self.start_time

    def send(self, number: signal.Signals) -> bool:
        """Signals the process; false when it has ended."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.is_running():
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def wait(self, timeout_s: float) -> bool:
        """Blocks until the process has ended, at most `timeout_s`; says whether it has."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.is_running():
                return True
            return bool(select.select([handle], [], [], timeout_s)[0])
        finally:
            os.close(handle)


def start_time(pid: int) -> int | None:
    """Start time of a process that runs; none for one that is gone or a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the name may hold spaces and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def command_line(pid: int) -> str:
    """The command of a process, at most 80 characters; empty when it may not be read."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode(errors="replace").strip()[:80]


def holder_of(port: int) -> int | None:
    """Pid of the process that listens on a TCP port here; none if it is not ours to see."""
    sockets = {f"socket:[{inode}]" for inode in _listeners(port)}
    if not sockets:
        return None
    for entry in PROC.iterdir():
        if entry.name.isdigit() and sockets & _open_files(entry / "fd"):
            return int(entry.name)
    return None


def _listeners(port: int) -> list[str]:
    """Inodes of the sockets that listen on `port`, of IPv4 and IPv6."""
    inodes = []
    for table in ("tcp", "tcp6"):
        path = PROC / "net" / table
        lines = path.read_text().splitlines()[1:] if path.exists() else []
        for fields in map(str.split, lines):
            local_port = int(fields[1].rsplit(":", 1)[1], 16)
            if fields[3] == LISTENING and local_port == port:
                inodes.append(fields[9])
    return inodes


def _open_files(folder: Path) -> set[str]:
    """What a process has open; nothing where we may not look, and no file that it just closed."""
    targets = set()
    with suppress(OSError):
        for file in folder.iterdir():
            with suppress(OSError):
                targets.add(os.readlink(file))  # noqa: PTH115  # names of sockets, not paths
    return targets
