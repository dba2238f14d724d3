"""The server: ONNX image classifiers over gRPC, and the feature maps of any of their layers."""

import os
import sys

# ONNX Runtime 1.29 and later report to their vendor unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# gRPC's core writes lines of its own, which are no JSON, of whatever strangers send.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# pydantic would read what every installed package says of itself, to find plugins.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

# structlog loads rich where it is installed, 3 MB, for tracebacks that the server writes without it.
if not sys.modules.keys() & {"rich", "structlog"}:
    sys.modules["rich"] = None  # type: ignore[assignment] # as Python itself marks what can't be imported
    import structlog  # noqa: F401

    del sys.modules["rich"]
