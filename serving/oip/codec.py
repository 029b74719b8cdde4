"""Requests of the Open Inference Protocol to arrays, and arrays to answers, for one model.

Raw contents become views on the received bytes, without a copy; they are read-only. What a request
promises (shape, datatype) is checked before anything is allocated for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from inference import grpc_service_pb2 as pb
from serving.engines.engine import TensorSpec
from serving.errors import EngineError
from serving.oip import elements
from serving.oip.datatypes import Datatype, datatype_of
from serving.oip.mistakes import Mistakes
from serving.oip.reader import InputReader, refuse_parameters

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
        self._mistakes = Mistakes(model, inputs)
        self._readers = {spec.name: InputReader(spec, self._mistakes) for spec in inputs}
        self._outputs = tuple(spec.name for spec in outputs)
        self._is_batched = is_batched

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
            reader = self._readers.get(name)
            if reader is None:
                raise self._mistakes.unknown_input(name)
            if name in arrays:
                raise self._mistakes.repeated_input(name)
            arrays[name] = reader.raw(tensor, index, raws[index]) if raws else reader.typed(tensor)
        if len(arrays) != len(self._readers):
            raise self._incomplete(arrays)
        if len(arrays) == 1:
            return arrays
        if self._is_batched:
            self._check_rows(arrays)
        return {name: arrays[name] for name in self._readers}  # one order: shapes sort into batches

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
                refuse_parameters(f"outputs[{name}]", output.parameters, self._mistakes)
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

    def _incomplete(self, arrays: Mapping[str, _Array]) -> Exception:
        if not arrays:
            return self._mistakes.no_inputs()
        return self._mistakes.missing_inputs(arrays, [n for n in self._readers if n not in arrays])

    def _check_rows(self, arrays: Mapping[str, _Array]) -> None:
        (first, other), *rest = arrays.items()
        for name, array in rest:
            if array.shape[0] != other.shape[0]:
                raise self._mistakes.rows(name, array.shape[0], first, other.shape[0])


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
