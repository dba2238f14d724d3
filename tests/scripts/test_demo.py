from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import demo


@pytest.mark.parametrize(("label", "wrong"), [("7", 0), ("1", 1)])
def test_counts_wrong_answers(label: str, wrong: int, capsys: pytest.CaptureFixture[str]) -> None:
    scores = [{"label": label, "probability": 0.75}, {"label": "9", "probability": 0.25}]

    assert demo.show([{"path": str(demo.SHOWN), "label": label, "top": scores}]) == wrong
    assert "0.7500" in capsys.readouterr().out


def test_says_why_the_server_did_not_start(tmp_path: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "scripts.demo", tmp_path],
        cwd=demo.ROOT,
        env=os.environ | {"FEATURELENS_MODEL_REPOSITORY": str(tmp_path / "absent")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.returncode == 1
    assert "demo: the server did not start" in completed.stderr
    assert "absent is not a folder" in completed.stderr
