"""MLServer before one ONNX model: writes what `mlserver start` reads, and becomes it.

`python -m bench.rivals.mlserver_host FILE.onnx --name NAME --port P`, by MLServer's own
interpreter. Adaptive batching is MLServer's: it waits up to `--wait-ms` for `--rows` requests.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path


def write_settings(folder: Path, options: argparse.Namespace) -> None:
    """Writes settings.json and model-settings.json. Only gRPC is asked; HTTP and metrics idle."""
    server = {
        "host": "127.0.0.1",
        "grpc_port": options.port,
        "http_port": options.http_port,
        "metrics_port": options.metrics_port,
        "parallel_workers": options.workers,
        "debug": False,
        "use_structured_logging": False,
        "grpc_max_message_length": 64 * 1024 * 1024,
    }
    model = {
        "name": options.name,
        "implementation": "bench.rivals.mlserver_model.OnnxModel",
        "platform": "onnx_onnxv1",
        "versions": ["1"],
        "parameters": {"uri": str(options.file.resolve()), "version": "1"},
        "max_batch_size": options.rows,  # 0 or 1: no batching
        "max_batch_time": options.wait_ms / 1e3,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: in the server's own")
    parser.add_argument("--rows", type=int, default=0, help="of a batch; 0: no batching")
    parser.add_argument("--wait-ms", type=float, default=0.0, help="for a full batch")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mlserver-"))
    write_settings(folder, options)
    os.chdir(folder)  # MLServer leaves files where it runs
    start = ["-c", "from mlserver.cli import main; main()", "start", str(folder)]
    os.execv(sys.executable, [sys.executable, *start])


if __name__ == "__main__":
    main()
