import signal
import socket
from pathlib import Path

import pytest
from tiny_servers import sleeping_child

from cluster.errors import CommandError
from cluster.ports import GATEWAY, SERVICES, PortPlan
from cluster.procfs import ProcessId
from cluster.state import ClusterState, ServerState
from cluster.up import refuse_taken_ports, server_plans, stop_orphans


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, server: str, text: str) -> None:
        self.lines.append(f"{server}: {text}")

    def ready(self) -> None:
        self.lines.append("ready")


def test_a_taken_port_is_refused_with_its_number_owner_and_process() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        ports = PortPlan(base=port - 1, metrics_base=port - 1)
        with pytest.raises(CommandError, match=rf"port {port} \(clip\) is held by process \d+"):
            refuse_taken_ports(ports)


def test_servers_that_outlived_a_killed_supervisor_are_stopped(tmp_path: Path) -> None:
    with sleeping_child() as child:
        process = ProcessId.of(child.pid)
        gone = ProcessId(process.pid, process.start_time - 1)
        ClusterState(gone, 50050, 9050, {"clip": ServerState(process)}).write(tmp_path)
        heard = Heard()
        stop_orphans(tmp_path, heard)
        assert child.wait() == -signal.SIGTERM
    assert f"left over as process {child.pid}" in heard.lines[0]


def test_every_server_gets_its_own_ports_and_the_gateway_those_of_all_others() -> None:
    plans = server_plans(PortPlan.moved(21000), Path("run"))
    given = {plan.name: plan.environment for plan in plans}
    assert [plan.name for plan in plans][-1] == GATEWAY.name
    for service in SERVICES:
        prefix = f"FOMOFEED_{service.name.upper()}"
        assert given[service.name][f"{prefix}_PORT"] == str(21000 + service.offset)
        assert given[service.name][f"{prefix}_METRICS_PORT"] == str(21050 + service.offset)
    ports = [port for plan in plans for name, port in plan.environment.items() if "PORT" in name]
    assert len(set(ports)) == 2 * len(SERVICES)


@pytest.mark.parametrize("base", [0, 80, 65535])
def test_a_port_base_that_leaves_no_room_is_refused(base: int) -> None:
    with pytest.raises(ValueError, match="1024 to 65400"):
        PortPlan.moved(base)
