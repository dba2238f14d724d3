"""Which transport takes the calls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.errors import StartupError
from service.listening import takes_native
from service.settings import Settings
from tests.serving import serving


@pytest.mark.parametrize(
    ("address", "trusted", "expected"),
    [
        ("127.0.0.1:8001", False, True),
        ("[::1]:8001", False, True),
        ("localhost:8001", False, True),
        ("0.0.0.0:8001", False, False),
        ("[::]:8001", False, False),
        ("192.0.2.1:8001", False, False),
        ("0.0.0.0:8001", True, True),
    ],
)
def test_auto_takes_native_where_clients_are_trusted(address: str, trusted: bool, expected: bool) -> None:
    settings = Settings(grpc_address=address, trusted_clients=trusted)
    assert takes_native(settings, tls=False) is expected
    assert takes_native(settings, tls=True) is False
    assert takes_native(Settings(grpc_address=address, transport="grpcio"), tls=False) is False


@pytest.mark.parametrize(("address", "warned"), [("0.0.0.0:8001", True), ("127.0.0.1:8001", False)])
def test_native_for_strangers_is_taken_with_a_warning(address: str, warned: bool) -> None:
    with capture_logs() as logs:
        assert takes_native(Settings(grpc_address=address, transport="native"), tls=False)
    assert bool([line for line in logs if "bounds no message" in line["event"]]) is warned


def test_native_has_no_tls() -> None:
    with pytest.raises(StartupError, match="has no TLS"):
        takes_native(Settings(transport="native"), tls=True)


def test_the_folder_of_a_process_that_was_killed_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left_behind = tmp_path / f"featurelens-{ended.pid}-abc"
    others = [tmp_path / name for name in (f"featurelens-{os.getpid()}-abc", "featurelens-mine", "else-1-a")]
    for folder in (left_behind, *others):
        folder.mkdir()
        (folder / "grpcio.sock").touch()
    with serving(transport="native"):
        assert not left_behind.exists()
    assert sorted(tmp_path.iterdir()) == sorted(others)
