"""Generates the gRPC stubs of `protos/` into `gen/`: for `make protos` and for the wheel.

`gen/` is never committed. Run as a script it only generates; as a hatch build hook it also
makes sure that the wheel and the editable install hold the stubs.
"""

import shutil
import subprocess
import sys
import sysconfig
from importlib.resources import files
from pathlib import Path
from typing import Any

import google.rpc
import grpc_tools

ROOT = Path(__file__).parent


def generate() -> None:
    """Runs protoc over every file of `protos/` and replaces `gen/` with the result."""
    protos = ROOT / "protos"
    fresh = ROOT / "gen.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    well_known = Path(str(files(grpc_tools))) / "_proto"
    google = Path(sysconfig.get_path("purelib"))
    outputs = ("python_out", "mypy_out", "grpc_python_out", "mypy_grpc_out")
    plugins = [
        f"--plugin=protoc-gen-{name}={_script(f'protoc-gen-{name}')}"
        for name in ("mypy", "mypy_grpc")
    ]
    command = [
        sys.executable, "-m", "grpc_tools.protoc",
        f"-I{protos}", f"-I{_googleapis(google)}", f"-I{well_known}",
        *plugins,
        *(f"--{output}={fresh}" for output in outputs),
        *(str(path.relative_to(protos)) for path in sorted(protos.rglob("*.proto"))),
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=protos)
    for folder in (path for path in fresh.rglob("*") if path.is_dir()):
        (folder / "__init__.py").touch()
    shutil.rmtree(ROOT / "gen", ignore_errors=True)
    fresh.rename(ROOT / "gen")


def _googleapis(default: Path) -> Path:
    """Folder under which `google/rpc/status.proto` lies, wherever the build environment put it."""
    return next((Path(p).parents[1] for p in google.rpc.__path__), default)


def _script(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise SystemExit(f"{name} is missing: install the 'protos' extra")
    return found


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # run by `make protos`, without hatchling
    pass
else:

    class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg, misc]  # hatchling is untyped here
        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Called by hatchling before it collects the files of a wheel."""
            generate()


if __name__ == "__main__":
    generate()
