"""Every method that a server offers, and how its requests are made, right or wrong."""

import importlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from inference import grpc_service_pb2 as oip
from serving.engines.engine import TensorSpec
from serving.oip.datatypes import BY_NAME
from tests.fuzz.messages import request_bytes
from tests.serving.oip.mutations import damaged, spoiled

_INFERENCE = "inference.GRPCInferenceService"
_WRITES = ("Delete", "Ingest", "Record")
_ENDLESS = ("/grpc.health.v1.Health/Watch",)
_OWN_FUZZ = ("ModelInfer", "RepositoryModelUnload")  # the first is made of the model's tensors
_MAX_ELEMENTS = 4_096  # of an input that is fuzzed over the Open Inference Protocol

Make = Callable[[random.Random], tuple[bytes, bool]]  # the bytes, and whether they are a message


@dataclass(frozen=True, slots=True)
class Method:
    """One method of one server, and how its requests are made."""

    path: str  # "/package.Service/Method"
    is_client_stream: bool
    is_server_stream: bool
    make: Make

    @property
    def is_endless(self) -> bool:
        """Whether the server has no reason to end the stream."""
        return self.path in _ENDLESS


def methods_of(service: str, *, harmless: bool) -> list[Method]:
    """All methods of a service of this project by its full name, from its descriptor."""
    package, _, name = service.rpartition(".")
    file = importlib.import_module(f"{package}.{_snake(name)}_pb2").DESCRIPTOR
    return _methods(file, name, harmless=harmless)


def standard_methods() -> list[Method]:
    """Health, reflection and channelz, as each server has them."""
    return [
        *_methods(health_pb2.DESCRIPTOR, "Health", harmless=True),
        *_methods(reflection_pb2.DESCRIPTOR, "ServerReflection", harmless=True),
        *_methods(channelz_pb2.DESCRIPTOR, "Channelz", harmless=True),
    ]


async def inference_methods(channel: grpc.aio.Channel) -> list[Method]:
    """The Open Inference Protocol, with `ModelInfer` for each small model; none without it."""
    index = _asks(channel, "RepositoryIndex", oip.RepositoryIndexResponse)
    metadata = _asks(channel, "ModelMetadata", oip.ModelMetadataResponse)
    try:
        models = (await index(oip.RepositoryIndexRequest(ready=True))).models
    except grpc.aio.AioRpcError:
        return []
    everything = _methods(oip.DESCRIPTOR, "GRPCInferenceService", harmless=False)
    found = [m for m in everything if m.path.rpartition("/")[2] not in _OWN_FUZZ]
    for model in models:
        if model.reason:  # why it has no tensors to be asked for
            continue
        tensors = (await metadata(oip.ModelMetadataRequest(name=model.name))).inputs
        specs = [TensorSpec(t.name, BY_NAME[t.datatype].dtype, tuple(t.shape)) for t in tensors]
        if all(_elements(spec) <= _MAX_ELEMENTS for spec in specs):
            make = _inference_maker(model.name, specs)
            found.append(Method(f"/{_INFERENCE}/ModelInfer", False, False, make))
    return found


def _asks(channel: grpc.aio.Channel, method: str, response: type[Message]) -> Any:
    return channel.unary_unary(
        f"/{_INFERENCE}/{method}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=response.FromString,
    )


def _methods(file: Any, name: str, *, harmless: bool) -> list[Method]:
    found = []
    for method in file.services_by_name[name].methods:
        kind: type[Message] = GetMessageClass(method.input_type)
        is_harmless = harmless and method.name.startswith(_WRITES)
        found.append(
            Method(
                f"/{file.package}.{name}/{method.name}",
                method.client_streaming,
                method.server_streaming,
                _maker(kind, harmless=is_harmless),
            )
        )
    return found


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _maker(kind: type[Message], *, harmless: bool) -> Make:
    def make(chance: random.Random) -> tuple[bytes, bool]:
        content = request_bytes(kind, chance, harmless=harmless)
        return content, _is_message(kind, content)

    return make


def _is_message(kind: type[Message], content: bytes) -> bool:
    try:
        kind.FromString(content)
    except DecodeError:
        return False
    return True


def _elements(spec: TensorSpec) -> int:
    count = 1
    for size in spec.shape[1:]:
        count *= max(size, 2)
    return count


def _inference_maker(name: str, specs: Sequence[TensorSpec]) -> Make:
    def make(chance: random.Random) -> tuple[bytes, bool]:
        request = spoiled(chance, specs)
        if chance.random() < 0.95:
            request.model_name = name
        content = request.SerializeToString()
        if chance.random() < 0.25:
            content = damaged(chance, content)
        return content, _is_message(oip.ModelInferRequest, content)

    return make
