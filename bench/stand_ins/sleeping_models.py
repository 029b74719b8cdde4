"""Every service of the analyze graph with engines that only sleep, behind the real runtime.

`python -m bench.stand_ins.sleeping_models clip=0.06x2 ...` is one process with one port, which it
prints: an engine call of clip takes 60 ms for at most 2 rows; nodes not named answer in 2 ms, 16
rows at once. What saturates is the sleep, not the processor. `clip=0.24x2` on standard input
changes a node. For an empty line, and at the end of input, it prints what each leaf has done, as
JSON: rows executed, begun after the server's deadline, and executed for callers who had gone before
the answer. `--report-after 1` has it tell its speed after a second.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc

from bench.stand_ins import null_models as null
from bench.stand_ins.null_models import Method, servicer
from serving.errors import ServingError, to_status
from serving.request import current
from serving.rpc.lifecycle import Phase
from serving.rpc.server import Server, ServerConfig
from serving.scheduling.batcher import Batcher
from serving.scheduling.scheduler import BatchingConfig

METHODS = {
    "GetUserProfile": "profile",
    "BatchGetUserProfiles": "profile",
    "AnalyzeImage": "clip",
    "BatchAnalyzeImages": "clip",
    "SuggestPostingTimes": "timing",
    "BatchSuggestPostingTimes": "timing",
    "ScorePost": "ranker",
    "BatchScorePosts": "ranker",
    "GenerateCaption": "caption",
    "BatchGenerateCaptions": "caption",
    "GenerateNotification": "notification",
    "BatchGenerateNotifications": "notification",
    "ModerateContent": "moderation",
}
_USUAL = (0.002, 16)


@dataclass(slots=True, eq=False)
class _Row:
    deadline: float
    began: bool = False


class Leaf:
    """One model: `seconds` for an engine call of at most `most` rows."""

    def __init__(self, name: str, seconds: float, most: int) -> None:
        self.seconds = seconds
        self.counts = {"executed": 0, "late": 0, "for_nobody": 0}
        limits = BatchingConfig(max_batch_rows=most)
        self.batcher: Batcher[_Row, None] = Batcher([self._infer], limits, f"sleeping_{name}")

    async def run(self) -> None:
        """Executes one row for the running call."""
        facts = current()
        row = _Row(facts.deadline)
        try:
            await self.batcher.submit(row, deadline=row.deadline, criticality=facts.criticality)
        except asyncio.CancelledError:
            self.counts["for_nobody"] += row.began
            raise

    async def _infer(self, rows: list[_Row]) -> Sequence[None]:
        now = asyncio.get_running_loop().time()
        for row in rows:
            row.began = True
            self.counts["late"] += now > row.deadline
        self.counts["executed"] += len(rows)
        await asyncio.sleep(self.seconds)
        return [None] * len(rows)


def behind(leaf: Leaf, method: Method) -> Method:
    """The null model's answer, after a row for each of its items was executed; those fail alone."""

    async def waiting(_: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        answer = await method(_, request, context)
        if not hasattr(answer, "results"):
            await leaf.run()
            return answer
        errors = await asyncio.gather(*(_error(leaf) for _ in answer.results))
        for result, error in zip(answer.results, errors, strict=True):
            if error is not None:
                result.error.CopyFrom(to_status(error))
        return answer

    return waiting


async def _error(leaf: Leaf) -> ServingError | None:
    try:
        await leaf.run()
    except ServingError as error:
        return error
    return None


def mounts(leaves: dict[str, Leaf]) -> Iterable[tuple[Any, Any]]:
    """Every servicer of the null models, with its methods behind the leaves."""
    for add_to_server, one in null.mounts():
        kind = type(one)
        methods = {
            name: behind(leaves[METHODS[name]], method)
            for name, method in vars(kind).items()
            if name in METHODS
        }
        yield add_to_server, servicer(kind.__bases__[0], **methods)


def parse(text: str) -> tuple[str, float, int]:
    """Reads `clip=0.06x2`: node, seconds of an engine call, rows at most."""
    name, _, shape = text.strip().partition("=")
    seconds, _, most = shape.partition("x")
    return name, float(seconds), int(most)


async def serve(texts: Sequence[str], report_after_s: float) -> None:
    """Serves on a free port until standard input ends; then tells what was done."""
    shapes = dict.fromkeys(METHODS.values(), _USUAL)
    shapes |= {name: (seconds, most) for name, seconds, most in map(parse, texts)}
    leaves = {name: Leaf(name, *shape) for name, shape in shapes.items()}
    stop = asyncio.Event()
    config = ServerConfig(metrics_port=None, lame_duck_s=0.0, load_report_after_s=report_after_s)
    async with AsyncExitStack() as stack:
        for leaf in leaves.values():
            await stack.enter_async_context(leaf.batcher)
        server = await stack.enter_async_context(Server(config, "sleeping", null.SERVICES))
        for add_to_server, one in mounts(leaves):
            server.mount(add_to_server, one)
        serving = asyncio.create_task(server.serve(stop))
        await server.entered(Phase.SERVING)
        print(server.port, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip():
                name, seconds, _ = parse(line)
                leaves[name].seconds = seconds
            else:
                print(_told(leaves), flush=True)
        print(_told(leaves), flush=True)
        stop.set()
        await serving


def _told(leaves: dict[str, Leaf]) -> str:
    return json.dumps({name: leaf.counts for name, leaf in leaves.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="*")
    parser.add_argument("--report-after", type=float, default=ServerConfig().load_report_after_s)
    options = parser.parse_args()
    asyncio.run(serve(options.nodes, options.report_after))


if __name__ == "__main__":
    main()
