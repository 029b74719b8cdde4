"""Nothing that a caller sends raises anything but a typed error, or is misread."""

import random
from collections import Counter
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fomofeed.type.v1 import type_pb2
from inference import grpc_service_pb2 as pb
from serving.engines.engine import TensorSpec
from serving.errors import InvalidRequestError
from serving.models.model import Model
from serving.models.served import FixedModels
from serving.oip.codec import Codec
from serving.oip.elements import join, split
from serving.scheduling.scheduler import BatchingConfig
from tests.serving.oip.conftest import ServeModels
from tests.serving.oip.mutations import damaged, parsed, right_request, spoiled
from tests.serving.oip.requests import Copies, spec

MODELS = (
    (spec("a", "FP32", -1, 3),),
    (spec("a", "FP32", -1, -1), spec("b", "INT8", -1)),
    (spec("a", "BYTES", -1, 2), spec("b", "BOOL", -1, 1)),
    (spec("a", "FP16", -1, 2), spec("b", "BF16", -1)),
    (spec("a", "UINT64", -1), spec("b", "INT64", -1), spec("c", "FP64", -1, 2, -1)),
)
# What a wrong or late request may meet. UNKNOWN, INTERNAL and UNAVAILABLE would be our fault.
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def codec_of(specs: tuple[TensorSpec, ...]) -> Codec:
    outputs = tuple(TensorSpec(f"{s.name}_out", s.dtype, s.shape) for s in specs)
    return Codec("m", specs, outputs, is_batched=True)


def examine(codec: Codec, specs: tuple[TensorSpec, ...], request: pb.ModelInferRequest) -> bool:
    """Decodes and answers a request; True when it was right. Checks what was understood."""
    try:
        names = codec.wanted(request)
        arrays = codec.decode(request)
    except InvalidRequestError as error:
        assert str(error)
        return False
    assert [*arrays] == [s.name for s in specs]
    for s in specs:
        array = arrays[s.name]
        (sent,) = [tensor for tensor in request.inputs if tensor.name == s.name]
        assert (array.dtype, list(array.shape)) == (s.dtype, list(sent.shape))
        assert all(size in (-1, found) for size, found in zip(s.shape, array.shape, strict=True))
    response = pb.ModelInferResponse()
    outputs = {f"{name}_out": array for name, array in arrays.items()}
    codec.encode(outputs, names, response, raw=bool(request.raw_input_contents))
    assert [tensor.name for tensor in response.outputs] == [*names]
    by_name = {tensor.name: index for index, tensor in enumerate(request.inputs)}
    for index, raw in enumerate(response.raw_output_contents if request.raw_input_contents else ()):
        assert raw == request.raw_input_contents[by_name[names[index].removesuffix("_out")]]
    return True


def fuzz(count: int, seed: int) -> Counter[bool]:
    """Sends `count` requests, spoiled or damaged, through the codecs."""
    chance, found = random.Random(seed), Counter[bool]()
    codecs = [codec_of(specs) for specs in MODELS]
    for _ in range(count):
        at = chance.randrange(len(MODELS))
        request: pb.ModelInferRequest | None = spoiled(chance, MODELS[at])
        if chance.random() < 0.3:
            assert request is not None
            request = parsed(damaged(chance, request.SerializeToString()))
        if request is not None:
            found[examine(codecs[at], MODELS[at], request)] += 1
    return found


def test_spoiled_requests_are_answered_right_or_refused() -> None:
    found = fuzz(4_000, seed=1)
    assert min(found[True], found[False]) > 500


@pytest.mark.prove
def test_a_hundred_thousand_spoiled_requests_are_answered_right_or_refused() -> None:
    found = fuzz(100_000, seed=2)
    print(f"codec: {found[True]} answered, {found[False]} refused")
    assert min(found[True], found[False]) > 10_000


@pytest.mark.parametrize("specs", MODELS, ids=lambda specs: "-".join(s.name for s in specs))
def test_right_requests_are_all_answered(specs: tuple[TensorSpec, ...]) -> None:
    chance, codec = random.Random(3), codec_of(specs)
    assert all(examine(codec, specs, right_request(chance, specs)) for _ in range(100))


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_framing_of_bytes_is_undone(elements: list[bytes]) -> None:
    assert split(join(elements)) == elements


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_any_bytes_are_elements_or_cut_off(framed: bytes) -> None:
    try:
        elements = split(framed)
    except ValueError:
        return
    assert join(elements) == framed


async def send(oip_on: ServeModels, count: int, seed: int) -> Counter[grpc.StatusCode]:
    """Sends spoiled and damaged messages to a real server, which must answer right at the end."""
    chance, found = random.Random(seed), Counter[grpc.StatusCode]()
    specs = MODELS[1]
    ref = type_pb2.ModelRef(model="m", version="1")
    async with Model("m", [Copies(*specs)], BatchingConfig(max_queue_rows=64), ref) as model:
        served = await oip_on(FixedModels([model]))
        call: Any = served.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(count):
            message = spoiled(chance, specs).SerializeToString()
            if chance.random() < 0.3:
                message = damaged(chance, message)
            if parsed(message) is None:
                continue
            try:
                await call(message, timeout=10)
                found[grpc.StatusCode.OK] += 1
            except grpc.aio.AioRpcError as error:
                found[error.code()] += 1
                assert error.code() in ALLOWED, error.details()
        request = pb.ModelInferRequest(model_name="m")
        while not request.inputs or request.inputs[0].shape[0] == 0:
            request = right_request(chance, specs)
        assert (await served.stub.ModelInfer(request)).outputs
    return found


async def test_a_server_survives_spoiled_messages(oip_on: ServeModels) -> None:
    found = await send(oip_on, 300, seed=4)
    assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT} <= set(found)


@pytest.mark.prove
async def test_a_server_survives_twenty_thousand_spoiled_messages(oip_on: ServeModels) -> None:
    found = await send(oip_on, 20_000, seed=5)
    print("server:", {code.name: count for code, count in found.items()})
