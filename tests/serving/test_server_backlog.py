"""More calls than the event loop can take: gRPC itself refuses them, without any Python."""

import asyncio
import threading
from typing import Any

import grpc

from fomofeed.text.v1 import text_service_pb2 as pb
from fomofeed.text.v1 import text_service_pb2_grpc as rpc
from serving.rpc.lifecycle import Phase
from serving.rpc.server import Server, ServerConfig

WAITING = 32
CALLS = 200


class Captions(rpc.TextServiceServicer):
    def __init__(self) -> None:
        self.served = 0

    async def GenerateCaption(self, request: Any, context: Any) -> Any:
        self.served += 1
        return pb.GenerateCaptionResponse(caption="served")


async def test_calls_beyond_the_backlog_are_refused_while_the_event_loop_is_stuck() -> None:
    config = ServerConfig(metrics_port=None, lame_duck_s=0, max_waiting_calls=WAITING)
    captions, stop = Captions(), asyncio.Event()
    async with Server(config, "text", ["fomofeed.text.v1.TextService"]) as server:
        server.mount(rpc.add_TextServiceServicer_to_server, captions)
        serving = asyncio.create_task(server.serve(stop))
        await server.entered(Phase.SERVING)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            ask = rpc.TextServiceStub(channel).GenerateCaption
            ended = threading.Semaphore(0)
            calls = [ask.future(pb.GenerateCaptionRequest(), timeout=30) for _ in range(CALLS)]
            for call in calls:
                call.add_done_callback(lambda _: ended.release())
            refused = CALLS - 2 * WAITING - 1  # gRPC holds one call ready for the event loop
            for _ in range(refused):  # in this thread, so that the event loop does not turn
                assert ended.acquire(timeout=10)
            assert captions.served == 0
            for _ in range(CALLS - refused):
                assert await asyncio.to_thread(ended.acquire, timeout=10)
        codes = [call.code() for call in calls]
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}
        assert captions.served == codes.count(grpc.StatusCode.OK) >= WAITING
        stop.set()
        await serving
