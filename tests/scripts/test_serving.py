from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("status", [0, 3])
def test_runs_a_command_beside_a_server_and_returns_its_status(status: int) -> None:
    call = "import featurelens, os; featurelens.Client(os.environ['FEATURELENS_SERVER']).models()"

    completed = subprocess.run(
        [sys.executable, "-m", "scripts.serving", sys.executable, "-c", f"{call}; exit({status})"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.returncode == status, completed.stderr
    assert "featurelens is serving lenet on 127.0.0.1:" in completed.stdout
    assert "the server has stopped" in completed.stdout
