"""SIGTERM under load: every call that was accepted is answered, and every other is refused for a retry."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from tests.e2e.clients import OK, clients
from tests.e2e.processes import lines_of, server_process

CLIENTS = 8


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_every_call_that_was_accepted_is_answered(transport: str, workers: int, tmp_path: Path) -> None:
    """Judged by the history: what the log calls OK is what the clients got."""
    log = tmp_path / "log"
    flags = ("--transport", transport, "--workers", str(workers), "--access-log-rate", "1000000")
    with (
        server_process(*flags, log=log) as server,
        clients(server.address, CLIENTS) as calling,
    ):
        status = server.terminate()
    outcomes = [outcome for client in calling for outcome in client.outcomes]
    answered = {call["request_id"] for call in lines_of(log, "call") if call["code"] == "OK"}

    assert status == 0
    assert {request_id for code, request_id in outcomes if code is OK} == answered
    assert len(answered) >= CLIENTS
    assert {code for code, _ in outcomes if code is not OK} == {grpc.StatusCode.UNAVAILABLE}
