from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.featurelens.conftest import Command

FREE = ("--grpc-address", "127.0.0.1:0", "--device", "cpu")


def test_what_is_good_is_told_and_status_0(command: Command) -> None:
    ended = command("doctor", *FREE)

    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].split() == ["CHECK", "FOUND", "WHAT", "TO", "DO"]
    assert any(line.startswith("model lenet/1") and " good " in line for line in lines)


def test_what_is_bad_is_told_with_what_to_do_and_status_1(command: Command, tmp_path: Path) -> None:
    ended = command("doctor", "--json", *FREE, "--model-repository", tmp_path)

    findings = json.loads(ended.out)
    assert ended.status == 1
    (finding,) = [finding for finding in findings if finding["verdict"] == "bad"]
    assert finding.keys() == {"check", "verdict", "found", "advice"}
    assert finding["check"] == "models"
    assert "holds no model" in finding["found"]


def test_a_terminal_gets_marks(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's way to be told that it writes to a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("FEATURELENS_NOPE", "1")
    ended = command("doctor", *FREE)

    assert ended.status == 1
    assert "✓ good" in ended.out
    assert "✗ bad" in ended.out


def test_its_help_is_its_own(command: Command) -> None:
    ended = command("doctor", "--help")

    assert ended.status == 0
    assert "featurelens doctor" in ended.out
    assert "--json" in ended.out
