"""What the tests of the client and the command share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from featurelens import Client
from featurelens.cli import main

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "mnist"
# Nothing listens on port 1 (tcpmux), and no unprivileged process can.
DEAD_ADDRESS = "127.0.0.1:1"


@dataclass(frozen=True)
class Ended:
    """How a run of the command ended."""

    status: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(
    server_address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run `featurelens ARGUMENTS...` in this process, with the real server as its default."""
    monkeypatch.setenv("FEATURELENS_SERVER", server_address)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["featurelens", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def client(server_address: str) -> Iterator[Client]:
    """A client of the real server."""
    with Client(server_address) as client:
        yield client


@pytest.fixture
def seven() -> Path:
    """A 7 of MNIST's test images."""
    return SAMPLES / "7_test00000.png"
