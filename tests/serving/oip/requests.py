"""Builds requests of the Open Inference Protocol for tests, and models to send them to."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from inference import grpc_service_pb2 as pb
from serving.engines.engine import BFLOAT16, Arrays, TensorSpec
from serving.oip.datatypes import BY_NAME
from serving.oip.elements import join

Input = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor


def spec(name: str, datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, BY_NAME[datatype].dtype, shape)


def typed(name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> Input:
    """An input with its elements in the typed field of its datatype."""
    tensor = Input(name=name, datatype=datatype, shape=shape)
    getattr(tensor.contents, BY_NAME[datatype].field).extend(values)
    return tensor


def raw_of(datatype: str, values: Sequence[Any]) -> bytes:
    """The raw form of values, BF16 given as the floats that it rounds down."""
    if datatype == "BYTES":
        return join(values)
    if BY_NAME[datatype].dtype == BFLOAT16:
        return np.array([value.view("<u4") >> 16 for value in np.float32(values)], "<u2").tobytes()
    return np.array(values, BY_NAME[datatype].dtype).tobytes()


def request(*inputs: Input, raw: Sequence[bytes] = (), **fields: Any) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(model_name="m", inputs=inputs, raw_input_contents=raw, **fields)


class Copies:
    """An engine whose outputs are its inputs, under names with a `_out` at the end."""

    def __init__(self, *inputs: TensorSpec) -> None:
        self.inputs = inputs
        self.outputs = tuple(TensorSpec(f"{i.name}_out", i.dtype, i.shape) for i in inputs)

    def infer(self, inputs: Arrays) -> dict[str, Any]:
        return {f"{name}_out": array for name, array in inputs.items()}
