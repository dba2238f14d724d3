"""The server: ONNX image classifiers over gRPC, and the feature maps of any of their layers."""

import os

# ONNX Runtime 1.29 and later report to their vendor unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
