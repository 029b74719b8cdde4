from collections.abc import Sequence
from typing import TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from fomofeed.clip.v1 import clip_service_pb2 as pb
from fomofeed.clip.v1 import clip_service_pb2_grpc as pb_grpc
from services.clip.analyzer import Analysis, Analyzer
from serving.errors import (
    InvalidRequestError,
    NotFoundError,
    NotImplementedHereError,
    ServingError,
    Violation,
    to_status,
)
from serving.offload import together

SERVICE_NAME = "fomofeed.clip.v1.ClipService"
DEFAULT_TAGS, MAX_TAGS = 10, 100

Req = TypeVar("Req")
Res = TypeVar("Res")
Context = grpc.aio.ServicerContext[Req, Res]


class ClipServicer(pb_grpc.ClipServiceServicer):
    """Answers with one analyzer."""

    def __init__(self, analyzer: Analyzer, max_batch_images: int = 32) -> None:
        self._analyzer = analyzer
        self._max_batch_images = max_batch_images

    async def AnalyzeImage(
        self,
        request: pb.AnalyzeImageRequest,
        context: Context[pb.AnalyzeImageRequest, pb.AnalyzeImageResponse],
    ) -> pb.AnalyzeImageResponse:
        return await self._analyze(request)

    async def BatchAnalyzeImages(
        self,
        request: pb.BatchAnalyzeImagesRequest,
        context: Context[pb.BatchAnalyzeImagesRequest, pb.BatchAnalyzeImagesResponse],
    ) -> pb.BatchAnalyzeImagesResponse:
        self._check_count("requests", request.requests)
        items = enumerate(request.requests)
        results = await together(self._result(item, index) for index, item in items)
        return pb.BatchAnalyzeImagesResponse(results=results)

    async def ClassifyImage(
        self,
        request: pb.ClassifyImageRequest,
        context: Context[pb.ClassifyImageRequest, pb.ClassifyImageResponse],
    ) -> pb.ClassifyImageResponse:
        raise NotImplementedHereError(
            "classification by the caller's labels", "it needs a model with a text tower"
        )

    async def Embed(
        self, request: pb.EmbedRequest, context: Context[pb.EmbedRequest, pb.EmbedResponse]
    ) -> pb.EmbedResponse:
        space = self._analyzer.sight.space
        if request.space not in ("", space):
            raise NotFoundError("embedding space", request.space, (space,))
        self._check_count("inputs", request.inputs)
        if violations := _unusable(request.inputs):
            raise InvalidRequestError(*violations)
        embeddings = await self._embeddings([item.image for item in request.inputs])
        return pb.EmbedResponse(embeddings=embeddings, model=self._analyzer.sight.ref)

    async def _analyze(
        self, request: pb.AnalyzeImageRequest, prefix: str = ""
    ) -> pb.AnalyzeImageResponse:
        if not 0 <= request.max_tags <= MAX_TAGS:
            limit = f"0 to {MAX_TAGS}"
            raise InvalidRequestError(Violation(f"{prefix}max_tags", str(request.max_tags), limit))
        analysis = await self._analyzer.analyze(request.image, f"{prefix}image")
        response = to_proto(analysis, request.max_tags or DEFAULT_TAGS)
        if request.with_embedding:
            response.embedding.MergeFrom(self._embedding(analysis.embedding))
        response.model.CopyFrom(self._analyzer.sight.ref)
        response.quality_model.CopyFrom(self._analyzer.sight.quality_ref)
        return response

    async def _result(self, item: pb.AnalyzeImageRequest, index: int) -> pb.AnalyzeImageResult:
        try:
            return pb.AnalyzeImageResult(response=await self._analyze(item, f"requests[{index}]."))
        except ServingError as error:
            return pb.AnalyzeImageResult(error=to_status(error))

    async def _embeddings(self, images: Sequence[bytes]) -> list[pb.Embedding]:
        points = await together(
            self._analyzer.embed(image, f"inputs[{index}].image")
            for index, image in enumerate(images)
        )
        return [self._embedding(point) for point in points]

    def _embedding(self, point: NDArray[np.float32]) -> pb.Embedding:
        return pb.Embedding(space=self._analyzer.sight.space, values=point)

    def _check_count(self, field: str, items: Sequence[object]) -> None:
        if not 1 <= len(items) <= self._max_batch_images:
            limit = f"expected 1 to {self._max_batch_images}"
            raise InvalidRequestError(Violation(field, f"{len(items)} items", limit))


def to_proto(analysis: Analysis, max_tags: int) -> pb.AnalyzeImageResponse:
    """Returns an analysis as the contract has it, without embedding and models."""
    aspects = analysis.quality.aspects.items()
    tags = analysis.tags[:max_tags]
    return pb.AnalyzeImageResponse(
        quality_score=analysis.quality.score,
        tags=[pb.Tag(label=t.label, probability=t.probability, source=t.source) for t in tags],
        aspects=[pb.QualityAspect(aspect=name, score=score) for name, score in aspects],
        palette=[pb.Color(hex=colour.hex, share=colour.share) for colour in analysis.palette],
        content_sha256=analysis.sha256,
    )


def _unusable(inputs: Sequence[pb.EmbedInput]) -> list[Violation]:
    found = []
    for index, item in enumerate(inputs):
        kind = item.WhichOneof("input")
        if kind is None:
            found.append(Violation(f"inputs[{index}]", "empty", "expected text or image"))
        elif kind == "text":
            limit = "expected an image: no text tower is loaded"
            found.append(Violation(f"inputs[{index}].text", "a text", limit))
    return found
