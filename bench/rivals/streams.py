"""A bare server of the no-op model for the price of a message: one call each, or many on a stream.

`python -m bench.rivals.streams FILE.onnx --name NAME --processes N --port P`. What it offers:
Null    the same bytes each time, unread
Parse   parsed, run on the event loop, answered: what a bare server does
Tasks   the same on a stream, but each request in a task of its own, answers in any order: what a
        server needs whose requests wait for batches
With more processes all listen on one port (SO_REUSEPORT) and share its connections.
"""

import argparse
import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from bench.rivals.bare import BareServicer, inline
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc
from serving.engines.onnx import OnnxEngine

SERVICE = "bench.Streams"
_FROM, _TO = pb.ModelInferRequest.FromString, pb.ModelInferResponse.SerializeToString


class Ways:
    """The handlers; `answer` is what the null ways give."""

    def __init__(self, servicer: BareServicer) -> None:
        self._servicer = servicer
        self.answer = b""

    async def null(self, request: bytes, context: Any) -> bytes:
        return self.answer

    async def parse(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:
        return await self._servicer.ModelInfer(request, context)

    async def null_stream(
        self, requests: AsyncIterator[bytes], context: Any
    ) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield self.answer

    async def parse_stream(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Any
    ) -> AsyncIterator[pb.ModelInferResponse]:
        async for request in requests:
            yield await self._servicer.ModelInfer(request, context)

    async def tasks_stream(
        self, requests: AsyncIterator[pb.ModelInferRequest], context: Any
    ) -> AsyncIterator[pb.ModelInferResponse]:
        answers: asyncio.Queue[pb.ModelInferResponse | None] = asyncio.Queue()

        async def one(request: pb.ModelInferRequest) -> None:
            answers.put_nowait(await self._servicer.ModelInfer(request, context))

        async def read() -> None:
            async with asyncio.TaskGroup() as group:
                async for request in requests:
                    group.create_task(one(request))
            answers.put_nowait(None)

        reading = asyncio.create_task(read())
        while answer := await answers.get():
            yield answer
        await reading

    def handlers(self) -> dict[str, Any]:
        """Returns the handlers by method."""
        unary: Any = grpc.unary_unary_rpc_method_handler  # its stubs know sync handlers only
        stream: Any = grpc.stream_stream_rpc_method_handler
        return {
            "NullUnary": unary(self.null),
            "ParseUnary": unary(self.parse, _FROM, _TO),
            "NullStream": stream(self.null_stream),
            "ParseStream": stream(self.parse_stream, _FROM, _TO),
            "TasksStream": stream(self.tasks_stream, _FROM, _TO),
        }


async def serve(options: argparse.Namespace) -> None:
    """Serves until it is killed."""
    engine = OnnxEngine(options.file)
    servicer = BareServicer(  # type: ignore[abstract]  # the other methods are not served
        options.name, engine, inline(engine)
    )
    ways = Ways(servicer)
    ways.answer = pb.ModelInferResponse(
        model_name=options.name, model_version="1", raw_output_contents=[b"\0" * 128]
    ).SerializeToString()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    generic = grpc.method_handlers_generic_handler(SERVICE, ways.handlers())
    server.add_generic_rpc_handlers((generic,))
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    same = [sys.executable, "-m", "bench.rivals.streams", str(options.file), "--name", options.name]
    for _ in range(options.processes - 1):
        subprocess.Popen([*same, "--port", str(options.port)])
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
