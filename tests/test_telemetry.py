"""Nothing that featurelens runs reports to anybody: ONNX Runtime's telemetry stays off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "lenet" / "1" / "model.onnx"
# What keeps ONNX Runtime's telemetry off in a test by itself, or has it keep its identifier elsewhere.
IRRELEVANT = ("ORT_", "CI", "GITHUB_", "TF_BUILD", "PYTEST_", "XDG_CACHE_HOME")


@pytest.mark.parametrize("imported", ["service.model", "training.export"])
def test_a_session_leaves_no_identifier(imported: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(IRRELEVANT)}
    program = f"import {imported}, onnxruntime; onnxruntime.InferenceSession({str(MODEL)!r})"

    subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment | {"HOME": str(tmp_path)}, check=True
    )

    assert list(tmp_path.rglob("*")) == []
