import sys

from fomofeed.profile.v1 import profile_service_pb2_grpc as pb_grpc
from services.profile.config import ProfileConfig
from services.profile.opening import open_store
from services.profile.servicer import SERVICE_NAME, ProfileServicer
from serving import settings
from serving.rpc.server import Server, ServerConfig, run_main

# How long a thread of Python may go on while others wait, s. Reading a profile takes three turns
# (loop, reader, loop), and with the default of 5 ms each could wait that long for the writer.
SWITCH_INTERVAL_S = 0.0005


async def run() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    server_config, config = settings.load("profile", ServerConfig, ProfileConfig)
    async with (
        Server(server_config, "profile", [SERVICE_NAME]) as server,
        open_store(config) as store,
    ):
        server.mount(pb_grpc.add_ProfileServiceServicer_to_server, ProfileServicer(store))
        await server.serve()


if __name__ == "__main__":
    sys.exit(run_main(run))
