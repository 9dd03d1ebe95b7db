"""Text to vector: back ends and micro-batching."""

import os

# Without this, builds of ONNX Runtime report each process and session to Microsoft and keep a file in the
# home directory. It must be set before onnxruntime is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
