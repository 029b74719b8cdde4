import sys

from fomofeed.moderation.v1 import moderation_service_pb2_grpc as pb_grpc
from services.moderation.config import ModerationConfig
from services.moderation.detectors import NsfwDetector
from services.moderation.policy import Policies
from services.moderation.servicer import SERVICE_NAME, ModerationServicer
from serving import settings
from serving.media import ImageLimits, sample_image
from serving.memory import return_large_blocks
from serving.models.artifacts import open_artifact
from serving.models.model import Model
from serving.models.served import FixedModels
from serving.offload import Threads
from serving.oip.mounting import mount
from serving.oip.servicer import SERVICE_NAME as INFERENCE_NAME
from serving.rpc.server import Server, ServerConfig, run_main
from serving.scheduling.scheduler import BatchingConfig


def load(config: ModerationConfig) -> Model:
    """Loads the detector's model. Raises `ArtifactError`."""
    batching = BatchingConfig(config.max_batch_rows, max_queue_rows=config.max_queue_rows)
    artifact = open_artifact(config.model_repository, "open-nsfw")
    return Model.open(artifact, batching, instances=config.instances, threads=config.engine_threads)


async def run() -> None:
    return_large_blocks()
    server_config, config = settings.load("moderation", ServerConfig, ModerationConfig)
    policies = Policies.load(config.policies)
    limits = ImageLimits(config.max_image_bytes, max_side_px=config.max_side_px)
    async with (
        Server(server_config, "moderation", [SERVICE_NAME, INFERENCE_NAME]) as server,
        load(config) as model,
        Threads("images", config.image_threads, config.max_waiting_images) as threads,
    ):
        detector = NsfwDetector(model, threads, limits)
        await detector.assess(sample_image(), "image")  # no caller pays for what is done first time
        servicer = ModerationServicer(detector, policies, config)
        server.mount(pb_grpc.add_ModerationServiceServicer_to_server, servicer)
        await mount(server, FixedModels([model]))
        await server.serve()


if __name__ == "__main__":
    sys.exit(run_main(run))
