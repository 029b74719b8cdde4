import sys

from fomofeed.profile.v1 import profile_service_pb2_grpc as pb_grpc
from services.profile.config import ProfileConfig
from services.profile.opening import open_store
from services.profile.servicer import SERVICE_NAME, ProfileServicer
from serving import settings
from serving.rpc.server import Server, ServerConfig, run_main


async def run() -> None:
    server_config, config = settings.load("profile", ServerConfig, ProfileConfig)
    async with (
        Server(server_config, "profile", [SERVICE_NAME]) as server,
        open_store(config) as store,
    ):
        server.mount(pb_grpc.add_ProfileServiceServicer_to_server, ProfileServicer(store))
        await server.serve()


if __name__ == "__main__":
    sys.exit(run_main(run))
