"""Where and with what a run was made."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = ("onnxruntime", "grpcio", "pygrpc-native", "protobuf", "numpy")


Environment = dict[str, str | int | float]


def environment() -> Environment:
    """Describe the machine, the libraries and how busy the machine is."""
    found: Environment = {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    return found | {library: version(library) for library in _LIBRARIES}


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()
