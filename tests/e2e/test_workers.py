"""Several processes on one port: callers see one server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest

from protos.inference import messages as pb
from service.cpus import available_cpus
from tests.e2e.clients import OK, classify, connect, process_of, successes
from tests.e2e.processes import (
    TIMEOUT_S,
    ServerProcess,
    command,
    has_ended,
    run_to_its_end,
    server_process,
    until_not_serving,
)
from tests.service.oip.stub import InferenceStub

WORKERS = 2
MOST_CONNECTIONS = 64


@pytest.fixture(scope="module", params=["grpcio", "native"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with server_process("--workers", str(WORKERS), "--transport", request.param) as server:
        yield server


@pytest.fixture(scope="module")
def channels(server: ServerProcess) -> Iterator[dict[str, grpc.Channel]]:
    """A connection to each worker, by its process."""
    with ExitStack() as stack:
        found: dict[str, grpc.Channel] = {}
        for _ in range(MOST_CONNECTIONS):
            channel = stack.enter_context(connect(server.address))
            code, request_id = classify(channel)
            assert code is OK
            found[process_of(request_id)] = channel
            if len(found) == WORKERS:
                break
        yield found


def test_connections_reach_every_worker(server: ServerProcess, channels: dict[str, grpc.Channel]) -> None:
    assert server.line.startswith("featurelens is serving lenet on 127.0.0.1:")
    assert not server.address.endswith(":0")
    assert len(channels) == len(server.workers()) == WORKERS


def test_every_worker_tells_what_all_have_counted(channels: dict[str, grpc.Channel]) -> None:
    first, second = channels.values()
    before = successes(first)
    for channel in (first, first, second):
        assert classify(channel)[0] is OK

    assert [successes(first), successes(second)] == [before + 3, before + 3]


def test_every_worker_lists_the_same_versions(channels: dict[str, grpc.Channel]) -> None:
    indexes = [
        [
            (model.name, model.version, model.state)
            for model in InferenceStub(channel).RepositoryIndex(pb.RepositoryIndexRequest()).models
        ]
        for channel in channels.values()
    ]

    assert indexes == [[("lenet", "1", "READY")]] * WORKERS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_ends_all_in_order(number: signal.Signals) -> None:
    with server_process("--workers", str(WORKERS)) as server:
        workers = server.workers()
        for process in (*workers, server.process.pid):
            os.kill(process, number)

        assert server.process.wait(TIMEOUT_S) == 0
        assert all(has_ended(worker) for worker in workers)


def test_a_second_signal_ends_all_at_once() -> None:
    with server_process("--workers", str(WORKERS), "--drain-s", "600") as server:
        workers = server.workers()
        server.process.send_signal(signal.SIGTERM)
        with grpc.insecure_channel(server.address) as channel:
            until_not_serving(channel)
            server.process.send_signal(signal.SIGTERM)

            assert server.process.wait(TIMEOUT_S) == 128 + signal.SIGTERM
        assert all(has_ended(worker) for worker in workers)


def test_a_signal_while_workers_start_ends_all_in_order() -> None:
    with subprocess.Popen(command("--workers", str(WORKERS)), stdout=subprocess.PIPE, text=True) as process:
        server = ServerProcess(process, line="", address="")
        while len(workers := server.workers()) < WORKERS:
            assert process.poll() is None

        assert server.terminate() == 0
        assert all(has_ended(worker) for worker in workers)
        assert process.communicate()[0] == ""


def test_a_worker_that_cannot_start_ends_all_with_its_reason() -> None:
    done = run_to_its_end("--workers", str(WORKERS), "--model-repository", "/nowhere")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "featurelens serve: the model repository /nowhere is not a folder\n"


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_to_its_end("--workers", str(WORKERS), "--grpc-address", address)

    assert done.returncode == 1
    assert done.stderr == (
        f"featurelens serve: can't listen on {address}: Address already in use; choose another with"
        " --grpc-address\n"
    )


@pytest.mark.parametrize("workers", [1, WORKERS])
def test_no_other_server_joins_the_port(server: ServerProcess, workers: int) -> None:
    done = run_to_its_end("--workers", str(workers), "--grpc-address", server.address)

    assert done.returncode == 1
    assert f"can't listen on {server.address}: " in done.stderr


def test_auto_is_one_worker_a_cpu() -> None:
    with server_process("--workers", "auto") as server:
        workers = len(server.workers())

    assert workers == (available_cpus() if available_cpus() > 1 else 0)
