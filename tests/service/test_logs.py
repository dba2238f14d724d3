"""Log lines of libraries: in the form of our own, and not as many as a stranger likes."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging
from service.logs import configure_logs
configure_logs("json", "info")
for number in range(1000):
    logging.getLogger("grpc._cython.cygrpc").error("strange call %s", number)
"""


def test_a_library_writes_few_lines_a_second() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    assert 20 <= len(lines) <= 60  # of one second, or of a few
    assert lines[0] == {
        "event": "strange call 0",
        "level": "error",
        "logger": "grpc._cython.cygrpc",
        "timestamp": lines[0]["timestamp"],
    }
