"""PyTorch to ONNX: train LeNet on MNIST and hand over one file that explains itself."""

import os

# ONNX Runtime 1.29 and later report to their vendor unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
