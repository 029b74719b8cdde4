"""The ways to run a model here: by the format of its file, what is installed, and the device."""

from importlib import metadata, util
from typing import Any

from serving.engines.choose import Candidate, has_bfloat16
from serving.engines.engine import Engine
from serving.engines.factory import call_factory
from serving.engines.onnx import VERSION, OnnxEngine
from serving.models import formats
from serving.models.artifacts import ArtifactError
from serving.models.expected import full_shapes
from serving.models.folders import Verified
from serving.models.options import ModelOptions

_BF16 = "-bf16"


def candidates_of(verified: Verified, options: ModelOptions) -> list[Candidate]:
    """The engines that are installed and fit file and options; the first is the reference.

    Raises `ArtifactError` when not even that one can be had.
    """
    if verified.format == formats.ONNX:
        return _of_onnx(verified, options)
    if verified.format == formats.FACTORY:
        return [Candidate("python", "1", lambda: _from_factory(verified, options))]
    return _of_torch(verified, options)


def is_native(candidate: Candidate, device: str) -> bool:
    """Whether the device computes in the candidate's precision by itself: else it is slow."""
    return not candidate.name.endswith(_BF16) or device == "cuda" or has_bfloat16()


def _of_onnx(verified: Verified, options: ModelOptions) -> list[Candidate]:
    def onnx() -> Engine:
        return OnnxEngine(verified.path, threads=options.threads, device=options.device)

    def openvino(precision: str) -> Engine:
        from serving.engines.openvino import OpenVinoEngine  # noqa: PLC0415  # an extra

        return OpenVinoEngine(verified.path, threads=options.threads, precision=precision)

    return [Candidate("onnx", VERSION, onnx), *_openvino(openvino, options)]


def _of_torch(verified: Verified, options: ModelOptions) -> list[Candidate]:
    if util.find_spec("torch") is None:
        raise ArtifactError(f"{verified.path.name} needs Torch: install the extra torch or gpu")
    version = metadata.version("torch")

    def torch(precision: str) -> Engine:
        return _torch_engine(_program(verified, options), options, precision)

    def openvino(precision: str) -> Engine:
        from serving.engines.openvino import from_export  # noqa: PLC0415  # an extra

        program = _program(verified, options)
        return from_export(verified.path, program, threads=options.threads, precision=precision)

    found = [
        Candidate("torch", version, lambda: torch("f32")),
        Candidate(f"torch{_BF16}", version, lambda: torch("bf16")),
    ]
    is_export = verified.format == formats.TORCH_EXPORT
    return [*found, *(_openvino(openvino, options) if is_export else [])]


def _openvino(load: Any, options: ModelOptions) -> list[Candidate]:
    if options.device != "cpu" or util.find_spec("openvino") is None:
        return []
    version = metadata.version("openvino")
    return [
        Candidate("openvino", version, lambda: load("f32")),
        Candidate(f"openvino{_BF16}", version, lambda: load("bf16")),
    ]


def _program(verified: Verified, options: ModelOptions) -> Any:
    from serving.engines.torch_files import read_program  # noqa: PLC0415  # an extra

    return read_program(verified.path, options.inputs, options.outputs)


def _torch_engine(program: Any, options: ModelOptions, precision: str) -> Engine:
    from serving.engines.torch import TorchEngine  # noqa: PLC0415  # an extra

    return TorchEngine(
        program,
        threads=options.threads,
        device=options.device,
        precision=precision,
        captured=full_shapes(program.inputs, options) if options.device == "cuda" else (),
    )


def _from_factory(verified: Verified, options: ModelOptions) -> Engine:
    made = call_factory(verified.path, options.device, options.threads)
    if all(hasattr(made, name) for name in ("inputs", "outputs", "infer")):
        engine: Engine = made
        return engine
    if util.find_spec("torch") is not None:
        from torch.nn import Module  # noqa: PLC0415  # an extra

        if isinstance(made, Module):
            from serving.engines.torch_files import program_of  # noqa: PLC0415  # an extra

            program = program_of(made, options.inputs, options.outputs)
            return _torch_engine(program, options, options.precision)
    raise ArtifactError(
        f"{verified.path.name}: load returned a {type(made).__name__}, "
        "expected an engine or a torch.nn.Module"
    )
