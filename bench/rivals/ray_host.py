"""Ray Serve before one ONNX model, asked through its own gRPC ingress.

`python -m bench.rivals.ray_host FILE.onnx --name NAME --port P`, by an interpreter with Ray.
One replica with one batch at a time, as ours has one instance; the engine runs on a thread, so that
the replica goes on taking calls.
"""

import argparse
import asyncio
import logging
import signal
import threading
from typing import Any

import numpy as np
import ray
from ray import serve
from ray.serve.config import gRPCOptions
from ray.serve.schema import LoggingConfig

from bench.rivals.onnx_session import Arrays, OnnxSession
from inference import grpc_service_pb2 as pb

_MOUNT = "inference.grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server"
_ONGOING = 256  # calls that a replica takes at once: more than there are callers


@serve.deployment(max_ongoing_requests=_ONGOING)
class OnnxModel:
    """The model and the calls that the load client makes."""

    def __init__(self, file: str, name: str, rows: int, wait_s: float) -> None:
        self._name, self._session = name, OnnxSession(file)
        self._inputs = {tensor.name: tensor.dtype for tensor in self._session.inputs}
        self._datatypes = {tensor.name: tensor.datatype for tensor in self._session.outputs}
        self.run.set_max_batch_size(rows)
        self.run.set_batch_wait_timeout_s(wait_s)

    async def ModelReady(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        metadata = pb.ModelMetadataResponse(name=self._name, versions=["1"])
        for tensor in self._session.inputs:
            metadata.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        return metadata

    async def ModelInfer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        inputs = {
            tensor.name: np.frombuffer(raw, self._inputs[tensor.name]).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        outputs = await self.run(inputs)
        response = pb.ModelInferResponse(model_name=self._name, model_version="1", id=request.id)
        for name, array in outputs.items():
            response.outputs.add(name=name, datatype=self._datatypes[name], shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response

    @serve.batch
    async def run(self, items: list[Arrays]) -> list[Any]:
        return await asyncio.to_thread(self._session.run_rows, items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--name", required=True)
    parser.add_argument("--rows", type=int, default=8, help="at most in one engine call")
    parser.add_argument("--wait-ms", type=float, default=0.0, help="for a fuller batch")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    options = parser.parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    ray.init(include_dashboard=False, logging_level=logging.ERROR)
    ingress = gRPCOptions(port=options.port, grpc_servicer_functions=[_MOUNT])
    quiet = LoggingConfig(enable_access_log=False)
    http = {"port": options.http_port}
    serve.start(http_options=http, grpc_options=ingress, logging_config=quiet)
    serve.run(OnnxModel.bind(options.file, options.name, options.rows, options.wait_ms / 1e3))
    stop.wait()
    ray.shutdown()


if __name__ == "__main__":
    main()
