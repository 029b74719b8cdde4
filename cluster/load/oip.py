"""Requests for a model of any Open Inference Protocol server: random data in the shape it names."""

import math

import grpc
import numpy as np

from cluster.errors import CommandError
from cluster.load.targets import Cycle, Target
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc as pb_grpc
from serving.oip import elements
from serving.oip.datatypes import BY_NAME

METHOD = "/inference.GRPCInferenceService/ModelInfer"
_VARIANTS = 16  # different requests of one run
_MIXED_VARIANTS = 64  # when their lengths differ
_METADATA_TIMEOUT_S = 10.0


def open_inference_target(address: str, model: str, rows: int, lengths: range, seed: int) -> Target:
    """Makes a target that asks `model` for `rows` rows a call.

    A first dimension of -1 becomes `rows`, any other -1 the length of the request, which differs
    from call to call as `mixed` says. Floats are uniform in 0 … 1, integers 0 or 1 (valid as token
    ids and as masks), strings short words. Raises `CommandError` when the server or the model does
    not answer.
    """
    try:
        with grpc.insecure_channel(address) as channel:
            metadata = pb_grpc.GRPCInferenceServiceStub(channel).ModelMetadata(
                pb.ModelMetadataRequest(name=model), timeout=_METADATA_TIMEOUT_S
            )
    except grpc.RpcError as error:
        reason = f"{error.code().name} {error.details()}" if isinstance(error, grpc.Call) else ""
        raise CommandError(f"{address} does not describe the model {model!r}: {reason}") from None
    rng = np.random.default_rng(seed)
    requests = tuple(infer_request(metadata, rows, at, rng) for at in mixed(lengths, seed))
    return Target(address, METHOD, Cycle(requests))


def mixed(lengths: range, seed: int) -> list[int]:
    """Returns the lengths of the requests of one run: evenly over `lengths`, in random order."""
    if len(lengths) == 1:
        return [lengths[0]] * _VARIANTS
    even = np.linspace(lengths[0], lengths[-1], _MIXED_VARIANTS).round().astype(int)
    return [int(length) for length in np.random.default_rng(seed).permutation(even)]


def infer_request(
    metadata: pb.ModelMetadataResponse, rows: int, length: int, rng: np.random.Generator
) -> bytes:
    """Returns one serialized `ModelInferRequest` with raw contents."""
    request = pb.ModelInferRequest(model_name=metadata.name)
    for spec in metadata.inputs:
        shape = [size if size >= 0 else length for size in spec.shape]
        if spec.shape[:1] == [-1]:
            shape[0] = rows
        request.inputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        request.raw_input_contents.append(_raw(spec.datatype, shape, rng))
    return request.SerializeToString()


def _raw(datatype: str, shape: list[int], rng: np.random.Generator) -> bytes:
    known = BY_NAME.get(datatype)
    if known is None:
        raise CommandError(f"no random data for an input of datatype {datatype}")
    if known.is_bytes:
        words = [f"word{rng.integers(1000)}".encode() for _ in range(math.prod(shape))]
        return elements.join(words)
    if known.dtype.kind in "biu":
        return rng.integers(0, 2, shape).astype(known.dtype).tobytes()
    return rng.random(shape).astype(known.dtype).tobytes()
