"""Servers of the protocol that are wrong in one way each: what the checklist must find."""

from collections.abc import Callable
from typing import Any

import grpc

from inference import grpc_service_pb2 as pb
from serving.errors import InvalidRequestError, NotFoundError, ServingError, Violation
from serving.models.served import Models
from serving.oip.servicer import InferenceServicer

Context = grpc.aio.ServicerContext[Any, Any]


class Changed(InferenceServicer):
    """Changes each request before, and each answer after, the right server has seen it."""

    def __init__(self, models: Models) -> None:
        super().__init__(models)

    def before(self, request: pb.ModelInferRequest) -> None:
        """Changes a request in place."""

    def after(self, request: pb.ModelInferRequest, answer: pb.ModelInferResponse) -> None:
        """Changes an answer in place."""

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        self.before(request)
        answer = await super().ModelInfer(request, context)
        self.after(request, answer)
        return answer


class IgnoresVersion(Changed):
    def before(self, request: pb.ModelInferRequest) -> None:
        request.model_version = ""

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: Context
    ) -> pb.ModelReadyResponse:
        return await super().ModelReady(pb.ModelReadyRequest(name=request.name), context)


class DropsId(Changed):
    def after(self, request: pb.ModelInferRequest, answer: pb.ModelInferResponse) -> None:
        answer.id = ""


class SwapsOrder(Changed):
    """Raw contents of the first and the last output change places; both are of one size."""

    def after(self, request: pb.ModelInferRequest, answer: pb.ModelInferResponse) -> None:
        raws = answer.raw_output_contents
        if len(raws) > 1:
            raws[0], raws[-1] = raws[-1], raws[0]


class AlwaysAll(Changed):
    def before(self, request: pb.ModelInferRequest) -> None:
        del request.outputs[:]


class AnswersBothForms(Changed):
    def after(self, request: pb.ModelInferRequest, answer: pb.ModelInferResponse) -> None:
        if answer.raw_output_contents:
            answer.outputs[0].contents.fp32_contents.extend([0.0])


class NeverReady(Changed):
    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: Context
    ) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse()


class HidesItsModel(Changed):
    """Tells neither model nor version that answered."""

    def after(self, request: pb.ModelInferRequest, answer: pb.ModelInferResponse) -> None:
        answer.model_name = answer.model_version = ""


class CutsShort(Changed):
    """The first output has an element less than its shape says, in both forms."""

    def after(self, request: pb.ModelInferRequest, answer: pb.ModelInferResponse) -> None:
        if answer.raw_output_contents:
            answer.raw_output_contents[0] = answer.raw_output_contents[0][:-4]
        else:
            del answer.outputs[0].contents.fp32_contents[-1:]


class HasNoPlatform(Changed):
    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        answer = await super().ModelMetadata(request, context)
        answer.platform = "onnx"
        return answer


class TakesNoRaw(Changed):
    def before(self, request: pb.ModelInferRequest) -> None:
        if request.raw_input_contents and not any(i.HasField("contents") for i in request.inputs):
            raise InvalidRequestError(Violation("raw_input_contents", "set", "model m takes typed"))


class ForgivesOutputs(Changed):
    """Leaves out outputs that it does not know, and gives each once."""

    def before(self, request: pb.ModelInferRequest) -> None:
        known = {f"{tensor.name}_out": None for tensor in request.inputs}
        names = {output.name: None for output in request.outputs if output.name in known}
        del request.outputs[:]
        request.outputs.extend(
            pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names
        )


class SaysOnlyInvalid(Changed):
    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        try:
            return await super().ModelInfer(request, context)
        except ServingError as error:
            if isinstance(error, NotFoundError):
                raise
            raise InvalidRequestError(Violation("request", "wrong", "a right one")) from None


class Breaks(Changed):
    """Raises what no caller should see at every mistake."""

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        try:
            return await super().ModelInfer(request, context)
        except InvalidRequestError as error:
            raise ZeroDivisionError from error


# What each server breaks, and nothing else.
BROKEN: dict[Callable[[Models], InferenceServicer], set[str]] = {
    IgnoresVersion: {"5c", "5d", "5e"},
    DropsId: {"10a", "10b"},
    SwapsOrder: {"15a", "18c"},
    AlwaysAll: {"10d", "22i", "22j"},
    AnswersBothForms: {"18b"},
    NeverReady: {"4"},
    HidesItsModel: {"5e", "18a"},
    CutsShort: {"12", "15a", "17", "18c"},
    HasNoPlatform: {"9"},
    TakesNoRaw: {"13a"},
    ForgivesOutputs: {"22i", "22j"},
    SaysOnlyInvalid: {"22o", "22p"},
    # Incident numbers make its words differ, so 22o cannot find it.
    Breaks: {f"22{letter}" for letter in "abcdefghijklmnp"},
}
