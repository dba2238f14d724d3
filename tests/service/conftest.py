"""Fixtures of the server's tests: stubs of a real server in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import onnx
import pytest

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from service.model import Model
from tests.service import onnx_models
from tests.serving import Serving
from tests.serving import serving as run_server

if TYPE_CHECKING:  # the typed stub of aio calls exists in the .pyi only
    from protos.featurelens.v1.classifier_pb2_grpc import ClassifierAsyncStub


@pytest.fixture(scope="session", params=["grpcio", "native"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each of the transports in turn: what goes through a server holds over both."""
    return str(request.param)


@pytest.fixture(scope="session")
def server_address(transport: str) -> Iterator[str]:
    """The address of a real server of the shipped LeNet, over each transport."""
    with run_server(transport=transport) as server:
        yield server.address


@pytest.fixture
def serving(transport: str) -> Serving:
    """Start servers with settings of the test's own, over each transport."""
    return partial(run_server, transport=transport)


@pytest.fixture
def channel(server_address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server_address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> ClassifierStub:
    return ClassifierStub(channel)


@pytest.fixture
async def async_stub(server_address: str) -> AsyncIterator[ClassifierAsyncStub]:
    async with grpc.aio.insecure_channel(server_address) as channel:
        yield ClassifierStub(channel)


class HeldRuns:
    """Lets the test decide when a run of any model goes on."""

    def __init__(self) -> None:
        self.started = Event()
        self.may_run = Event()
        self.count = 0


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldRuns]:
    """Hold the runs of a server that the test starts next; those of its start pass."""
    runs = HeldRuns()
    run = Model.run

    def hold(self: Model, feeds: Mapping[str, np.ndarray[Any, Any]], outputs: Sequence[str]) -> object:
        runs.count += 1
        runs.started.set()
        assert runs.may_run.wait(60)
        return run(self, feeds, outputs)

    monkeypatch.setattr(Model, "run", hold)
    yield runs
    runs.may_run.set()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder with a LeNet of random weights, for tests that need models of their own."""
    add_model(tmp_path, "lenet", onnx_models.lenet())
    return tmp_path


def add_model(folder: Path, name: str, model: onnx.ModelProto | bytes, version: str = "1") -> Path:
    """Put a model into a repository and return its file."""
    file = folder / name / version / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return file
