"""The runtime that MLServer serves an ONNX model with; imported by MLServer, in its interpreter.

The engine runs on one thread, as everybody's does here; the event loop goes on taking calls.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import (
    InferenceRequest,
    InferenceResponse,
    MetadataTensor,
    RequestInput,
    ResponseOutput,
)
from numpy.typing import NDArray

from bench.rivals.onnx_session import OnnxSession, Tensor


class OnnxModel(MLModel):
    """An `OnnxSession` in MLServer's terms."""

    async def load(self) -> bool:
        self._session = OnnxSession(self.settings.parameters.uri)
        self._thread = ThreadPoolExecutor(1)
        self.inputs = [_metadata(tensor) for tensor in self._session.inputs]
        self.outputs = [_metadata(tensor) for tensor in self._session.outputs]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {given.name: _decoded(given) for given in payload.inputs}
        loop = asyncio.get_running_loop()
        outputs = await loop.run_in_executor(self._thread, self._session.run, inputs)
        wanted = [output.name for output in payload.outputs or []] or list(outputs)
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[_encoded(name, outputs[name]) for name in wanted],
        )


def _decoded(given: RequestInput) -> NDArray[Any]:
    if given.datatype == "BYTES":
        return np.array(StringCodec.decode_input(given), np.object_).reshape(given.shape)
    return NumpyCodec.decode_input(given)


def _encoded(name: str, array: NDArray[Any]) -> ResponseOutput:
    if array.dtype != np.object_:
        return NumpyCodec.encode_output(name, array)
    output = StringCodec.encode_output(name, array.ravel().tolist())
    return output.model_copy(update={"shape": list(array.shape)})


def _metadata(tensor: Tensor) -> MetadataTensor:
    return MetadataTensor(name=tensor.name, datatype=tensor.datatype, shape=list(tensor.shape))
