"""What callers and operators see when a worker dies, and when the supervisor does."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import grpc
import pytest

from tests.e2e.clients import OK, classify, clients, connect, process_of, successes
from tests.e2e.processes import TIMEOUT_S, has_ended, lines_of, server_process
from tests.service import onnx_models
from tests.service.conftest import add_model

CLIENTS = 4


def new_process(address: str, known: set[str], answered: list[str] | None = None) -> str:
    """Connect until a process answers that isn't known; note the ids of all that was answered."""
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        with connect(address) as channel:
            code, request_id = classify(channel)
        if code is OK:
            if answered is not None:
                answered.append(request_id)
            if process_of(request_id) not in known:
                return process_of(request_id)
    pytest.fail(f"nobody but {known} answered")


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    assert has_ended(process)


def until_logged(log: Path, event: str, count: int, address: str) -> None:
    """Wait for lines of the log; meanwhile every call is answered."""
    while len(lines_of(log, event)) < count:
        with connect(address) as channel:
            assert classify(channel)[0] is OK


@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_a_worker_that_is_killed_takes_only_its_calls_with_it(transport: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    flags = ("--transport", transport, "--workers", "2", "--access-log-rate", "1000000")
    with (
        server_process(*flags, log=log) as server,
        clients(server.address, CLIENTS) as calling,
    ):
        first = new_process(server.address, set())
        second = new_process(server.address, {first})
        victim = server.workers().pop()
        kill(victim)
        third = new_process(server.address, {first, second})
        until_logged(log, "a worker serves again", 1, server.address)
    (death,) = lines_of(log, "a worker ended")
    of_its_number = {
        process_of(call["request_id"]) for call in lines_of(log, "call") if call["worker"] == death["worker"]
    }

    assert death["reason"] == f"worker {death['worker']} (process {victim}) ended by SIGKILL"
    assert [line["worker"] for line in lines_of(log, "a worker serves again")] == [death["worker"]]
    (dead,) = of_its_number - {third}
    for client in calling:
        last = ""
        for code, text in client.outcomes:
            if code is OK:
                last = process_of(text)
            else:
                assert (code, last) == (grpc.StatusCode.UNAVAILABLE, dead)
                # Every failure is the lost connection: the next one was made at once.
                assert "failed to connect" not in text
        assert client.outcomes[-1][0] is OK


def test_a_worker_that_hangs_is_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with server_process("--workers", "2", "--worker-timeout-s", "1", log=log) as server:
        first = new_process(server.address, set())
        second = new_process(server.address, {first})
        victim = server.workers().pop()
        os.kill(victim, signal.SIGSTOP)
        assert has_ended(victim)
        new_process(server.address, {first, second})
        assert server.terminate() == 0
    (death,) = lines_of(log, "a worker ended")
    assert f"worker {death['worker']} hung: no sign of life for" in death["reason"]


def test_what_a_dead_worker_had_counted_stays_counted() -> None:
    answered: list[str] = []
    with server_process("--workers", "2") as server:
        known = {new_process(server.address, set(), answered)}
        known.add(new_process(server.address, known, answered))
        with connect(server.address) as channel:
            assert successes(channel) == len(answered)
        kill(server.workers().pop())
        with connect(server.address) as channel:
            assert successes(channel) == len(answered)
        new_process(server.address, known, answered)
        with connect(server.address) as channel:
            assert successes(channel) == len(answered)


def test_a_worker_that_cannot_come_back_is_tried_again_and_the_other_serves_on(tmp_path: Path) -> None:
    log, models = tmp_path / "log", tmp_path / "models"
    add_model(models, "lenet", onnx_models.lenet())
    with server_process("--workers", "2", "--model-repository", str(models), log=log) as server:
        known = {new_process(server.address, set())}
        known.add(new_process(server.address, known))
        shutil.rmtree(models)
        kill(server.workers().pop())
        until_logged(log, "a worker ended", 2, server.address)
        add_model(models, "lenet", onnx_models.lenet())
        new_process(server.address, known)
    _, second, *_ = lines_of(log, "a worker ended")

    assert second["reason"] == f"the model repository {models} is not a folder"
    assert second["replaced_in_s"] == 1.0


def test_workers_end_when_their_supervisor_is_killed() -> None:
    with server_process("--workers", "2") as server:
        workers = server.workers()
        kill(server.process.pid)

        assert all(has_ended(worker) for worker in workers)
