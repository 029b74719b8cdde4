"""Puts the Open Inference Protocol on a server, beside whatever else it serves."""

from inference import grpc_service_pb2_grpc as pb_grpc
from serving.models.served import Models
from serving.oip.servicer import InferenceServicer
from serving.rpc.server import Server


async def mount(server: Server, models: Models) -> None:
    """Serves `models` on `server`, and gives each that serves a health name of its own.

    A service mounts the models that it has made, in three lines:

        names = ["fomofeed.clip.v1.ClipService", oip.SERVICE_NAME]      # for reflection and health
        async with Server(config, "clip", names) as server, Model.open(artifact) as model:
            await oip.mount(server, FixedModels([model]))
    """
    servicer = InferenceServicer(models, server.is_serving)
    server.mount(pb_grpc.add_GRPCInferenceServiceServicer_to_server, servicer)
    for served in models.serving():
        await server.report(served.name, True)
