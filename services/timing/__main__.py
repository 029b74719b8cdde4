import sys

from fomofeed.timing.v1 import timing_service_pb2_grpc as pb_grpc
from services.timing.advisor import Advisor
from services.timing.config import TimingConfig
from services.timing.servicer import SERVICE_NAME, TimingServicer
from serving import settings
from serving.models.renewable import RenewableModels
from serving.oip.mounting import mount
from serving.oip.servicer import SERVICE_NAME as INFERENCE_NAME
from serving.rpc.server import Server, ServerConfig, run_main


async def run() -> None:
    server_config, config = settings.load("timing", ServerConfig, TimingConfig)
    async with (
        Server(server_config, "timing", [SERVICE_NAME, INFERENCE_NAME]) as server,
        Advisor(config) as advisor,
        RenewableModels([advisor.renewable], config.model_repository) as models,
    ):
        server.mount(pb_grpc.add_TimingServiceServicer_to_server, TimingServicer(advisor))
        await mount(server, models)
        await server.serve()


if __name__ == "__main__":
    sys.exit(run_main(run))
