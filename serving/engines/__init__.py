"""Engines: the libraries that run models, each behind the `Engine` protocol."""

import os

# ONNX Runtime since 1.29 tells its makers of each process and model, and leaves an identifier in
# the home folder, unless told not to before it is imported. A server talks to its callers alone.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
