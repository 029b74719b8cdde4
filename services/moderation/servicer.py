from typing import TypeVar

import grpc

from fomofeed.moderation.v1 import moderation_service_pb2 as pb
from fomofeed.moderation.v1 import moderation_service_pb2_grpc as pb_grpc
from services.moderation.checks import check
from services.moderation.config import ModerationConfig
from services.moderation.detectors import Finding, NsfwDetector
from services.moderation.policy import Policies, Policy
from serving.errors import InvalidRequestError, ServingError, Violation, to_status
from serving.offload import together

SERVICE_NAME = "fomofeed.moderation.v1.ModerationService"

Req = TypeVar("Req")
Res = TypeVar("Res")
Context = grpc.aio.ServicerContext[Req, Res]


class ModerationServicer(pb_grpc.ModerationServiceServicer):
    """Answers with one detector and the policies of one folder."""

    def __init__(
        self, detector: NsfwDetector, policies: Policies, config: ModerationConfig
    ) -> None:
        self._detector, self._policies, self._config = detector, policies, config

    async def ModerateContent(
        self,
        request: pb.ModerateContentRequest,
        context: Context[pb.ModerateContentRequest, pb.ModerateContentResponse],
    ) -> pb.ModerateContentResponse:
        return await self._moderate(request)

    async def BatchModerateContent(
        self,
        request: pb.BatchModerateContentRequest,
        context: Context[pb.BatchModerateContentRequest, pb.BatchModerateContentResponse],
    ) -> pb.BatchModerateContentResponse:
        if not 1 <= len(request.requests) <= self._config.max_batch_posts:
            limit = f"expected 1 to {self._config.max_batch_posts}"
            count = f"{len(request.requests)} items"
            raise InvalidRequestError(Violation("requests", count, limit))
        items = enumerate(request.requests)
        results = await together(self._result(item, index) for index, item in items)
        return pb.BatchModerateContentResponse(results=results)

    async def _moderate(
        self, request: pb.ModerateContentRequest, prefix: str = ""
    ) -> pb.ModerateContentResponse:
        check(request, self._config, prefix)
        policy = self._policies.find(request.policy)
        findings = []
        if request.image:
            findings.append(await self._detector.assess(request.image, f"{prefix}image"))
        return to_proto(findings, policy)

    async def _result(
        self, item: pb.ModerateContentRequest, index: int
    ) -> pb.ModerateContentResult:
        try:
            response = await self._moderate(item, f"requests[{index}].")
        except ServingError as error:
            return pb.ModerateContentResult(error=to_status(error))
        return pb.ModerateContentResult(response=response)


def to_proto(findings: list[Finding], policy: Policy) -> pb.ModerateContentResponse:
    """Returns what `policy` makes of `findings`, as the contract has it."""
    verdict = policy.decide(findings)
    return pb.ModerateContentResponse(
        decision=verdict.decision,
        risk=verdict.risk,
        signals=[
            pb.Signal(category=f.category, p_violation=f.p_violation, model=f.model)
            for f in findings
        ],
        not_assessed=policy.not_assessed(findings),
        policy=policy.full_name,
        reasons=verdict.reasons,
    )
