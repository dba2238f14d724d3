"""Several workers follow one repository: they change over together, and a new one comes to what all serve."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as pb
from tests.e2e.clients import connect
from tests.e2e.processes import ServerProcess, has_ended, lines_of, server_process
from tests.service.external import DATA, split
from tests.service.live.repositories import ask, configure, put, version, wait_until_true
from tests.service.live.test_trial import hungry
from tests.service.oip.stub import InferenceStub, failure

WORKERS = 2
CONNECTIONS = 16
"""As many as it takes to reach all workers, but for one time in thousands."""
GIB_IN_ITEMS = 2**28


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, "tiny", 1)
    configure(tmp_path, "tiny", "")
    return tmp_path


@pytest.fixture
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(params=["grpcio", "native"])
def server(folder: Path, log: Path, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    flags = ("--model-repository", str(folder), "--workers", str(WORKERS), "--transport", request.param)
    limits = ("--watch-settle-s", "0.2", "--trial-memory-mib", "512", "--model-control")
    with server_process(*flags, *limits, log=log) as server:
        yield server


def answering(server: ServerProcess) -> set[tuple[str, float]]:
    """Ask over new connections: the versions that answer, and what they say that they are."""
    found = set()
    for _ in range(CONNECTIONS):
        with connect(server.address) as channel:
            found.add(ask(ClassifierStub(channel)))
    return found


def states(server: ServerProcess) -> dict[str, str]:
    """Return the state of each version in the worker where it is least ready."""
    with connect(server.address) as channel:
        models = InferenceStub(channel).RepositoryIndex(pb.RepositoryIndexRequest()).models
    return {model.version: model.state for model in models}


def test_workers_change_over_together(folder: Path, server: ServerProcess) -> None:
    put(folder, "tiny", 2)
    wait_until_true(lambda: states(server) == {"2": "READY"})
    assert answering(server) == {("2", 2.0)}
    configure(folder, "tiny", "version_labels.stable = 1")
    wait_until_true(lambda: states(server) == {"1": "READY", "2": "READY"})
    assert answering(server) == {("1", 1.0)}


def test_workers_change_over_together_to_weights_in_another_file(folder: Path, server: ServerProcess) -> None:
    for number in (2, 3):
        split(folder / f".{number}", version(number))
    (folder / ".2/1").rename(folder / "tiny/2")
    wait_until_true(lambda: answering(server) == {("2", 2.0)})
    (folder / ".3/1" / DATA).rename(folder / "tiny/2" / DATA)
    wait_until_true(lambda: answering(server) == {("2", 3.0)})


def test_a_new_worker_comes_to_what_all_serve(folder: Path, server: ServerProcess, log: Path) -> None:
    put(folder, "tiny", 2, hungry(GIB_IN_ITEMS))
    wait_until_true(lambda: states(server) == {"1": "READY", "2": "UNAVAILABLE"})
    for deaths, worker in enumerate(server.workers(), 1):
        os.kill(worker, signal.SIGKILL)
        assert has_ended(worker)
        wait_until_true(lambda deaths=deaths: len(lines_of(log, "a worker serves again")) == deaths)  # type: ignore[misc]
        assert states(server) == {"1": "READY", "2": "UNAVAILABLE"}
        assert answering(server) == {("1", 1.0)}
    shutil.rmtree(folder / "tiny/2")
    put(folder, "tiny", 3)
    wait_until_true(lambda: states(server) == {"3": "READY"})
    assert answering(server) == {("3", 3.0)}


def test_any_worker_takes_requests_to_load(folder: Path, server: ServerProcess) -> None:
    for number in range(2, 8):
        put(folder, "tiny", number)
        with connect(server.address) as channel:
            request = pb.RepositoryModelLoadRequest(model_name="tiny")
            InferenceStub(channel).RepositoryModelLoad(request, timeout=60)
            assert ask(ClassifierStub(channel)) == (str(number), float(number))
        assert answering(server) == {(str(number), float(number))}
    with connect(server.address) as channel:
        load = InferenceStub(channel).RepositoryModelLoad
        code, _ = failure(load, pb.RepositoryModelLoadRequest(model_name="nothing"))
        assert code is grpc.StatusCode.NOT_FOUND
