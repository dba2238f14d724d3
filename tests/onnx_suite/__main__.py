"""Runs all cases that the onnx package brings through the server: `python -m tests.onnx_suite`."""

from __future__ import annotations

import sys

from service.logs import configure_logs
from tests.onnx_suite import cases, report

configure_logs("auto", "error")
found = report.run(cases.load())
sys.stdout.write(f"{found}\n")
sys.exit(bool(found.wrong))
