"""The gRPC face of the text service. Writing takes microseconds: no queue, no thread."""

import grpc

from fomofeed.text.v1 import text_service_pb2 as pb
from fomofeed.text.v1 import text_service_pb2_grpc as pb_grpc
from services.text.captions import propose
from services.text.convert import caption_facts, notification_facts
from services.text.notifications import notify
from services.text.templates import Templates
from serving.request import current


class TextServicer(pb_grpc.TextServiceServicer):
    """Answers from one set of templates."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    async def GenerateCaption(
        self,
        request: pb.GenerateCaptionRequest,
        context: grpc.aio.ServicerContext[pb.GenerateCaptionRequest, pb.GenerateCaptionResponse],
    ) -> pb.GenerateCaptionResponse:
        facts, max_chars = caption_facts(request)
        language = self._templates.language(request.locale)
        current().ledger.model = self._templates.ref
        captions = propose(facts, language, request.tone, max_chars, request.seed)
        return pb.GenerateCaptionResponse(
            caption=captions[0].text,
            candidates=[pb.Candidate(text=one.text, score=one.score) for one in captions],
            model=self._templates.ref,
        )

    async def GenerateNotification(
        self,
        request: pb.GenerateNotificationRequest,
        context: grpc.aio.ServicerContext[
            pb.GenerateNotificationRequest, pb.GenerateNotificationResponse
        ],
    ) -> pb.GenerateNotificationResponse:
        facts, max_chars = notification_facts(request)
        language = self._templates.language(request.locale)
        current().ledger.model = self._templates.ref
        return pb.GenerateNotificationResponse(
            notification=notify(facts, language, max_chars, request.seed),
            model=self._templates.ref,
        )
