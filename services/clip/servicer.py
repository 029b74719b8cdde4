from collections.abc import Sequence
from typing import TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from fomofeed.clip.v1 import clip_service_pb2 as pb
from fomofeed.clip.v1 import clip_service_pb2_grpc as pb_grpc
from services.clip.analyzer import Analysis, Analyzer
from services.clip.request_checks import classification_violations, embedding_violations
from services.clip.vit.prompts import TEMPLATES
from services.clip.vit.words import SOURCE as CLIP_SOURCE
from serving.errors import (
    InvalidRequestError,
    NotFoundError,
    NotImplementedHereError,
    ServingError,
    Violation,
    to_status,
)
from serving.offload import both, together
from serving.request import current as request_facts

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
        ledger = request_facts().ledger
        ledger.cached = ledger.cached and not ledger.compute_s  # the whole batch, or not at all
        return pb.BatchAnalyzeImagesResponse(results=results)

    async def ClassifyImage(
        self,
        request: pb.ClassifyImageRequest,
        context: Context[pb.ClassifyImageRequest, pb.ClassifyImageResponse],
    ) -> pb.ClassifyImageResponse:
        analyzer = self._analyzer
        if not analyzer.sight.reads_text:
            raise NotImplementedHereError(
                "classification by the caller's labels", "it needs a model with a text tower"
            )
        labels, templates = list(request.labels), list(request.templates) or [*TEMPLATES]
        if violations := classification_violations(labels, templates):
            raise InvalidRequestError(*violations)
        shares = await analyzer.classify(request.image, labels, templates)
        order = np.argsort(-shares, kind="stable")
        tags = [
            pb.Tag(label=labels[at], probability=shares[at], source=CLIP_SOURCE) for at in order
        ]
        return pb.ClassifyImageResponse(labels=tags, model=analyzer.sight.ref)

    async def Embed(
        self, request: pb.EmbedRequest, context: Context[pb.EmbedRequest, pb.EmbedResponse]
    ) -> pb.EmbedResponse:
        space = self._analyzer.sight.space
        if request.space not in ("", space):
            raise NotFoundError("embedding space", request.space, (space,))
        self._check_count("inputs", request.inputs)
        reads_text = self._analyzer.sight.reads_text
        if violations := embedding_violations(request.inputs, reads_text):
            raise InvalidRequestError(*violations)
        embeddings = await self._embeddings(request.inputs)
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
        response.signals.extend(self._analyzer.signals.names)
        return response

    async def _result(self, item: pb.AnalyzeImageRequest, index: int) -> pb.AnalyzeImageResult:
        try:
            return pb.AnalyzeImageResult(response=await self._analyze(item, f"requests[{index}]."))
        except ServingError as error:
            return pb.AnalyzeImageResult(error=to_status(error))

    async def _embeddings(self, inputs: Sequence[pb.EmbedInput]) -> list[pb.Embedding]:
        texts = [item.text for item in inputs if item.HasField("text")]
        images = [
            self._analyzer.embed(item.image, f"inputs[{index}].image")
            for index, item in enumerate(inputs)
            if item.HasField("image")
        ]
        seen, read = await both(together(images), self._read(texts))
        points = {"image": iter(seen), "text": iter(read)}
        kinds = [item.WhichOneof("input") for item in inputs]
        return [self._embedding(next(points[kind])) for kind in kinds if kind]

    async def _read(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        return list(await self._analyzer.read(texts)) if texts else []

    def _embedding(self, point: NDArray[np.float32]) -> pb.Embedding:
        return pb.Embedding(space=self._analyzer.sight.space, values=point.tolist())

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
