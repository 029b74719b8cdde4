"""The gRPC face of the text service. Writing takes microseconds: no queue, no thread."""

import asyncio
from collections.abc import Callable, Iterable, Sized
from typing import TypeVar

import grpc

from fomofeed.text.v1 import text_service_pb2 as pb
from fomofeed.text.v1 import text_service_pb2_grpc as pb_grpc
from services.text.captions import propose
from services.text.convert import caption_facts, notification_facts
from services.text.notifications import notify
from services.text.templates import Templates
from serving.errors import InvalidRequestError, ServingError, Violation, to_status
from serving.request import current

MAX_BATCH = 100  # requests of one batch: some 30 ms of writing

Request = TypeVar("Request")
Result = TypeVar("Result")


class TextServicer(pb_grpc.TextServiceServicer):
    """Answers from one set of templates."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    async def GenerateCaption(
        self,
        request: pb.GenerateCaptionRequest,
        context: grpc.aio.ServicerContext[pb.GenerateCaptionRequest, pb.GenerateCaptionResponse],
    ) -> pb.GenerateCaptionResponse:
        return self._caption(request)

    async def GenerateNotification(
        self,
        request: pb.GenerateNotificationRequest,
        context: grpc.aio.ServicerContext[
            pb.GenerateNotificationRequest, pb.GenerateNotificationResponse
        ],
    ) -> pb.GenerateNotificationResponse:
        return self._notification(request)

    async def BatchGenerateCaptions(
        self,
        request: pb.BatchGenerateCaptionsRequest,
        context: grpc.aio.ServicerContext[
            pb.BatchGenerateCaptionsRequest, pb.BatchGenerateCaptionsResponse
        ],
    ) -> pb.BatchGenerateCaptionsResponse:
        _check_count(request.requests)
        results = await _each(request.requests, self._caption_result)
        return pb.BatchGenerateCaptionsResponse(results=results)

    async def BatchGenerateNotifications(
        self,
        request: pb.BatchGenerateNotificationsRequest,
        context: grpc.aio.ServicerContext[
            pb.BatchGenerateNotificationsRequest, pb.BatchGenerateNotificationsResponse
        ],
    ) -> pb.BatchGenerateNotificationsResponse:
        _check_count(request.requests)
        results = await _each(request.requests, self._notification_result)
        return pb.BatchGenerateNotificationsResponse(results=results)

    def _caption_result(self, request: pb.GenerateCaptionRequest) -> pb.GenerateCaptionResult:
        try:
            return pb.GenerateCaptionResult(response=self._caption(request))
        except ServingError as error:
            return pb.GenerateCaptionResult(error=to_status(error))

    def _notification_result(
        self, request: pb.GenerateNotificationRequest
    ) -> pb.GenerateNotificationResult:
        try:
            return pb.GenerateNotificationResult(response=self._notification(request))
        except ServingError as error:
            return pb.GenerateNotificationResult(error=to_status(error))

    def _caption(self, request: pb.GenerateCaptionRequest) -> pb.GenerateCaptionResponse:
        facts, max_chars = caption_facts(request)
        language = self._templates.language(request.locale)
        current().ledger.model = self._templates.ref
        captions = propose(facts, language, request.tone, max_chars, request.seed)
        return pb.GenerateCaptionResponse(
            caption=captions[0].text,
            candidates=[pb.Candidate(text=one.text, score=one.score) for one in captions],
            model=self._templates.ref,
        )

    def _notification(
        self, request: pb.GenerateNotificationRequest
    ) -> pb.GenerateNotificationResponse:
        facts, max_chars = notification_facts(request)
        language = self._templates.language(request.locale)
        current().ledger.model = self._templates.ref
        return pb.GenerateNotificationResponse(
            notification=notify(facts, language, max_chars, request.seed),
            model=self._templates.ref,
        )


def _check_count(requests: Sized) -> None:
    if not 1 <= len(requests) <= MAX_BATCH:
        count = f"{len(requests)} requests"
        raise InvalidRequestError(Violation("requests", count, f"1 to {MAX_BATCH} requests"))


async def _each(requests: Iterable[Request], write: Callable[[Request], Result]) -> list[Result]:
    """Writes one after another; whoever else calls has a turn between two of them."""
    results = []
    for request in requests:
        results.append(write(request))
        await asyncio.sleep(0)
    return results
