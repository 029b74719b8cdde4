import sys

from fomofeed.ranker.v1 import ranker_service_pb2_grpc as pb_grpc
from services.ranker.config import RankerConfig
from services.ranker.scorer import Scorer
from services.ranker.servicer import SERVICE_NAME, RankerServicer
from services.ranker.weights import read_profiles
from serving import settings
from serving.models.renewable import RenewableModels
from serving.oip.mounting import mount
from serving.oip.servicer import SERVICE_NAME as INFERENCE_NAME
from serving.rpc.server import Server, ServerConfig, run_main


async def run() -> None:
    server_config, config = settings.load("ranker", ServerConfig, RankerConfig)
    profiles = read_profiles(config.weights)
    async with (
        Server(server_config, "ranker", [SERVICE_NAME, INFERENCE_NAME]) as server,
        Scorer(config) as scorer,
        RenewableModels([scorer.renewable], config.model_repository) as models,
    ):
        servicer = RankerServicer(scorer, profiles)
        server.mount(pb_grpc.add_RankerServiceServicer_to_server, servicer)
        await mount(server, models)
        await server.serve()


if __name__ == "__main__":
    sys.exit(run_main(run))
