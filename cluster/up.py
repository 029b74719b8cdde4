"""`fomofeed up`: checks that it can, starts the servers, stays until it is told to stop."""

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cluster.detach import Announcer
from cluster.errors import CommandError
from cluster.keeper import Event, Kind, RestartConfig, ServerFailedError
from cluster.places import project_root
from cluster.ports import GATEWAY, HOST, SERVICES, PortPlan, Service
from cluster.process import ServerPlan, module_command
from cluster.procfs import ProcessId, command_line, holder_of
from cluster.state import ClusterState, ServerState, forget_state, only_one, read_state
from cluster.supervisor import Supervisor

ORPHAN_GRACE_S = 10.0


def run_up(ports: PortPlan, folder: Path, announcer: Announcer) -> None:
    """Runs a cluster until SIGINT or SIGTERM. Raises `CommandError` when it cannot."""
    with only_one(folder):
        stop_orphans(folder, announcer)
        refuse_taken_ports(ports)
        try:
            asyncio.run(_supervise(ports, folder, announcer))
        except ServerFailedError as error:
            lines = "\n".join(f"    {line}" for line in error.lines)
            raise CommandError(f"{error}\n{lines}\n  all of it: {error.plan.log}") from None
        finally:
            forget_state(folder)


def stop_orphans(folder: Path, announcer: Announcer) -> None:
    """Ends servers whose supervisor was killed, so that they hold no port."""
    state = read_state(folder)
    orphans = state.orphans() if state else {}
    for name, process in orphans.items():
        announcer.say(name, f"left over as process {process.pid} by a killed supervisor: stopped")
        process.send(signal.SIGTERM)
    for process in orphans.values():
        if not process.wait(ORPHAN_GRACE_S):
            process.send(signal.SIGKILL)
            process.wait(ORPHAN_GRACE_S)


def refuse_taken_ports(ports: PortPlan) -> None:
    """Raises `CommandError` naming every port that cannot be bound and who holds it."""
    wanted = [(service.name, ports.port(service)) for service in SERVICES]
    wanted += [(f"{service.name} metrics", ports.metrics_port(service)) for service in SERVICES]
    taken = [(name, port) for name, port in wanted if not _can_bind(port)]
    if taken:
        lines = "".join(f"\n    port {port} ({name}) {_holder(port)}" for name, port in taken)
        raise CommandError(f"cannot start, ports are taken:{lines}\n  --port-base moves them all")


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    pid = holder_of(port)
    if pid is None:
        return "is held by a process of another user"
    return f"is held by process {pid}: {command_line(pid)}"


def server_plans(ports: PortPlan, folder: Path) -> Sequence[ServerPlan]:
    """How each server of the table is started with these ports."""
    return [
        ServerPlan(
            name=service.name,
            command=module_command(service.module),
            target=ports.target(service),
            log=folder / f"{service.name}.log",
            folder=project_root(),
            environment=_environment(service, ports),
        )
        for service in SERVICES
    ]


def _environment(service: Service, ports: PortPlan) -> dict[str, str]:
    """The variables of one server. No lame duck: a cluster of one replica has nobody to move to."""
    prefix = f"FOMOFEED_{service.name.upper()}"
    variables = {
        f"{prefix}_HOST": HOST,
        f"{prefix}_PORT": str(ports.port(service)),
        f"{prefix}_METRICS_PORT": str(ports.metrics_port(service)),
        f"{prefix}_LAME_DUCK_S": os.environ.get(f"{prefix}_LAME_DUCK_S", "0"),
    }
    if service is GATEWAY:
        targets = [node for node in SERVICES if node is not GATEWAY]
        variables |= {f"{prefix}_{node.name.upper()}": ports.target(node) for node in targets}
    return variables


async def _supervise(ports: PortPlan, folder: Path, announcer: Announcer) -> None:
    recorder = _Recorder(ports, folder)

    def report(event: Event) -> None:
        recorder.record(event)
        announcer.say(event.server, event.text)

    supervisor = Supervisor(server_plans(ports, folder), RestartConfig(), report)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, supervisor)
    ready = asyncio.create_task(_announce_ready(supervisor, announcer))
    try:
        await supervisor.run()
    finally:
        ready.cancel()


def _stop(supervisor: Supervisor) -> None:
    """The first signal stops gently, the second at once."""
    (supervisor.hurry if supervisor.stop.is_set() else supervisor.stop).set()


async def _announce_ready(supervisor: Supervisor, announcer: Announcer) -> None:
    await supervisor.all_serving.wait()
    announcer.ready()


class _Recorder:
    """Writes the state file at each change of a process."""

    def __init__(self, ports: PortPlan, folder: Path) -> None:
        self._folder = folder
        self._state = ClusterState(ProcessId.of(os.getpid()), ports.base, ports.metrics_base)
        self._state.write(folder)

    def record(self, event: Event) -> None:
        servers = dict(self._state.servers)
        if event.kind is Kind.STARTED:
            servers[event.server] = ServerState(event.process, event.restarts)
        elif event.kind is Kind.STOPPED:
            servers.pop(event.server, None)
        self._state = replace(self._state, servers=servers)
        self._state.write(self._folder)
