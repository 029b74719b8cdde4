"""The files that may be a model, by their names: who reads each, and what others call it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of model file."""

    file: str  # its name in a version's folder
    engine: str  # that runs it unless model.yaml says otherwise
    platform: str  # as the Open Inference Protocol names it: <project>_<format>
    triton_platform: str  # as Triton's ModelConfig names it; empty where Triton has no word
    triton_backend: str

    @property
    def is_code(self) -> bool:
        """Whether loading it runs Python that the file holds, on purpose."""
        return self.file.endswith(".py")


ONNX = Format("model.onnx", "onnx", "onnx_onnxv1", "onnxruntime_onnx", "onnxruntime")
TORCH_EXPORT = Format("model.pt2", "torch", "pytorch_export", "pytorch_libtorch", "pytorch")
TORCH_SCRIPT = Format("model.pt", "torch", "pytorch_torchscript", "pytorch_libtorch", "pytorch")
FACTORY = Format("model.py", "python", "python_factory", "", "python")
FORMATS = (ONNX, TORCH_EXPORT, TORCH_SCRIPT, FACTORY)  # the first that is there is the model


def format_of(path: Path) -> Format | None:
    """Returns the format of a file by the end of its name; None when nothing here runs it."""
    return next((kind for kind in FORMATS if path.suffix == Path(kind.file).suffix), None)


def model_file(folder: Path) -> Path | None:
    """Returns the model in a version's folder; None when there is none."""
    paths = (folder / kind.file for kind in FORMATS)
    return next((path for path in paths if path.is_file()), None)
