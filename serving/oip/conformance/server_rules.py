"""Rules 1 to 9, 24 and 25: the service, health and metadata."""

import re
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from inference import grpc_service_pb2 as pb
from serving.oip.conformance.finding import NotApplicableError, require
from serving.oip.conformance.rule import Level, Rule
from serving.oip.conformance.target import CALL_TIMEOUT_S, UNKNOWN, UNKNOWN_VERSION, Target
from serving.oip.conformance.tensors import KINDS, Metadata

_SERVICE = "inference.GRPCInferenceService"
_PLATFORM = re.compile(r"[A-Za-z0-9.+-]+_[A-Za-z0-9_.+-]+")
_UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED


async def service_is_there(target: Target) -> None:
    call: Any = target.channel.unary_unary(f"/{_SERVICE}/ServerLive")
    await call(b"", timeout=CALL_TIMEOUT_S)


async def six_calls_are_there(target: Target) -> None:
    name = target.model.name
    requests = {
        "ServerLive": pb.ServerLiveRequest(),
        "ServerReady": pb.ServerReadyRequest(),
        "ModelReady": pb.ModelReadyRequest(name=name),
        "ServerMetadata": pb.ServerMetadataRequest(),
        "ModelMetadata": pb.ModelMetadataRequest(name=name),
        "ModelInfer": pb.ModelInferRequest(model_name=name),
    }
    missing = []
    for method, request in requests.items():
        try:
            await getattr(target.stub, method)(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is _UNIMPLEMENTED:
                missing.append(method)
    require(not missing, f"{', '.join(missing)} not there")


async def live(target: Target) -> None:
    require((await target.call("ServerLive", pb.ServerLiveRequest())).live, "live is false")


async def ready(target: Target) -> None:
    answer = await target.call("ServerReady", pb.ServerReadyRequest())
    require(answer.ready, f"ready is false although {target.model.name} answers")


async def model_is_ready(target: Target) -> None:
    for version in ("", *target.model.versions):
        request = pb.ModelReadyRequest(name=target.model.name, version=version)
        answer = await target.call("ModelReady", request)
        require(answer.ready, f"version {version or 'of the policy'} is not ready")


async def unknown_model_is_not_ready(target: Target) -> None:
    await _is_not_ready(target, pb.ModelReadyRequest(name=UNKNOWN), "a model that is not there")


async def unknown_version_is_not_ready(target: Target) -> None:
    request = pb.ModelReadyRequest(name=target.model.name, version=UNKNOWN_VERSION)
    await _is_not_ready(target, request, "a version that is not there")


async def _is_not_ready(target: Target, request: pb.ModelReadyRequest, what: str) -> None:
    """An error is as good as false: codes are not prescribed."""
    try:
        answer = await target.stub.ModelReady(request, timeout=CALL_TIMEOUT_S)
    except grpc.aio.AioRpcError:
        return
    require(not answer.ready, f"{what} is ready")


async def unknown_version_does_not_answer(target: Target) -> None:
    await target.refusal("ModelInfer", target.request(model_version=UNKNOWN_VERSION))


async def given_version_answers(target: Target) -> None:
    if not target.model.versions:
        raise NotApplicableError(f"{target.model.name} lists no versions")
    for version in target.model.versions:
        response = await target.infer(target.request(model_version=version))
        answered = f"version {version} was asked, {response.model_version or 'none'} answered"
        require(response.model_version == version, answered)


async def unknown_model_is_refused(target: Target) -> None:
    request = target.request()
    request.model_name = UNKNOWN
    await target.refusal("ModelInfer", request)
    await target.refusal("ModelMetadata", pb.ModelMetadataRequest(name=UNKNOWN))


async def server_metadata(target: Target) -> None:
    answer = await target.call("ServerMetadata", pb.ServerMetadataRequest())
    require(answer.name, "the name is empty")
    require(answer.version, "the version is empty")
    names = list(answer.extensions)
    require(all(names) and len(set(names)) == len(names), f"extensions are {names}")


async def model_metadata(target: Target) -> None:
    model = target.model
    require(model.inputs, "there are no inputs")
    require(model.outputs, "there are no outputs")
    for tensor in (*model.inputs, *model.outputs):
        _check_tensor(tensor)
    for version in model.versions:
        request = pb.ModelMetadataRequest(name=model.name, version=version)
        require((await target.call("ModelMetadata", request)).name == model.name, "other name")


def _check_tensor(tensor: Metadata) -> None:
    require(tensor.name, "a tensor has no name")
    require(tensor.datatype in KINDS, f"{tensor.name} is {tensor.datatype or 'without datatype'}")
    require(all(size >= -1 for size in tensor.shape), f"{tensor.name} is {list(tensor.shape)}")


async def platform(target: Target) -> None:
    name = target.model.platform
    require(_PLATFORM.fullmatch(name), f"platform is {name!r}, expected <project>_<format>")


async def health(target: Target) -> None:
    stub: Any = health_pb2_grpc.HealthStub(target.channel)  # sync in its stubs, either at run time
    for name in ("", _SERVICE, target.model.name):
        request = health_pb2.HealthCheckRequest(service=name)
        try:
            answer = await stub.Check(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            require(False, f"health of {name!r}: {error.code().name}")
        serving = health_pb2.HealthCheckResponse.SERVING
        require(answer.status == serving, f"health of {name!r} is not SERVING")


async def reflection(target: Target) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(target.channel)  # type: ignore[arg-type]
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    call = stub.ServerReflectionInfo(iter([request]), timeout=CALL_TIMEOUT_S)
    try:
        answer = await call.read()
    except grpc.aio.AioRpcError as error:
        require(False, f"reflection: {error.code().name}")
    finally:
        call.cancel()
    names = [service.name for service in answer.list_services_response.service]
    require(_SERVICE in names, f"reflection lists {names}")


RULES = (
    Rule("1", Level.MUST, f"the service is {_SERVICE}", service_is_there),
    Rule("2", Level.MUST, "the six calls are there", six_calls_are_there),
    Rule("3", Level.MUST, "ServerLive answers true", live),
    Rule("4", Level.MUST, "ServerReady answers true while models do", ready),
    Rule("5a", Level.MUST, "ModelReady answers true for what can be asked", model_is_ready),
    Rule("5b", Level.MUST, "an unknown model is not ready", unknown_model_is_not_ready),
    Rule("5c", Level.MUST, "an unknown version is not ready", unknown_version_is_not_ready),
    Rule("5d", Level.MUST, "an unknown version does not answer", unknown_version_does_not_answer),
    Rule("5e", Level.MUST, "the version that is asked for answers", given_version_answers),
    Rule("6", Level.MUST, "an unknown model is a failed call", unknown_model_is_refused),
    Rule("7", Level.MUST, "server metadata has name, version, extensions", server_metadata),
    Rule("8", Level.MUST, "model metadata has tensors and versions", model_metadata),
    Rule("9", Level.MUST, "the platform is <project>_<format>", platform),
)
LAST_RULES = (
    Rule("24", Level.SHOULD, "grpc.health.v1 knows server, service and model", health),
    Rule("25", Level.SHOULD, "reflection lists the service", reflection),
)
