"""A server for the overload bench: it counts the rows that its engine began too late.

`python -m bench.rivals.watched FILE.onnx --name NAME --kind ours|naive --late FILE --port P` serves
until SIGTERM, then writes to FILE how many rows were executed and how many of them began after the
deadline of their call. `ours` is our model behind our server; `naive` the bare server whose
engine has a thread, an unbounded queue in order of arrival, and no eye for deadlines.
"""

import argparse
import asyncio
import math
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from bench.rivals.bare import SERVICE, BareServicer, fifo
from inference import grpc_service_pb2_grpc as pb_grpc
from serving import request
from serving.engines.engine import Arrays
from serving.engines.onnx import OnnxEngine
from serving.models.model import Model
from serving.models.rows import Outputs, Rows
from serving.models.served import FixedModels
from serving.oip.mounting import mount
from serving.rpc.channels import MAX_MESSAGE_BYTES
from serving.rpc.server import Server, ServerConfig
from serving.scheduling.scheduler import BatchingConfig


@dataclass(slots=True)
class Watch:
    """Counts rows as their engine call begins. Deadlines are times of the monotonic clock."""

    executed: int = 0
    late: int = 0

    def began(self, deadlines: list[float]) -> None:
        now = time.monotonic()
        self.executed += len(deadlines)
        self.late += sum(deadline < now for deadline in deadlines)


class WatchedModel(Model):
    """Our model; its engine's thread tells the watch what it begins."""

    watch: Watch

    async def _submit(self, part: Rows, facts: request.CallFacts) -> Outputs:
        return await super()._submit(_Dated(part.arrays, part.rows, facts.deadline), facts)

    def _runner(self, instance: Any) -> Any:
        run = super()._runner(_Watching(instance, self))  # type: ignore[arg-type]

        async def infer(items: list[Rows]) -> list[Outputs]:
            self.next_batch = [item.deadline for item in items if isinstance(item, _Dated)]
            outputs: list[Outputs] = await run(items)
            return outputs

        return infer


class _Dated(Rows):
    __slots__ = ("deadline",)

    def __init__(self, arrays: Arrays, rows: int, deadline: float) -> None:
        super().__init__(arrays, rows)
        self.deadline = deadline


class _Watching:
    """An instance that tells the watch, on its thread, before it runs a batch."""

    def __init__(self, instance: Any, model: WatchedModel) -> None:
        self._instance, self._model = instance, model

    async def run(self, function: Any) -> Any:
        deadlines = self._model.next_batch

        def watched(engine: Any) -> Any:
            self._model.watch.began(deadlines)
            return function(engine)

        return await self._instance.run(watched)


class WatchedServicer(BareServicer):
    """The naive server; the engine it is given reads the deadline that travels with the inputs."""

    def __init__(self, name: str, engine: OnnxEngine, watch: Watch) -> None:
        self._watched = _WatchedEngine(engine, watch)
        super().__init__(name, engine, fifo(self._watched))  # type: ignore[arg-type]

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        left = context.time_remaining()
        deadline = math.inf if left is None else time.monotonic() + left
        self._watched.deadlines.append(deadline)
        return await super().ModelInfer(request, context)


class _WatchedEngine:
    """Calls come in the order of arrival: so do their deadlines."""

    def __init__(self, engine: OnnxEngine, watch: Watch) -> None:
        self.deadlines: list[float] = []
        self._engine, self._watch = engine, watch

    def infer(self, inputs: Mapping[str, Any]) -> Any:
        self._watch.began([self.deadlines.pop(0)])
        return self._engine.infer(inputs)


async def serve(options: argparse.Namespace) -> None:
    """Serves until SIGTERM, then writes what was counted."""
    watch, stop = Watch(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await (_ours if options.kind == "ours" else _naive)(options, watch, stop)
    options.late.write_text(f"{watch.executed} {watch.late}")


async def _ours(options: argparse.Namespace, watch: Watch, stop: asyncio.Event) -> None:
    engine = OnnxEngine(options.file)
    limits = BatchingConfig(max_batch_rows=options.rows)
    config = ServerConfig(port=options.port, metrics_port=None, lame_duck_s=0, drain_grace_s=0)
    WatchedModel.watch = watch
    WatchedModel.next_batch = []
    async with (
        Server(config, "overload", [SERVICE]) as server,
        WatchedModel(options.name, [engine], limits) as model,
    ):
        await mount(server, FixedModels([model]))
        await server.serve(stop)


async def _naive(options: argparse.Namespace, watch: Watch, stop: asyncio.Event) -> None:
    limits = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    server = grpc.aio.server(options=limits)
    servicer = WatchedServicer(  # type: ignore[abstract]  # the other methods are not served
        options.name, OnnxEngine(options.file), watch
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
    parser.add_argument("--late", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
