"""The Open Inference Protocol over a set of models. Works on the event loop, never blocks it."""

import asyncio
import time
from collections.abc import Callable, Mapping
from importlib import metadata as packages
from typing import Any
from weakref import WeakKeyDictionary

import grpc

from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc
from serving import request as calls
from serving.errors import InvalidRequestError, NotFoundError, NotReadyError, Violation
from serving.models.served import Models, Served, State
from serving.oip import describe
from serving.oip.codec import Codec

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
SERVER_NAME = "fomofeed"
EXTENSIONS = (
    "binary_tensor_data",  # Triton's framing of BYTES in raw contents
    "model_configuration",  # Triton's ModelConfig
    "statistics",  # Triton's ModelStatistics
    "parameters(timeout)",  # Triton's request parameter, in microseconds
    "artifact_digest",  # artifact_sha256 among the properties and in each answer
    "ledger",  # trailer fomofeed-ledger-bin: where the time of the call went
    "health",  # grpc.health.v1: "" = ServerReady, this service, and one name for each model
)
REPOSITORY_EXTENSION = "model_repository"
_UNLOAD_DEPENDENTS = (
    "unload_dependents"  # sent by Triton's clients; nothing depends on a model here
)

Context = grpc.aio.ServicerContext[Any, Any]


class InferenceServicer(pb_grpc.GRPCInferenceServiceServicer):
    """Serves `models`. Refuses with the typed errors of `serving.errors`."""

    def __init__(self, models: Models, is_serving: Callable[[], bool] = lambda: True) -> None:
        """`is_serving` says whether the server takes calls; `ServerReady` needs both."""
        self._models = models
        self._is_serving = is_serving
        self._codecs: WeakKeyDictionary[Served, Codec] = WeakKeyDictionary()

    async def ServerLive(self, _: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, _: pb.ServerReadyRequest, context: Context
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._is_serving() and self._models.is_ready())

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: Context
    ) -> pb.ModelReadyResponse:
        try:
            self._models.find(request.name, request.version)
        except (NotFoundError, NotReadyError):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._is_serving())

    async def ServerMetadata(
        self, _: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        extensions = (*EXTENSIONS, REPOSITORY_EXTENSION) if self._models.can_load else EXTENSIONS
        version = packages.version(SERVER_NAME)
        return pb.ServerMetadataResponse(name=SERVER_NAME, version=version, extensions=extensions)

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        served = self._find(request.name, request.version)
        versions = [other.version for other in self._models.serving() if other.name == served.name]
        return describe.metadata(served, versions)

    async def ModelConfig(
        self, request: pb.ModelConfigRequest, context: Context
    ) -> pb.ModelConfigResponse:
        served = self._find(request.name, request.version)
        return pb.ModelConfigResponse(config=describe.config(served))

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        if request.name:
            self._find(request.name, request.version)  # refuses what is not there
        chosen = [
            describe.statistics(served)
            for served in self._models.serving()
            if request.name in ("", served.name) and request.version in ("", served.version)
        ]
        return pb.ModelStatisticsResponse(model_stats=chosen)

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        start = time.perf_counter()
        with self._find(request.model_name, request.model_version) as served:
            facts = calls.current()
            came = start - facts.ledger.preprocess_s  # before the message was read
            try:
                response, rows = await self._infer(served, request, facts, start)
            except BaseException:  # a caller that has left counts as well
                served.statistics.failure.add(time.perf_counter() - came)
                raise
            served.statistics.succeeded(rows, time.perf_counter() - came, facts.ledger)
            return response

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        entries = await self._models.index()
        return describe.index(e for e in entries if e.state == State.READY or not request.ready)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        _refuse_parameters(request.parameters)
        await self._models.load(_named(request.model_name))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        _refuse_parameters(request.parameters, _UNLOAD_DEPENDENTS)
        await self._models.unload(_named(request.model_name))
        return pb.RepositoryModelUnloadResponse()

    async def _infer(
        self, served: Served, request: pb.ModelInferRequest, facts: calls.CallFacts, start: float
    ) -> tuple[pb.ModelInferResponse, int]:
        """Returns the answer and its number of rows; times go to the ledger of the call."""
        ledger, codec = facts.ledger, self._codec(served)
        ledger.model = served.model.ref
        if request.parameters:
            _heed_parameters(request.parameters, facts)
        names = codec.wanted(request)
        inputs = codec.decode(request)
        ledger.preprocess_s += time.perf_counter() - start
        outputs = await served.model.infer(inputs)
        start = time.perf_counter()
        response = pb.ModelInferResponse(
            model_name=served.name, model_version=served.version, id=request.id
        )
        if served.digest:
            response.parameters["artifact_sha256"].string_param = served.digest
        codec.encode(outputs, names, response, raw=bool(request.raw_input_contents))
        ledger.postprocess_s += time.perf_counter() - start
        rows = next(iter(inputs.values())).shape[0] if served.model.is_batched else 1
        return response, rows

    def _find(self, name: str, version: str) -> Served:
        return self._models.find(_named(name), version)

    def _codec(self, served: Served) -> Codec:
        codec = self._codecs.get(served)
        if codec is None:
            model = served.model
            codec = Codec(served.name, model.inputs, model.outputs, is_batched=model.is_batched)
            self._codecs[served] = codec
        return codec


def _named(name: str) -> str:
    if not name:
        raise InvalidRequestError(Violation("model_name", "empty", "the name of a model"))
    return name


def _refuse_parameters(parameters: Mapping[str, Any], *ignored: str) -> None:
    """Refuses a configuration or files sent along: what serves is what the repository holds."""
    for key in parameters:
        if key not in ignored:
            limit = "models are loaded as the repository holds them"
            raise InvalidRequestError(Violation(f"parameters[{key}]", "set", limit))


def _heed_parameters(parameters: Mapping[str, pb.InferParameter], facts: calls.CallFacts) -> None:
    """Lets `timeout` shorten the deadline; refuses sequences, which would need a state."""
    if "sequence_id" in parameters:
        raise InvalidRequestError(Violation("parameters[sequence_id]", "set", "no sequences here"))
    if "timeout" not in parameters:
        return
    timeout = parameters["timeout"]
    kind = timeout.WhichOneof("parameter_choice")
    value = getattr(timeout, kind) if kind in ("int64_param", "uint64_param") else -1
    if value < 0:
        limit = "microseconds, a whole number from 0"
        raise InvalidRequestError(Violation("parameters[timeout]", str(timeout).strip(), limit))
    if value:  # 0 is Triton's word for none
        end = asyncio.get_running_loop().time() + value / 1e6
        facts.deadline = min(facts.deadline, end)
