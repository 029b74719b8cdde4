"""Requests that are nearly right: spoiled in structure, or in single bytes of the message."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from inference import grpc_service_pb2 as pb
from serving.engines.engine import TensorSpec
from serving.oip.datatypes import BY_NAME, datatype_of
from tests.serving.oip.requests import Input, Output, raw_of, typed

_SIZES = (-(2**63), -2, -1, 0, 1, 2, 3, 5, 7, 2**16, 2**31, 2**32 + 1, 2**62, 2**63 - 1)
_VALUES: dict[str, Sequence[Any]] = {"BYTES": (b"", b"a\0", b"\xff" * 9), "BOOL": (True, False)}

CONTENTS_FIELDS = sorted({row.field for row in BY_NAME.values() if row.field})
Spoil = Callable[[random.Random, pb.ModelInferRequest], None]


def right_request(chance: random.Random, specs: Sequence[TensorSpec]) -> pb.ModelInferRequest:
    """A request that fits `specs`, raw or, where all can be, typed, of 0 to 3 rows."""
    halves = any(not datatype_of(spec.dtype).field for spec in specs)
    rows, raw = chance.randrange(4), halves or chance.random() < 0.6
    request = pb.ModelInferRequest(model_name="m", id="7")
    for spec in chance.sample(specs, len(specs)):
        shape = [
            rows if at == 0 else size if size >= 0 else 2 for at, size in enumerate(spec.shape)
        ]
        count = 1
        for size in shape:
            count *= size
        datatype = datatype_of(spec.dtype).name
        values = [chance.choice(_VALUES.get(datatype, (0, 1))) for _ in range(count)]
        if raw:
            request.inputs.append(Input(name=spec.name, datatype=datatype, shape=shape))
            request.raw_input_contents.append(raw_of(datatype, values) if values else b"")
        else:
            request.inputs.append(typed(spec.name, datatype, shape, values))
    return request


def _any_input(chance: random.Random, request: pb.ModelInferRequest) -> Input:
    if not request.inputs:
        request.inputs.add(name="a", datatype="FP32", shape=[1, 3])
    return chance.choice(request.inputs)


def size(chance: random.Random, request: pb.ModelInferRequest) -> None:
    shape = _any_input(chance, request).shape
    if shape:
        shape[chance.randrange(len(shape))] = chance.choice(_SIZES)


def rank(chance: random.Random, request: pb.ModelInferRequest) -> None:
    shape = _any_input(chance, request).shape
    if shape and chance.random() < 0.5:
        del shape[chance.randrange(len(shape))]
    else:
        shape.extend(chance.choice(_SIZES) for _ in range(chance.choice((1, 2, 40))))


def datatype(chance: random.Random, request: pb.ModelInferRequest) -> None:
    _any_input(chance, request).datatype = chance.choice([*BY_NAME, "", "fp32", "FP8", "\0"])


def name(chance: random.Random, request: pb.ModelInferRequest) -> None:
    _any_input(chance, request).name = chance.choice(["a", "b", "", "z" * 500, "ä\0", "a_out"])


def repeated(chance: random.Random, request: pb.ModelInferRequest) -> None:
    request.inputs.append(_any_input(chance, request))
    if request.raw_input_contents:
        request.raw_input_contents.append(chance.choice(request.raw_input_contents))


def dropped(chance: random.Random, request: pb.ModelInferRequest) -> None:
    if request.inputs:
        del request.inputs[chance.randrange(len(request.inputs))]


def raw(chance: random.Random, request: pb.ModelInferRequest) -> None:
    entries = request.raw_input_contents
    if not entries or chance.random() < 0.2:
        entries.append(chance.randbytes(chance.choice((0, 1, 4, 12, 100))))
        return
    at = chance.randrange(len(entries))
    entry = entries[at]
    entries[at] = chance.choice(
        (entry[:-1], entry + b"\0", b"", entry * 2, chance.randbytes(len(entry)), b"\xff" * 4)
    )


def contents(chance: random.Random, request: pb.ModelInferRequest) -> None:
    field = chance.choice(CONTENTS_FIELDS)
    values = getattr(_any_input(chance, request).contents, field)
    value: Any = b"x" if field == "bytes_contents" else chance.choice((0, 1))
    if field in ("int_contents", "int64_contents"):
        value = chance.choice((-(2**31), -129, -1, 255, 2**31 - 1))
    if values and chance.random() < 0.5:
        del values[-1:]
    else:
        values.extend([value] * chance.choice((1, 3, 6)))


def outputs(chance: random.Random, request: pb.ModelInferRequest) -> None:
    wanted = chance.choice(["a_out", "b_out", "nobody", "", "a"])
    request.outputs.append(Output(name=wanted))


def parameters(chance: random.Random, request: pb.ModelInferRequest) -> None:
    key = chance.choice(["timeout", "sequence_id", "shared_memory_region", "classification", "x"])
    holders = [request.parameters, _any_input(chance, request).parameters]
    if request.outputs:
        holders.append(request.outputs[0].parameters)
    parameter = chance.choice(holders)[key]
    if chance.random() < 0.5:
        parameter.int64_param = chance.choice((-1, 0, 1, 2**62))
    else:
        parameter.string_param = "1"


def version(chance: random.Random, request: pb.ModelInferRequest) -> None:
    request.model_version = chance.choice(["", "1", "2", "../1", "\0", "9" * 400])


SPOILS: tuple[Spoil, ...] = (
    size,
    rank,
    datatype,
    name,
    repeated,
    dropped,
    raw,
    contents,
    outputs,
    parameters,
    version,
)


def spoiled(chance: random.Random, specs: Sequence[TensorSpec]) -> pb.ModelInferRequest:
    """A right request after none to three of the spoils."""
    request = right_request(chance, specs)
    for spoil in chance.choices(SPOILS, k=chance.choice((0, 1, 1, 1, 2, 3))):
        spoil(chance, request)
    return request


def damaged(chance: random.Random, message: bytes) -> bytes:
    """The message with a few bytes changed, cut out or put in; it may be no message any more."""
    content = bytearray(message)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(content) + 1)
        match chance.randrange(3):
            case 0:
                content[at : at + 1] = chance.randbytes(1)
            case 1:
                del content[at : at + chance.choice((1, 4, 30))]
            case _:
                content[at:at] = chance.randbytes(chance.choice((1, 4, 30)))
    return bytes(content)


def parsed(message: bytes) -> pb.ModelInferRequest | None:
    """The request that a message holds, None when it holds none: gRPC refuses it by itself."""
    try:
        return pb.ModelInferRequest.FromString(message)
    except DecodeError:
        return None
