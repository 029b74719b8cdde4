import sys

from fomofeed.clip.v1 import clip_service_pb2_grpc as pb_grpc
from services.clip.analyzer import Analyzer
from services.clip.config import ClipConfig
from services.clip.servicer import SERVICE_NAME, ClipServicer
from serving import settings
from serving.memory import return_large_blocks
from serving.models.served import FixedModels
from serving.oip.mounting import mount
from serving.oip.servicer import SERVICE_NAME as INFERENCE_NAME
from serving.rpc.server import Server, ServerConfig, run_main


async def run() -> None:
    return_large_blocks()
    server_config, config = settings.load("clip", ServerConfig, ClipConfig)
    async with (
        Server(server_config, "clip", [SERVICE_NAME, INFERENCE_NAME]) as server,
        Analyzer.open(config) as analyzer,
    ):
        servicer = ClipServicer(analyzer, config.max_batch_images)
        server.mount(pb_grpc.add_ClipServiceServicer_to_server, servicer)
        await mount(server, FixedModels([*analyzer.sight.models, *analyzer.signals.models]))
        await server.serve()


if __name__ == "__main__":
    sys.exit(run_main(run))
