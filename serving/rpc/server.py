"""The gRPC server under every service: starts early, reports late, drains without a loss.

It listens at once, so that a probe gets an answer while models load; calls are refused with
`UNAVAILABLE` until `serve` says SERVING. After SIGTERM it reports NOT_SERVING and serves on for the
lame-duck time, and for as long again while calls still arrive: their callers have not heard yet.
Then it refuses, and finishes what it has accepted.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc

from serving.rpc.channels import MAX_MESSAGE_BYTES
from serving.rpc.infrastructure import add_infrastructure
from serving.rpc.interceptors import MountedCalls
from serving.rpc.lifecycle import Lifecycle, Phase
from serving.rpc.load_report import LoadReport
from serving.rpc.metrics_http import MetricsServer
from serving.rpc.threads import started_patient
from serving.settings import SettingsError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where and how a server listens. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0  # 0 ... 65535
    metrics_port: int | None = 0  # HTTP, 0 ... 65535; None: no metrics over HTTP
    replica: str = ""  # name in ledgers; empty = host name and port
    lame_duck_s: float = 5.0  # serves on after NOT_SERVING, >= 0
    # For what was accepted, >= the longest deadline; half of it at most for who has not heard.
    drain_grace_s: float = 30.0
    max_message_bytes: int = MAX_MESSAGE_BYTES  # of one message, >= 1
    max_in_flight: int = 1024  # calls at once, >= 1
    # Calls that wait for the event loop, >= 1: more are refused by gRPC itself, with a growing
    # chance, all at twice as many. At 0.2 to 0.4 ms a call the default waits for 50 to 100 ms.
    max_waiting_calls: int = 128
    max_connection_age_s: float = 300.0  # so that clients find new replicas, > 0
    load_report_after_s: float = 10.0  # of calls that say nothing of its speed, >= 0
    load_report_over_s: float = 20.0  # in which what was fades to a third, > 0
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        for name, value in (("port", self.port), ("metrics_port", self.metrics_port or 0)):
            if not 0 <= value <= 65535:
                raise ValueError(f"{name} is {value}, 0 to 65535")
        if self.lame_duck_s < 0 or self.drain_grace_s < 0 or self.max_connection_age_s <= 0:
            raise ValueError("lame_duck_s and drain_grace_s are >= 0, max_connection_age_s > 0")
        if self.load_report_after_s < 0 or self.load_report_over_s <= 0:
            raise ValueError("load_report_after_s is >= 0, load_report_over_s > 0")
        if min(self.max_message_bytes, self.max_in_flight, self.max_waiting_calls) < 1:
            raise ValueError("max_message_bytes, max_in_flight, max_waiting_calls are >= 1")


# An engine's thread that ends a call waits this long for the interpreter while the event loop is
# busy; and again to begin the next. Python's 5 ms left an engine of 15 ms a call idle for 14 % of
# the time beside a busy loop, 0.2 ms for 9 %.
_SWITCH_S = 2e-4


class Server:
    """One listening gRPC server; an async context manager. Belongs to one event loop."""

    def __init__(self, config: ServerConfig, service: str, service_names: Sequence[str]) -> None:
        """`service` is the short name, `service_names` the full names for reflection and health."""
        self.port = 0
        self.metrics_port = 0
        self._config = config
        self._names = tuple(service_names)
        self._lifecycle = Lifecycle(service, service_names)
        self._stack = AsyncExitStack()
        self._server: grpc.aio.Server
        self._calls: MountedCalls

    @property
    def phase(self) -> Phase:
        return self._lifecycle.phase

    async def entered(self, phase: Phase) -> None:
        """Returns when `phase` has been entered."""
        await self._lifecycle.entered(phase)

    async def __aenter__(self) -> "Server":
        async with AsyncExitStack() as stack:
            self.port = _bindable(self._config.host, self._config.port)
            load = LoadReport(self._config.load_report_after_s, self._config.load_report_over_s)
            self._calls = MountedCalls(
                self._lifecycle.refusal, self._replica(), self._config.max_in_flight, load
            )
            with started_patient():
                self._server = grpc.aio.server(options=self._options())
            always = self._calls.answer_always
            add_infrastructure(self._server, always, self._lifecycle.health, self._names)
            self._server.add_generic_rpc_handlers([self._calls])
            self.port = self._server.add_insecure_port(f"{self._config.host}:{self.port}")
            if self._config.metrics_port is not None:
                metrics = MetricsServer(
                    self._config.host, self._config.metrics_port, self.is_serving
                )
                self.metrics_port = stack.enter_context(metrics).port
            await self._server.start()
            stack.push_async_callback(self._server.stop, 0)
            self._lifecycle.enter(Phase.LOADING)
            self._stack = stack.pop_all()
        log.info("listening on %s:%d", self._config.host, self.port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lifecycle.enter(Phase.STOPPED)
        await self._stack.aclose()

    def mount(self, add_to_server: Callable[[Any, grpc.aio.Server], None], servicer: Any) -> None:
        """Adds a servicer with its generated `add_…_to_server`; when its models are loaded."""
        add_to_server(servicer, self._calls)  # type: ignore[arg-type]  # has what they call

    async def report(self, name: str, is_ready: bool) -> None:
        """Says whether one health name may be SERVING while the server is: a model, or "" = all."""
        self._lifecycle.report(name, is_ready)

    def is_serving(self) -> bool:
        """Whether health says SERVING of the whole server."""
        return self._lifecycle.is_serving()

    async def serve(self, stop: asyncio.Event | None = None) -> None:
        """Reports SERVING until `stop` is set (None: SIGTERM or SIGINT), then drains.

        Returns when every accepted call was answered or `drain_grace_s` is over; a second signal
        ends the lame-duck time.
        """
        stop, hurry = stop or asyncio.Event(), asyncio.Event()
        _on_signals(stop, hurry)
        self._lifecycle.enter(Phase.SERVING)
        await stop.wait()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._config.lame_duck_s + self._config.drain_grace_s
        self._lifecycle.enter(Phase.LAME_DUCK)
        await _first(hurry.wait(), self._farewell())
        self._lifecycle.enter(Phase.DRAINING)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._calls.drained(), end - loop.time())
        await self._server.stop(0)  # only now: it would cancel, not refuse, a call that arrives

    async def _farewell(self) -> None:
        """Gives callers the time to hear that they should leave."""
        await asyncio.sleep(self._config.lame_duck_s)
        await self._calls.quiet(min(self._config.lame_duck_s, self._config.drain_grace_s / 2))

    def _replica(self) -> str:
        return self._config.replica or f"{socket.gethostname()}:{self.port}"

    def _options(self) -> list[tuple[str, int]]:
        """Server options; the ping limits match what `serving.rpc.channels` sends.

        Without a limit of waiting calls the queue before a busy event loop grows until every call
        is answered too late. Such a refusal costs no Python, and thus has no details: the caller
        sees a bare CANCELLED.
        """
        waiting = self._config.max_waiting_calls
        return [
            ("grpc.server.max_pending_requests", waiting),
            ("grpc.server.max_pending_requests_hard_limit", 2 * waiting),
            ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
            ("grpc.max_receive_message_length", self._config.max_message_bytes),
            ("grpc.max_send_message_length", self._config.max_message_bytes),
            ("grpc.http2.min_ping_interval_without_data_ms", 500),
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.max_connection_age_ms", int(self._config.max_connection_age_s * 1000)),
            ("grpc.max_connection_age_grace_ms", int(self._config.drain_grace_s * 1000)),
        ]


def run_main(run: Callable[[], Awaitable[None]], log_level: str = "INFO") -> int:
    """Runs a service's main coroutine; returns the exit code. Sets up logging and threads."""
    sys.setswitchinterval(_SWITCH_S)
    logging.basicConfig(
        level=os.environ.get("FOMOFEED_LOG_LEVEL", log_level),
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        asyncio.run(_awaited(run))
    except (SettingsError, OSError) as error:  # the operator's to mend: a line, no traceback
        log.critical("cannot start: %s", error)
        return 1
    return 0


async def _awaited(run: Callable[[], Awaitable[None]]) -> None:
    await run()


async def _first(*ways: Coroutine[Any, Any, Any]) -> None:
    """Returns when one of them has ended; the others are cancelled."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _on_signals(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    def received() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received)


def _bindable(host: str, port: int) -> int:
    """Returns a port that can be bound; raises `OSError` naming the port when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            raise OSError(f"port {port} on {host} cannot be bound: {error.strerror}") from error
        return int(probe.getsockname()[1])
