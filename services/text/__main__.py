"""Starts the text service: `python -m services.text`."""

import sys

from fomofeed.text.v1.text_service_pb2_grpc import add_TextServiceServicer_to_server
from services.text.config import TextConfig
from services.text.servicer import TextServicer
from services.text.templates import TemplateError, read_templates
from serving import settings, telemetry
from serving.rpc.server import Server, ServerConfig, run_main

SERVICE = "fomofeed.text.v1.TextService"


async def run() -> None:
    """Serves until it is told to stop."""
    server_config, config = settings.load("text", ServerConfig, TextConfig)
    async with Server(server_config, "text", [SERVICE]) as server:
        try:
            templates = read_templates(config.templates)
        except TemplateError as error:
            raise settings.SettingsError(str(error)) from error
        telemetry.announce(templates.ref)
        server.mount(add_TextServiceServicer_to_server, TextServicer(templates))
        await server.serve()


if __name__ == "__main__":
    sys.exit(run_main(run))
