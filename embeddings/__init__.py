"""Text to vector: back ends and micro-batching."""

import os

# Else ONNX Runtime's builds report each process and session to Microsoft, and keep a file of it at home. Read
# when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
