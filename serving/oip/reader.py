"""Reads one input of a request: checks what it promises, then makes an array of its contents."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference import grpc_service_pb2 as pb
from serving.engines.engine import TensorSpec
from serving.oip import elements
from serving.oip.datatypes import datatype_of
from serving.oip.mistakes import Mistakes, text

MAX_TENSOR_BYTES = 2**31  # gRPC's own limit of a message; bounds shapes of size 0 as well
_MAX_KNOWN_SHAPES = 256  # remembered after their first check

_Tensor = pb.ModelInferRequest.InferInputTensor
_Array = NDArray[Any]
_Shape = tuple[int, ...]


class InputReader:
    """Reads the tensors that are sent for one input of a model.

    Nothing is allocated before shape, datatype and the size of the contents have been found right.
    """

    def __init__(self, spec: TensorSpec, mistakes: Mistakes) -> None:
        self._name, self._shape = spec.name, spec.shape
        self._datatype = datatype_of(spec.dtype)
        self._mistakes = mistakes
        self._counts: dict[_Shape, int] = {}  # elements of the shapes found right

    def raw(self, tensor: _Tensor, index: int, raw: bytes) -> _Array:
        """Returns a read-only view on `raw`, which is entry `index` of the raw contents."""
        shape, count = self._accept(tensor)
        if tensor.HasField("contents"):
            raise self._mistakes.both_forms(self._name)
        if self._datatype.is_bytes:
            return self._raw_elements(index, raw, shape, count)
        expected = count * self._datatype.dtype.itemsize
        if len(raw) != expected:
            raise self._mistakes.raw_size(index, len(raw), expected, self._label(shape))
        if self._datatype.name == "BOOL" and count and max(raw) > 1:
            raise self._mistakes.raw_boolean(index, self._label(shape))
        return np.frombuffer(raw, self._datatype.dtype).reshape(shape)

    def typed(self, tensor: _Tensor) -> _Array:
        """Returns an array of the typed contents."""
        shape, count = self._accept(tensor)
        field, contents = self._datatype.field, tensor.contents
        self._refuse_other_fields(contents)
        if not field:
            if count:
                raise self._mistakes.raw_only(self._name, self._datatype.name)
            return np.zeros(shape, self._datatype.dtype)
        values = getattr(contents, field)
        if len(values) != count:
            raise self._mistakes.contents_count(self._name, field, len(values), count, shape)
        if self._datatype.is_bytes:
            return elements.to_array(list(values), shape)
        return self._from_values(values, count).reshape(shape)

    def _accept(self, tensor: _Tensor) -> tuple[_Shape, int]:
        """Returns shape and number of elements of a tensor that the model takes."""
        if tensor.datatype != self._datatype.name:
            raise self._mistakes.datatype(self._name, tensor.datatype, self._datatype.name)
        if tensor.parameters:
            refuse_parameters(f"inputs[{self._name}]", tensor.parameters, self._mistakes)
        shape = tuple(tensor.shape)
        count = self._counts.get(shape)
        if count is None:
            count = self._count(shape)
            if len(self._counts) < _MAX_KNOWN_SHAPES:
                self._counts[shape] = count
        return shape, count

    def _count(self, shape: _Shape) -> int:
        """Checks a shape against the model's and returns its number of elements."""
        if len(shape) != len(self._shape):
            raise self._mistakes.rank(self._name, shape, self._shape)
        for found, expected in zip(shape, self._shape, strict=True):
            if found < 0:
                raise self._mistakes.negative_dimension(self._name, shape)
            if found != expected >= 0:
                raise self._mistakes.dimension(self._name, shape, self._shape)
        extent = math.prod(size or 1 for size in shape)
        if extent * self._datatype.dtype.itemsize > MAX_TENSOR_BYTES:
            raise self._mistakes.too_large(self._name, shape, MAX_TENSOR_BYTES)
        return 0 if 0 in shape else extent

    def _raw_elements(self, index: int, raw: bytes, shape: _Shape, count: int) -> _Array:
        try:
            found = elements.split(raw)
        except elements.CutOffError as error:
            raise self._mistakes.cut_off(index, error.args[0], self._label(shape)) from None
        if len(found) != count:
            raise self._mistakes.raw_elements(index, len(found), count, self._label(shape))
        return elements.to_array(found, shape)

    def _refuse_other_fields(self, contents: pb.InferTensorContents) -> None:
        datatype = self._datatype
        for descriptor, _ in contents.ListFields():
            if descriptor.name == datatype.field:
                continue
            if not datatype.field:
                raise self._mistakes.raw_only(self._name, datatype.name)
            raise self._mistakes.contents_field(
                self._name, descriptor.name, datatype.name, datatype.field
            )

    def _from_values(self, values: Any, count: int) -> _Array:
        dtype = self._datatype.dtype
        if dtype.kind in "iu" and dtype.itemsize < 4:  # the field is wider than the datatype
            limits = np.iinfo(dtype)
            wide = np.fromiter(values, np.int64, count)
            bad = wide[(wide < limits.min) | (wide > limits.max)]
            if bad.size:
                datatype, low, high = self._datatype, limits.min, limits.max
                raise self._mistakes.out_of_range(
                    self._name, datatype.field, int(bad[0]), datatype.name, low, high
                )
            return wide.astype(dtype)
        return np.fromiter(values, dtype, count)

    def _label(self, shape: _Shape) -> str:
        return f"{self._name} {self._datatype.name} {text(shape)}"


def refuse_parameters(where: str, parameters: Mapping[str, Any], mistakes: Mistakes) -> None:
    """Refuses wishes whose neglect would falsify the answer; others are ignored."""
    for key in parameters:
        if key.startswith("shared_memory"):
            raise mistakes.refused_parameter(
                f"{where}.parameters[{key}]", "takes and gives tensors in messages only"
            )
        if key == "classification":
            raise mistakes.refused_parameter(
                f"{where}.parameters[{key}]", "gives tensors, no classes"
            )
