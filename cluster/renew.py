"""`fomofeed models reload`: running servers take up what training has published."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import grpc

from cluster.explain import in_words
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc
from serving.rpc.channels import open_channel

TIMEOUT_S = 30.0
_CAN_LOAD = "model_repository"  # the protocol's name of the extension


@dataclass(frozen=True, slots=True)
class Told:
    """What a server says of its models, or of one of them."""

    server: str
    text: str
    is_well: bool = True


async def renew(targets: Mapping[str, str]) -> AsyncIterator[Told]:
    """Asks servers, host:port by name, to load the highest versions of their models.

    A version that does not load is told, and the one before serves on. A server whose models come
    only with its start says so; one without the inference protocol has none and is passed over.
    """
    for server, target in targets.items():
        async with open_channel(target, health_service=None) as channel:
            stub = pb_grpc.GRPCInferenceServiceStub(channel)
            try:
                async for text, is_well in _renewed(stub):
                    yield Told(server, text, is_well)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    yield Told(server, in_words(error, target).splitlines()[0], False)


async def _renewed(
    stub: "pb_grpc.GRPCInferenceServiceAsyncStub",
) -> AsyncIterator[tuple[str, bool]]:
    about = await stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=TIMEOUT_S)
    before = await _versions(stub)
    if _CAN_LOAD not in about.extensions:
        names = ", ".join(f"{name} {version}" for name, version in before.items())
        yield f"{names}: taken up at its next start alone", True
        return
    for name, version in before.items():
        request = pb.RepositoryModelLoadRequest(model_name=name)
        try:
            await stub.RepositoryModelLoad(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            yield f"{name} {version} serves on: {error.details()}", False
        else:
            now = (await _versions(stub))[name]
            yield f"{name} {now}" + (" as before" if now == version else f", was {version}"), True


async def _versions(stub: "pb_grpc.GRPCInferenceServiceAsyncStub") -> dict[str, str]:
    answer = await stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=TIMEOUT_S)
    return {model.name: model.version for model in answer.models}
