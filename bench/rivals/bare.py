"""Bare servers of the Open Inference Protocol for one model: the peers of our own.

`python -m bench.rivals.bare FILE.onnx --name NAME --mode MODE --port P`. All parse and answer the
same messages with the same engine and do nothing else. Modes:
parse   parses the request and builds the answer, but from the first call's arrays: no engine
inline  the engine on the event loop, one row at a time
fifo    the engine on a thread, behind an unbounded queue in order of arrival: the naive server
collect the same thread, but it takes what waits (at most --rows) in one call: a 30-line batcher
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from bench.rivals.models import engine_of
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc
from serving.engines.engine import Engine
from serving.models.warm_up import guessed_shapes, zeros
from serving.oip.datatypes import datatype_of
from serving.rpc.channels import MAX_MESSAGE_BYTES

Arrays = dict[str, NDArray[Any]]
Infer = Callable[[Arrays], Awaitable[Arrays]]
SERVICE = "inference.GRPCInferenceService"


class BareServicer(pb_grpc.GRPCInferenceServiceServicer):
    """Metadata and readiness as far as the load tool asks, and `ModelInfer`."""

    def __init__(self, name: str, engine: Engine, infer: Infer) -> None:
        self._name, self._infer = name, infer
        self._inputs = {spec.name: spec.dtype for spec in engine.inputs}
        self._metadata = pb.ModelMetadataResponse(name=name, versions=["1"])
        for spec in engine.inputs:
            datatype = datatype_of(spec.dtype).name
            self._metadata.inputs.add(name=spec.name, datatype=datatype, shape=spec.shape)

    async def ModelReady(self, request: Any, context: Any) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Any, context: Any) -> pb.ModelMetadataResponse:
        return self._metadata

    async def ModelInfer(self, request: Any, context: Any) -> pb.ModelInferResponse:
        inputs = {
            tensor.name: np.frombuffer(raw, self._inputs[tensor.name]).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        outputs = await self._infer(inputs)
        response = pb.ModelInferResponse(model_name=self._name, model_version="1", id=request.id)
        for name, array in outputs.items():
            datatype = datatype_of(array.dtype).name
            response.outputs.add(name=name, datatype=datatype, shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response


def inline(engine: Engine) -> Infer:
    """Runs the engine on the event loop."""

    async def infer(inputs: Arrays) -> Arrays:
        return engine.infer(inputs)

    return infer


def constant(engine: Engine) -> Infer:
    """Runs it once, and gives that answer to everybody."""
    shapes = guessed_shapes(engine.inputs)
    outputs = engine.infer(zeros(engine.inputs, shapes, 1))

    async def infer(inputs: Arrays) -> Arrays:
        return outputs

    return infer


def fifo(engine: Engine) -> Infer:
    """Queues every call for one thread, without bound, and never looks at a deadline."""
    thread = ThreadPoolExecutor(1)

    async def infer(inputs: Arrays) -> Arrays:
        # The queue of a naive server keeps what its callers have left: nobody takes it out.
        running = asyncio.get_running_loop().run_in_executor(thread, engine.infer, inputs)
        return await asyncio.shield(running)

    return infer


def collect(engine: Engine, most: int) -> Infer:
    """Runs what waits in one call, in order of arrival, one row each."""
    waiting: list[tuple[Arrays, asyncio.Future[Arrays]]] = []
    thread = ThreadPoolExecutor(1)
    tasks: set[asyncio.Task[None]] = set()

    async def drain() -> None:
        while waiting:
            batch, waiting[:] = waiting[:most], waiting[most:]
            joined = {name: np.concatenate([i[name] for i, _ in batch]) for name in batch[0][0]}
            loop = asyncio.get_running_loop()
            outputs = await loop.run_in_executor(thread, engine.infer, joined)
            for row, (_, answer) in enumerate(batch):
                if not answer.done():
                    answer.set_result({name: a[row : row + 1] for name, a in outputs.items()})

    async def infer(inputs: Arrays) -> Arrays:
        answer: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        waiting.append((inputs, answer))
        if not tasks:
            task = asyncio.get_running_loop().create_task(drain())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        return await answer

    return infer


def make_infer(mode: str, engine: Engine, rows: int) -> Infer:
    """Returns how a mode runs the engine."""
    if mode == "collect":
        return collect(engine, rows)
    return {"inline": inline, "parse": constant, "fifo": fifo}[mode](engine)


async def serve(options: argparse.Namespace) -> None:
    """Serves until it is killed."""
    engine = engine_of(options.name, options.file)
    servicer = BareServicer(  # type: ignore[abstract]  # the other methods are not served
        options.name, engine, make_infer(options.mode, engine, options.rows)
    )
    limits = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    server = grpc.aio.server(options=limits)
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--rows", type=int, default=32, help="at most in one call of `collect`")
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
