"""Requests of the Open Inference Protocol to arrays, and arrays to answers, for one model.

Raw contents become views on the received bytes, without a copy; they are read-only. What a request
promises (shape, datatype) is checked before anything is allocated for it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference import grpc_service_pb2 as pb
from serving.engines.engine import TensorSpec
from serving.errors import EngineError
from serving.oip import elements
from serving.oip.datatypes import CONTENTS_FIELDS, Datatype, datatype_of
from serving.oip.mistakes import Mistakes, text

MAX_TENSOR_BYTES = 2**31  # gRPC's own limit of a message; bounds shapes of size 0 as well

_Tensor = pb.ModelInferRequest.InferInputTensor
_Array = NDArray[Any]


class Codec:
    """Decodes the requests and encodes the answers of one model. Holds no state of a call."""

    def __init__(
        self,
        model: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        is_batched: bool,
    ) -> None:
        self._inputs = {spec.name: (spec, datatype_of(spec.dtype)) for spec in inputs}
        self._outputs = tuple(spec.name for spec in outputs)
        self._is_batched = is_batched
        self._mistakes = Mistakes(model, inputs)

    def decode(self, request: pb.ModelInferRequest) -> dict[str, _Array]:
        """Returns the inputs by name, in the model's order; raw ones are read-only views.

        Raises `InvalidRequestError` about the first mistake that it finds.
        """
        raws = request.raw_input_contents
        if raws and len(raws) != len(request.inputs):
            raise self._mistakes.raw_count(len(raws), len(request.inputs))
        arrays: dict[str, _Array] = {}
        for index, tensor in enumerate(request.inputs):
            name = tensor.name
            if name in arrays:
                raise self._mistakes.repeated_input(name)
            datatype = self._check(tensor)
            if raws:
                arrays[name] = self._raw(index, raws[index], tensor, datatype)
            else:
                arrays[name] = self._typed(tensor, datatype)
        if len(arrays) != len(self._inputs):
            raise self._incomplete(arrays)
        if len(arrays) == 1:
            return arrays
        if self._is_batched:
            self._check_rows(arrays)
        return {name: arrays[name] for name in self._inputs}  # one order: shapes sort into batches

    def wanted(self, request: pb.ModelInferRequest) -> tuple[str, ...]:
        """Returns the names of the outputs that a request asks for, in its order; none = all."""
        if not request.outputs:
            return self._outputs
        names: dict[str, None] = {}
        for output in request.outputs:
            name = output.name
            if name not in self._outputs:
                raise self._mistakes.unknown_output(name, self._outputs)
            if name in names:
                raise self._mistakes.repeated_output(name)
            if output.parameters:
                self._check_parameters(f"outputs[{name}]", output.parameters)
            names[name] = None
        return tuple(names)

    def encode(
        self,
        outputs: Mapping[str, _Array],
        names: Sequence[str],
        response: pb.ModelInferResponse,
        *,
        raw: bool,
    ) -> None:
        """Adds the outputs named to `response`, raw or typed, in the order of `names`.

        FP16 and BF16 have no typed form: one of them makes the whole answer raw.
        """
        arrays = [outputs[name] for name in names]
        datatypes = [_datatype(name, array) for name, array in zip(names, arrays, strict=True)]
        raw = raw or not all(datatype.field for datatype in datatypes)
        for name, array, datatype in zip(names, arrays, datatypes, strict=True):
            tensor = response.outputs.add(name=name, datatype=datatype.name, shape=array.shape)
            if raw:
                response.raw_output_contents.append(_to_raw(array, datatype))
            else:
                getattr(tensor.contents, datatype.field).extend(_to_list(array, datatype))

    def _check(self, tensor: _Tensor) -> Datatype:
        """Checks name, datatype, shape and parameters of an input against the model's."""
        known = self._inputs.get(tensor.name)
        if known is None:
            raise self._mistakes.unknown_input(tensor.name)
        spec, datatype = known
        if tensor.datatype != datatype.name:
            raise self._mistakes.datatype(spec.name, tensor.datatype, datatype.name)
        shape = tensor.shape
        if len(shape) != len(spec.shape):
            raise self._mistakes.rank(spec.name, shape, spec.shape)
        for found, expected in zip(shape, spec.shape, strict=True):
            if found < 0:
                raise self._mistakes.negative_dimension(spec.name, shape)
            if found != expected >= 0:
                raise self._mistakes.dimension(spec.name, shape, spec.shape)
        if tensor.parameters:
            self._check_parameters(f"inputs[{spec.name}]", tensor.parameters)
        return datatype

    def _raw(self, index: int, raw: bytes, tensor: _Tensor, datatype: Datatype) -> _Array:
        shape = tuple(tensor.shape)
        if tensor.HasField("contents"):
            raise self._mistakes.both_forms(tensor.name)
        count = self._count(tensor, datatype)
        if datatype.is_bytes:
            return self._raw_elements(index, raw, tensor, count)
        expected = count * datatype.dtype.itemsize
        if len(raw) != expected:
            raise self._mistakes.raw_size(index, len(raw), expected, _label(tensor))
        if datatype.name == "BOOL" and count and max(raw) > 1:
            raise self._mistakes.raw_boolean(index, _label(tensor))
        return np.frombuffer(raw, datatype.dtype).reshape(shape)

    def _raw_elements(self, index: int, raw: bytes, tensor: _Tensor, count: int) -> _Array:
        try:
            found = elements.split(raw)
        except elements.CutOffError as error:
            raise self._mistakes.cut_off(index, error.args[0], _label(tensor)) from None
        if len(found) != count:
            raise self._mistakes.raw_elements(index, len(found), count, _label(tensor))
        return elements.to_array(found, tensor.shape)

    def _typed(self, tensor: _Tensor, datatype: Datatype) -> _Array:
        shape, contents = tuple(tensor.shape), tensor.contents
        for field in CONTENTS_FIELDS:
            if field != datatype.field and getattr(contents, field):
                if not datatype.field:
                    raise self._mistakes.raw_only(tensor.name, datatype.name)
                raise self._mistakes.contents_field(
                    tensor.name, field, datatype.name, datatype.field
                )
        count = self._count(tensor, datatype)
        if not datatype.field:
            if count:
                raise self._mistakes.raw_only(tensor.name, datatype.name)
            return np.zeros(shape, datatype.dtype)
        values = getattr(contents, datatype.field)
        if len(values) != count:
            found = len(values)
            raise self._mistakes.contents_count(tensor.name, datatype.field, found, count, shape)
        if datatype.is_bytes:
            return elements.to_array(list(values), shape)
        return self._from_values(values, count, tensor, datatype).reshape(shape)

    def _from_values(self, values: Any, count: int, tensor: _Tensor, datatype: Datatype) -> _Array:
        dtype = datatype.dtype
        if dtype.kind in "iu" and dtype.itemsize < 4:  # the field is wider than the datatype
            limits = np.iinfo(dtype)
            wide = np.fromiter(values, np.int64, count)
            bad = wide[(wide < limits.min) | (wide > limits.max)]
            if bad.size:
                raise self._mistakes.out_of_range(
                    tensor.name, datatype.field, int(bad[0]), datatype.name, limits.min, limits.max
                )
            return wide.astype(dtype)
        return np.fromiter(values, dtype, count)

    def _count(self, tensor: _Tensor, datatype: Datatype) -> int:
        """Returns the number of elements; refuses shapes that could never be sent."""
        extent = math.prod(size or 1 for size in tensor.shape)
        if extent * datatype.dtype.itemsize > MAX_TENSOR_BYTES:
            raise self._mistakes.too_large(tensor.name, tensor.shape, MAX_TENSOR_BYTES)
        return 0 if 0 in tensor.shape else extent

    def _incomplete(self, arrays: Mapping[str, _Array]) -> Exception:
        if not arrays:
            return self._mistakes.no_inputs()
        return self._mistakes.missing_inputs(arrays, [n for n in self._inputs if n not in arrays])

    def _check_rows(self, arrays: Mapping[str, _Array]) -> None:
        (first, other), *rest = arrays.items()
        for name, array in rest:
            if array.shape[0] != other.shape[0]:
                raise self._mistakes.rows(name, array.shape[0], first, other.shape[0])

    def _check_parameters(self, where: str, parameters: Mapping[str, Any]) -> None:
        """Refuses wishes whose neglect would falsify the answer; others are ignored."""
        for key in parameters:
            if key.startswith("shared_memory"):
                raise self._mistakes.refused_parameter(
                    f"{where}.parameters[{key}]", "takes and gives tensors in messages only"
                )
            if key == "classification":
                raise self._mistakes.refused_parameter(
                    f"{where}.parameters[{key}]", "gives tensors, no classes"
                )


def _label(tensor: _Tensor) -> str:
    return f"{tensor.name} {tensor.datatype} {text(tensor.shape)}"


def _datatype(name: str, array: _Array) -> Datatype:
    try:
        return datatype_of(array.dtype)
    except KeyError:
        raise EngineError(f"output {name} has elements of type {array.dtype}") from None


def _to_raw(array: _Array, datatype: Datatype) -> bytes:
    return elements.join(elements.from_array(array)) if datatype.is_bytes else array.tobytes()


def _to_list(array: _Array, datatype: Datatype) -> list[Any]:
    if datatype.is_bytes:
        return elements.from_array(array)
    values: list[Any] = array.ravel().tolist()
    return values
