"""A model whose runs crash workers is taken from service, and what other callers see meanwhile."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import grpc
import onnx
import pytest

from protos.inference import messages as pb
from tests.e2e.clients import connect
from tests.e2e.processes import TIMEOUT_S, ServerProcess, has_ended, lines_of, server_process
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.service.oip.stub import Code, InferenceStub, arrays, failure
from tests.service.test_failures import FOR_EVER, OTHER, hanging

CRASHES = 3
CONNECTIONS = 16
"""As many as it takes to reach both workers, but for one time in thousands."""
REASON = "quarantined: the process died 3 times while it ran; replace its file or load it anew"
_TGKILL = {"x86_64": 234, "aarch64": 131}[platform.machine()]
_BUSY_TICKS = 30
"""CPU time by which a thread that hangs in a run is known."""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    add_model(folder, "lenet", onnx_models.lenet())
    add_model(folder, "hanging", onnx_models.hanging())
    return folder


@contextmanager
def good_client(address: str) -> Iterator[list[Code]]:
    """Call the good model all the time, each call again if its worker is lost; note what became of each."""
    outcomes: list[Code] = []
    stop = Event()

    def call() -> None:
        for _ in range(CRASHES):
            with connect(address) as channel:
                try:
                    InferenceStub(channel).ModelInfer(OTHER, timeout=TIMEOUT_S)
                except grpc.RpcError as error:
                    code = error.code()
                else:
                    code = Code.OK
            if code is not Code.UNAVAILABLE:
                break
        outcomes.append(code)

    def call_until_stopped() -> None:
        while not stop.is_set():
            call()

    thread = Thread(target=call_until_stopped)
    thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        thread.join()


def ticks(server: ServerProcess) -> dict[tuple[int, int], int]:
    """Return the CPU time of each thread, by worker."""
    found = {}
    for worker in server.workers():
        for task in Path(f"/proc/{worker}/task").iterdir():
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            found[worker, int(task.name)] = int(fields[11]) + int(fields[12])
    return found


def busy_thread(server: ServerProcess) -> tuple[int, int]:
    """Wait until a thread computes without end; return its worker and its id."""
    before = ticks(server)
    end_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        growth = {thread: now - before.get(thread, 0) for thread, now in ticks(server).items()}
        busiest = max(growth, key=growth.__getitem__)
        if growth[busiest] >= _BUSY_TICKS:
            return busiest
        Event().wait(0.05)
    pytest.fail("nothing runs")


def crash(server: ServerProcess) -> Code:
    """Have the bad model's run crash its worker; return what its caller is told."""
    with connect(server.address) as channel:
        call = InferenceStub(channel).ModelInfer.future(hanging(FOR_EVER), timeout=TIMEOUT_S)
        worker, thread = busy_thread(server)
        assert ctypes.CDLL(None).syscall(_TGKILL, worker, thread, signal.SIGSEGV) == 0
        assert has_ended(worker)
        error = call.exception(timeout=TIMEOUT_S)
    assert isinstance(error, grpc.Call)
    return error.code()


def index(server: ServerProcess) -> dict[str, tuple[str, str]]:
    """Return the state of each model in the worker where it is least ready, with the reason."""
    with connect(server.address) as channel:
        found = InferenceStub(channel).RepositoryIndex(pb.RepositoryIndexRequest()).models
    return {model.name: (model.state, model.reason) for model in found}


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + TIMEOUT_S  # a worker that died often is replaced after a pause
    while not condition():
        assert time.monotonic() < end_s
        Event().wait(0.05)


def replace_file(_server: ServerProcess, models: Path) -> None:
    new = onnx_models.hanging()
    new.producer_version = "2"
    onnx.save(new, models / "new.onnx")
    (models / "new.onnx").rename(models / "hanging/1/model.onnx")


def load(server: ServerProcess, _models: Path) -> None:
    with connect(server.address) as channel:
        request = pb.RepositoryModelLoadRequest(model_name="hanging")
        InferenceStub(channel).RepositoryModelLoad(request, timeout=TIMEOUT_S)


@pytest.mark.parametrize(
    ("transport", "bring_back"),
    [
        pytest.param("native", replace_file, id="native, its file is replaced"),
        pytest.param("grpcio", load, id="grpcio, it is loaded anew"),
    ],
)
def test_a_model_that_crashes_workers_is_quarantined_and_the_rest_serves_on(
    transport: str,
    bring_back: Callable[[ServerProcess, Path], None],
    models: Path,
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    flags = ("--model-repository", str(models), "--transport", transport, "--workers", "2")
    more = ("--model-control", "--watch-settle-s", "0.2")
    with server_process(*flags, *more, log=log) as server, good_client(server.address) as good:
        for count in range(1, CRASHES + 1):
            assert index(server)["hanging"] == ("READY", "")
            assert crash(server) is Code.UNAVAILABLE
            until(lambda count=count: len(lines_of(log, "a worker serves again")) == count)  # type: ignore[misc]
        until(lambda: index(server)["hanging"] == ("UNAVAILABLE", REASON))
        for _ in range(CONNECTIONS):
            with connect(server.address) as channel:
                assert failure(InferenceStub(channel).ModelInfer, hanging(0.0)) == (
                    Code.UNAVAILABLE,
                    f'model "hanging" version 1 is {REASON}',
                )
        assert index(server)["lenet"] == ("READY", "")

        os.kill(server.workers().pop(), signal.SIGKILL)
        until(lambda: len(lines_of(log, "a worker serves again")) == CRASHES + 1)
        assert index(server)["hanging"] == ("UNAVAILABLE", REASON)

        bring_back(server, models)
        until(lambda: index(server)["hanging"] == ("READY", ""))
        for _ in range(CONNECTIONS):
            with connect(server.address) as channel:
                answer = InferenceStub(channel).ModelInfer(hanging(0.0), timeout=TIMEOUT_S)
                assert arrays(answer)["y"].tolist() == [[0.0, 0.0]]

    assert set(good) == {Code.OK}
    assert len(lines_of(log, "a run crashed its worker")) == CRASHES
