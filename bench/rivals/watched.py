"""A server for the overload bench: it remembers its engine calls, and the rows begun too late.

`python -m bench.rivals.watched FILE.onnx --name NAME --kind ours|naive --calls FILE --port P`
serves until SIGTERM, then writes to FILE when each engine call began and ended, what it cost, and
how many of its rows began after the deadline of their call. `ours` is our model behind our server;
`naive` the bare server whose engine has a thread, an unbounded queue in order of arrival, and no
eye for deadlines.
"""

import argparse
import asyncio
import json
import math
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc

from bench.rivals.bare import SERVICE, BareServicer, fifo
from bench.rivals.models import engine_of, padding_of
from inference import grpc_service_pb2_grpc as pb_grpc
from serving import request
from serving.engines.engine import Engine
from serving.engines.ragged import RaggedEngine
from serving.models.model import Model
from serving.models.ragged import RaggedModel
from serving.models.rows import Outputs, Rows
from serving.models.served import FixedModels
from serving.models.shaped import ShapedModel
from serving.oip.mounting import mount
from serving.rpc import server as server_module
from serving.rpc.channels import MAX_MESSAGE_BYTES
from serving.rpc.load_report import LoadReport
from serving.rpc.server import Server, ServerConfig, run_main
from serving.scheduling.scheduler import BatchingConfig


@dataclass(frozen=True, slots=True)
class EngineCall:
    """One engine call as its thread saw it; times of the machine's monotonic clock."""

    begin: float
    end: float
    cpu_s: float  # of the thread: less than end - begin when others have its core
    rows: int
    late_rows: int  # begun after the deadline of their call


@dataclass(slots=True)
class Watch:
    """Runs engine calls and remembers them. Deadlines are times of the monotonic clock."""

    calls: list[EngineCall] = field(default_factory=list)
    refusals: list[tuple[float, float]] = field(default_factory=list)  # when, and after how long
    deadlines: dict[int, float] = field(default_factory=dict)  # by the identity of rows, to the end

    def run(self, deadlines: list[float], call: Callable[[], Any]) -> Any:
        begin, cpu = time.monotonic(), time.thread_time()
        result = call()
        late = sum(deadline < begin for deadline in deadlines)
        cpu_s = time.thread_time() - cpu
        self.calls.append(EngineCall(begin, time.monotonic(), cpu_s, len(deadlines), late))
        return result

    def write(self, path: Path) -> None:
        """Writes one line of JSON."""
        path.write_text(json.dumps([[astuple(call) for call in self.calls], self.refusals]))


def read_watch(path: Path) -> Watch:
    """Reads what `Watch.write` wrote."""
    calls, refusals = json.loads(path.read_text())
    return Watch([EngineCall(*call) for call in calls], [(at, s) for at, s in refusals])


class _WatchedReport(LoadReport):
    """What the server is told of each call: of a refused one when, and how long it was here."""

    watch: Watch

    def end(self, now: float, code: grpc.StatusCode, lasted_s: float, queued_s: float) -> Any:
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self.watch.refusals.append((time.monotonic(), lasted_s))
        return super().end(now, code, lasted_s, queued_s)


class _Watched(Model):
    """A model whose watch is told of what its engine begins, on whatever thread."""

    watch: Watch

    async def _submit(self, part: Rows, facts: request.CallFacts) -> Outputs:
        self.watch.deadlines[id(part)] = facts.deadline
        return await super()._submit(part, facts)

    def _run_batch(self, engine: Engine, items: list[Rows]) -> Any:
        deadlines = [self.watch.deadlines[id(item)] for item in items]
        return self.watch.run(deadlines, lambda: super(_Watched, self)._run_batch(engine, items))


class WatchedModel(_Watched, ShapedModel):
    """Our model of rows."""


class WatchedRagged(_Watched, RaggedModel):
    """Our model of texts that are not padded."""


class WatchedServicer(BareServicer):
    """The naive server; the engine it is given reads the deadline that travels with the inputs."""

    def __init__(self, name: str, engine: Engine, watch: Watch) -> None:
        self._watched = _WatchedEngine(engine, watch)
        super().__init__(name, engine, fifo(self._watched))

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        left = context.time_remaining()
        deadline = math.inf if left is None else time.monotonic() + left
        self._watched.deadlines.append(deadline)
        return await super().ModelInfer(request, context)


class _WatchedEngine:
    """Calls come in the order of arrival: so do their deadlines."""

    def __init__(self, engine: Engine, watch: Watch) -> None:
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.deadlines: list[float] = []
        self._engine, self._watch = engine, watch

    def infer(self, inputs: Mapping[str, Any]) -> Any:
        return self._watch.run([self.deadlines.pop(0)], lambda: self._engine.infer(inputs))


async def serve(options: argparse.Namespace) -> None:
    """Serves until SIGTERM, then writes what was counted."""
    watch, stop = Watch(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await (_ours if options.kind == "ours" else _naive)(options, watch, stop)
    watch.write(options.calls)


async def _ours(options: argparse.Namespace, watch: Watch, stop: asyncio.Event) -> None:
    model = _model(options.name, engine_of(options.name, options.file), options.rows)
    config = ServerConfig(port=options.port, metrics_port=None, lame_duck_s=0, drain_grace_s=0)
    _Watched.watch = _WatchedReport.watch = watch
    server_module.LoadReport = _WatchedReport  # type: ignore[attr-defined]
    async with (
        Server(config, "overload", [SERVICE]) as server,
        model,
    ):
        await mount(server, FixedModels([model]))
        await server.serve(stop)


def _model(name: str, engine: Engine, rows: int) -> Model:
    limits = BatchingConfig(max_batch_rows=rows)
    if isinstance(engine, RaggedEngine):
        limits = replace(limits, max_batch_cost=engine.ragged.max_elements)
        return WatchedRagged(name, [engine], limits)
    return WatchedModel(name, [engine], limits, padding=padding_of(name))


async def _naive(options: argparse.Namespace, watch: Watch, stop: asyncio.Event) -> None:
    limits = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    server = grpc.aio.server(options=limits)
    servicer = WatchedServicer(  # type: ignore[abstract]  # the other methods are not served
        options.name, engine_of(options.name, options.file), watch
    )
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    await server.start()
    await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--kind", choices=("ours", "naive"), required=True)
    parser.add_argument("--rows", type=int, default=4, help="at most in one engine call of ours")
    parser.add_argument("--calls", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    if options.kind == "ours":
        run_main(lambda: serve(options))
    else:
        asyncio.run(serve(options))


if __name__ == "__main__":
    main()
