"""What fails inside costs its own calls and nobody else's: hanging runs, no memory, jumps of the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Event, Thread

import grpc
import numpy as np
import pytest

from protos.inference import messages as pb
from service.batching_limits import BatchingLimits
from service.device import Execution
from service.errors import ExecutionError, ServiceError
from service.job import Job, Result
from service.lane import Lane
from service.model import Model
from service.run_watch import RunWatch
from tests.service import onnx_models
from tests.service.conftest import HeldRuns, add_model
from tests.service.oip.stub import Code, InferenceStub, arrays, failure, request
from tests.service.test_calls import error_of
from tests.service.test_classify import digits
from tests.serving import Serving

TIMEOUT_S = 20
FOR_EVER = 2.0**40
OTHER = request("lenet", [("image", "FP32", digits(1))], ["probabilities"])


@pytest.fixture
def models(repository: Path) -> Path:
    """A LeNet, a model that can be made to hang, and one that can be made to need any amount of memory."""
    add_model(repository, "hanging", onnx_models.hanging())
    add_model(repository, "expanding", onnx_models.expanding())
    return repository


def hanging(value: float) -> pb.ModelInferRequest:
    return request("hanging", [("x", "FP32", np.array([[0.0, value]], np.float32))])


def expanding(count: float) -> pb.ModelInferRequest:
    return request("expanding", [("x", "FP32", np.array([[count]], np.float32))])


@contextmanager
def another_client(address: str) -> Iterator[Queue[str]]:
    """Call another model all the time; at the end the queue holds what became of each call."""
    outcomes: Queue[str] = Queue()
    first, stop = Event(), Event()

    def call() -> None:
        with grpc.insecure_channel(address) as channel:
            stub = InferenceStub(channel)
            while not stop.is_set():
                try:
                    stub.ModelInfer(OTHER, timeout=TIMEOUT_S)
                    outcomes.put("OK")
                except grpc.RpcError as error:
                    outcomes.put(str(error))
                first.set()

    thread = Thread(target=call)
    thread.start()
    try:
        assert first.wait(TIMEOUT_S)
        yield outcomes
    finally:
        stop.set()
        thread.join()


def test_a_run_that_hangs_is_ended_and_the_model_serves_on(models: Path, serving: Serving) -> None:
    with (
        serving(model_repository=models, run_timeout_s=0.5) as server,
        grpc.insecure_channel(server.address) as channel,
        another_client(server.address) as others,
    ):
        stub = InferenceStub(channel)
        code, details = failure(stub.ModelInfer, hanging(FOR_EVER))
        answer = stub.ModelInfer(hanging(0.0), timeout=TIMEOUT_S)
    assert (code, details.partition(";")[0]) == (
        Code.INTERNAL,
        "the model failed: the run took longer than 0.5 s and was ended",
    )
    assert arrays(answer)["y"].tolist() == [[0.0, 0.0]]
    assert set(others.queue) == {"OK"}


def test_a_run_that_hangs_does_not_fail_those_it_was_batched_with() -> None:
    limits = BatchingLimits(max_batch_size=8, max_queue_size=8, max_queue_delay_us=10_000_000)
    model = Model(
        onnx_models.hanging().SerializeToString(), Execution(), batching=limits, watch=RunWatch(0.3)
    )
    lane = Lane(model)
    ended: dict[str, Queue[Result | ServiceError]] = {}
    values = {"bad": FOR_EVER, **{f"good {i}": 0.0 for i in range(7)}}  # a full batch: it waits for no more
    for name, value in values.items():
        ended[name] = Queue()
        feeds = {"x": np.array([[0.0, value]], np.float32)}
        lane.submit(Job(model, feeds, ("y",), 1, ended[name].put, lambda: None))
    outcomes = {name: queue.get(timeout=TIMEOUT_S) for name, queue in ended.items()}
    lane.close()
    assert isinstance(outcomes.pop("bad"), ExecutionError)
    assert all(isinstance(outcome, Result) for outcome in outcomes.values())


def test_each_run_has_the_whole_time() -> None:
    """Runs that together take longer than the limit go on; so do those after one that was ended."""
    model = Model(onnx_models.hanging().SerializeToString(), Execution(), watch=RunWatch(0.4))
    started_s = time.monotonic()
    while time.monotonic() - started_s < 1.0:
        assert model.run({"x": np.array([[0.0, 1000.0]], np.float32)}, ["y"])
    with pytest.raises(ExecutionError, match=r"took longer than 0\.4 s and was ended"):
        model.run({"x": np.array([[0.0, FOR_EVER]], np.float32)}, ["y"])
    assert model.run({"x": np.array([[0.0, 2.0]], np.float32)}, ["y"])["y"].tolist() == [[0.0, 2.0]]


def test_memory_that_is_not_there_fails_that_call_alone(models: Path, serving: Serving) -> None:
    with (
        serving(model_repository=models) as server,
        grpc.insecure_channel(server.address) as channel,
        another_client(server.address) as others,
    ):
        stub = InferenceStub(channel)
        code, details = failure(stub.ModelInfer, expanding(2.0**58))
        answer = stub.ModelInfer(expanding(3.0), timeout=TIMEOUT_S)
    assert (code, details.partition(";")[0]) == (Code.INTERNAL, "the model's run failed")
    assert arrays(answer)["y"].tolist() == [[3.0, 3.0, 3.0]]
    assert set(others.queue) == {"OK"}


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
def test_deadlines_heed_no_jump_of_the_clock(
    held: HeldRuns, serving: Serving, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    real = time.time
    with serving(default_deadline_s=1.0) as server, grpc.insecure_channel(server.address) as channel:
        stub = InferenceStub(channel)
        held.may_run.set()
        assert stub.ModelInfer(OTHER).outputs
        held.may_run.clear()
        started_s = time.monotonic()
        call = stub.ModelInfer.future(OTHER)
        monkeypatch.setattr(time, "time", lambda: real() + jump_s)
        code, _ = error_of(lambda: call.result(timeout=TIMEOUT_S))
        assert code == "DEADLINE_EXCEEDED"
        assert time.monotonic() - started_s >= 0.9
        held.may_run.set()
        assert stub.ModelInfer(OTHER).outputs
