"""The server under examination, one of its models, and requests that it should like."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import grpc

from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc
from serving.oip.conformance import tensors
from serving.oip.conformance.finding import BrokenError, NotApplicableError

CALL_TIMEOUT_S = 10.0
UNKNOWN = "no-such-model-here"
UNKNOWN_VERSION = "999999999"


class DiscoveryError(Exception):
    """No model to examine; the text says what to give."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server and the metadata of the model that its rules are checked with."""

    channel: grpc.aio.Channel
    stub: Any  # GRPCInferenceServiceStub: generic in its stubs
    model: pb.ModelMetadataResponse
    takes_raw: bool = True  # else most rules are checked with typed requests

    async def call(self, method: str, request: Any) -> Any:
        """Calls a method; a refusal breaks the rule that is being checked."""
        try:
            return await getattr(self.stub, method)(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            told = f"{method}: {error.code().name} {error.details() or ''}"
            raise BrokenError(told.strip()) from None

    async def infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        """Calls ModelInfer; a refusal breaks the rule that is being checked."""
        response: pb.ModelInferResponse = await self.call("ModelInfer", request)
        return response

    async def refusal(self, method: str, request: Any) -> grpc.aio.AioRpcError:
        """Returns how a call is refused; an answer breaks the rule that is being checked."""
        try:
            await getattr(self.stub, method)(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return error
        raise BrokenError(f"{method} answered instead of refusing")

    def shape(self, tensor: tensors.Metadata, rows: int = 1) -> list[int]:
        """Returns a shape to send: `rows` for a free first dimension, 1 for other free ones."""
        sizes = [1 if size < 0 else size for size in tensor.shape]
        if tensor.shape and tensor.shape[0] < 0:
            sizes[0] = rows
        return sizes

    def request(
        self, rows: int = 1, *, raw: bool | None = None, **fields: Any
    ) -> pb.ModelInferRequest:
        """Returns a right request, `raw` None: in the form that the server takes.

        Raises `NotApplicableError` when the server or an input does not have that form.
        """
        raw = self.takes_raw if raw is None else raw
        if raw and not self.takes_raw:
            raise NotApplicableError("the server takes no raw contents")
        inputs, entries = [], []
        for index, tensor in enumerate(self.model.inputs):
            shape = self.shape(tensor, rows)
            count = 1
            for size in shape:
                count *= size
            values = tensors.samples(tensor.datatype, count, index)
            if not raw and not tensors.KINDS[tensor.datatype].field:
                raise NotApplicableError(f"{tensor.name} is {tensor.datatype}, which is only raw")
            made = tensors.make_input(tensor.name, tensor.datatype, shape, values)
            if raw:
                made.ClearField("contents")
                entries.append(tensors.to_raw(tensor.datatype, values))
            inputs.append(made)
        return pb.ModelInferRequest(
            model_name=self.model.name, inputs=inputs, raw_input_contents=entries, **fields
        )

    def input_with(
        self, wanted: Callable[[tensors.Metadata], object], what: str
    ) -> tuple[int, tensors.Metadata]:
        """Returns the first input that `wanted` accepts. Raises `NotApplicableError`."""
        for index, tensor in enumerate(self.model.inputs):
            if wanted(tensor):
                return index, tensor
        raise NotApplicableError(f"no input of {self.model.name} is {what}")


async def discover(channel: grpc.aio.Channel, model: str = "") -> Target:
    """Finds the model to examine: the one named, else the first of the index that answers."""
    stub: Any = pb_grpc.GRPCInferenceServiceStub(channel)
    for name in [model] if model else await _listed(stub):
        target = Target(channel, stub, await _metadata(stub, name))
        for takes_raw in (True, False):
            target = replace(target, takes_raw=takes_raw)
            if await _answers(target):
                return target
    told = f"{model or 'no model of the index'} answers no request of small shapes"
    raise DiscoveryError(told if model else f"{told}; name one with --model")


async def _listed(stub: Any) -> list[str]:
    try:
        index = await stub.RepositoryIndex(
            pb.RepositoryIndexRequest(ready=True), timeout=CALL_TIMEOUT_S, wait_for_ready=True
        )
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise DiscoveryError(f"no answer in {CALL_TIMEOUT_S:g} s") from None
        told = f"the server lists no models ({error.code().name})"
        raise DiscoveryError(f"{told}; name one with --model") from None
    return list(dict.fromkeys(entry.name for entry in index.models))


async def _metadata(stub: Any, model: str) -> pb.ModelMetadataResponse:
    try:
        metadata: pb.ModelMetadataResponse = await stub.ModelMetadata(
            pb.ModelMetadataRequest(name=model), timeout=CALL_TIMEOUT_S, wait_for_ready=True
        )
    except grpc.aio.AioRpcError as error:
        raise DiscoveryError(
            f"{model} has no metadata: {error.code().name} {error.details()}"
        ) from None
    unknown = [t.datatype for t in metadata.inputs if t.datatype not in tensors.KINDS]
    if unknown:
        raise DiscoveryError(f"{model} takes {', '.join(unknown)}, no datatype of the protocol")
    return metadata


async def _answers(target: Target) -> bool:
    try:
        await target.infer(target.request())
    except (BrokenError, NotApplicableError):
        return False
    return True
