"""A null server: it answers what another server has answered before, unread. gRPC's share, no more.

`python -m bench.rivals.null ANSWERS --port P`; ANSWERS is a folder with an answer for each method,
in a file named as `file_of` says. While a client sends it the load of a measurement, an offline
loop on the same cores gets what the client and gRPC leave of them.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from bench.rivals.processes import Command, Running, running
from inference import grpc_service_pb2 as pb
from serving.rpc.channels import MAX_MESSAGE_BYTES

_READY = "/inference.GRPCInferenceService/ModelReady"  # asked by whoever waits for a server here


def file_of(folder: Path, method: str) -> Path:
    """Returns where the answer of "/package.Service/Method" lies."""
    return folder / method.strip("/").replace("/", "_")


class NullHandler(grpc.GenericRpcHandler):
    """Answers any method that has an answer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ready = pb.ModelReadyResponse(ready=True).SerializeToString()
        self._handlers: dict[str, Any] = {_READY: _answering(ready)}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        if method not in self._handlers:
            self._handlers[method] = _answering(file_of(self._folder, method).read_bytes())
        return self._handlers[method]


def _answering(content: bytes) -> Any:
    async def answer(request: bytes, context: Any) -> bytes:
        return content

    unary: Any = grpc.unary_unary_rpc_method_handler  # its stubs know sync handlers only
    return unary(answer)


def write_answers(folder: Path, address: str, requests: Mapping[str, bytes]) -> None:
    """Asks a server one request of each method, and writes its answers."""
    limits = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    with grpc.insecure_channel(address, options=limits) as channel:
        for method, request in requests.items():
            ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
            file_of(folder, method).write_bytes(ask(request, timeout=30))


@contextmanager
def null_server(address: str, requests: Mapping[str, bytes]) -> Iterator[Running]:
    """Runs a null server that answers each method as the server at `address` does its request."""
    with tempfile.TemporaryDirectory() as folder:
        write_answers(Path(folder), address, requests)
        with running(Command("bench.rivals.null", [folder]), "any") as null:
            yield null


async def serve(options: argparse.Namespace) -> None:
    """Serves until it is killed."""
    limits = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    server = grpc.aio.server(options=limits)
    server.add_generic_rpc_handlers((NullHandler(options.answers),))
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
