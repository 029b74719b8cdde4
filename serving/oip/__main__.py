"""`python -m serving.oip`: serves every model of a repository folder, and nothing else.

Settings are `FOMOFEED_SERVE_*` variables; the command line goes before them.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving import settings
from serving.models.artifacts import DEFAULT_REPOSITORY
from serving.models.repository import Repository
from serving.oip.mounting import mount
from serving.oip.servicer import SERVICE_NAME
from serving.rpc.server import Server, ServerConfig, run_main

SERVICE = "serve"
DEFAULT_PORT, DEFAULT_METRICS_PORT = 8001, 8002  # Triton's


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """Where the models lie, and whether they may be code."""

    model_repository: Path = DEFAULT_REPOSITORY  # <model>/<version>/model.onnx
    allow_code: bool = False  # whether a model.py is run

    def __post_init__(self) -> None:
        if not self.model_repository.is_dir():
            raise ValueError(f"no model repository {self.model_repository}")


async def run(environ: Mapping[str, str]) -> None:
    """Serves until SIGTERM or SIGINT. Answers probes while models load."""
    server_config, config = settings.load(SERVICE, ServerConfig, RepositoryConfig, environ=environ)
    async with Server(server_config, SERVICE, [SERVICE_NAME]) as server:
        repository = Repository(
            config.model_repository, server.report, allows_code=config.allow_code
        )
        await mount(server, repository)
        async with repository:
            await server.serve()


def environment(arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings of a command line over those of `environ`."""
    parser = argparse.ArgumentParser(
        prog="fomofeed serve", description="Serves the models of a folder over gRPC."
    )
    parser.add_argument("--model-repository", metavar="DIR", help="<model>/<version>/model.onnx")
    parser.add_argument(
        "--allow-code", action="store_const", const=True, help="run each model.py: it is code"
    )
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, metavar="P", help=f"gRPC (default {DEFAULT_PORT})")
    parser.add_argument(
        "--metrics-port", type=int, metavar="P", help=f"HTTP (default {DEFAULT_METRICS_PORT})"
    )
    defaults = {"port": DEFAULT_PORT, "metrics_port": DEFAULT_METRICS_PORT}
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    prefix = f"{settings.PREFIX}_{SERVICE.upper()}_"
    return {
        **{prefix + key.upper(): str(value) for key, value in defaults.items()},
        **environ,
        **{prefix + key.upper(): str(value) for key, value in given.items()},
    }


if __name__ == "__main__":
    environ = environment(sys.argv[1:], os.environ)
    sys.exit(run_main(lambda: run(environ)))
