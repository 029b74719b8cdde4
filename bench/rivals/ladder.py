"""Our own server, cut off below a step: the difference of two steps is what a part costs.

`python -m bench.rivals.ladder FILE.onnx --name NAME --step STEP --port P`. Each step has what those
before it have:
interceptor  our server before a handler that returns the same bytes unread
oip          parsing, checks, statistics, the answer; the arrays of the first call for everybody
engine       the real engine, so short that it is run where the call stands: all of `fomofeed serve`
queue        what a longer engine has instead: a batch of the queue, here before one that costs
             nothing and runs on the event loop
thread       and the way to the instance's thread and back
"""

import argparse
import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from bench.rivals.bare import SERVICE
from serving.engines.engine import Arrays, Engine
from serving.engines.instance import Instance
from serving.engines.onnx import OnnxEngine
from serving.models.model import Model
from serving.models.rows import Outputs, Rows
from serving.models.served import FixedModels
from serving.models.warm_up import guessed_shapes, zeros
from serving.oip.mounting import mount
from serving.rpc.server import Server, ServerConfig
from serving.scheduling.scheduler import BatchingConfig

STEPS = ("interceptor", "oip", "engine", "queue", "thread")


class ConstantEngine:
    """Answers any batch with the rows of a precomputed one."""

    def __init__(self, engine: Engine, rows: int) -> None:
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._answer = engine.infer(zeros(engine.inputs, guessed_shapes(engine.inputs), rows))

    def infer(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        rows = len(next(iter(inputs.values())))
        return {name: array[:rows] for name, array in self._answer.items()}


class WithoutQueue(Model):
    """A model that answers before its queue."""

    async def infer(self, inputs: Arrays) -> Outputs:
        return self._instances[0].engine.infer(inputs)


class WithoutThread(Model):
    """A model whose engine runs on the event loop."""

    def _runner(self, index: int, instance: Instance) -> Any:
        async def infer(items: list[Rows]) -> list[Outputs]:
            return self._run_batch(instance.engine, items)[0]

        return infer


_MODELS = {"oip": WithoutQueue, "queue": WithoutThread}


async def serve(options: argparse.Namespace) -> None:
    """Serves until it is killed."""
    engine: Engine = OnnxEngine(options.file)
    limits = BatchingConfig(max_batch_rows=options.rows)
    if options.step != "engine":
        engine = ConstantEngine(engine, options.rows)
    kind = _MODELS.get(options.step, Model)
    config = ServerConfig(port=options.port, metrics_port=None)
    async with (
        Server(config, "ladder", [SERVICE]) as server,
        kind(options.name, [engine], limits) as model,
    ):
        if options.step == "interceptor":
            server.mount(_add_null, None)
        await mount(server, FixedModels([model]))
        await server.serve()


def _add_null(_: Any, server: Any) -> None:
    """Answers `ModelInfer` unread; what is mounted first wins."""
    answer = np.zeros(40, np.uint8).tobytes()

    async def infer(request: bytes, context: Any) -> bytes:
        return answer

    handler: Any = grpc.unary_unary_rpc_method_handler(infer)  # its stubs know sync ones only
    generic = grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler})
    server.add_generic_rpc_handlers((generic,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--step", choices=STEPS, required=True)
    parser.add_argument("--rows", type=int, default=32, help="at most in one engine call")
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
