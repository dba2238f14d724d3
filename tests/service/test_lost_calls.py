"""An error anywhere between a run and its answers ends every call of the run: none stays unanswered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any, cast

import grpc
import numpy as np
import pytest
from structlog.testing import capture_logs

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.api.access_log import AccessLog
from service.batching_limits import BatchingLimits
from service.cache import ResponseCache
from service.errors import InternalError, ServiceError
from service.job import Job, Result, run_key
from service.model import Model
from service.scheduler import Scheduler
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.service.oip.stub import Code, InferenceStub, arrays, failure, request
from tests.service.test_classify import digits
from tests.service.test_scheduler import DoublingModel
from tests.serving import Serving

TIMEOUT_S = 20
Outcome = Result | ServiceError


class Misshapen(DoublingModel):
    """Gives, for 4 rows or less, what `gives` makes of them."""

    def __init__(self, gives: Callable[[np.ndarray], Any]) -> None:
        super().__init__(BatchingLimits(4, 30))
        self.gives = gives
        self.cacheable = True
        self.digest = "misshapen"

    def run(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, Any]:
        values = super().run(feeds, ())
        return dict.fromkeys(outputs, self.gives(feeds["x"]), **values)


class Unanswerable:
    """Looks like an array of so many rows and can't be cut, joined or copied."""

    dtype = np.dtype(np.float32)
    nbytes = 4

    def __init__(self, rows: int) -> None:
        self.shape = (rows, 1)
        self.ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    def _refuse(self, *_: object, **__: object) -> Any:  # noqa: ANN401
        raise ZeroDivisionError("nothing can be made of this")

    __getitem__ = __array__ = copy = _refuse


GIVEN: Mapping[str, Callable[[np.ndarray], Any]] = {
    "no rows": lambda x: np.float32(len(x)),
    "a row too many": lambda x: np.zeros((len(x) + 1, 2)),
    "rows of other lengths": lambda x: np.zeros((len(x), int(x[0, 0]))),
    "what can't be cut or joined": lambda x: Unanswerable(len(x)),
    "no array": lambda _: None,
}


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    yield scheduler
    scheduler.close()


def submit(scheduler: Scheduler, model: DoublingModel, values: Sequence[float]) -> Queue[Outcome]:
    ended: Queue[Outcome] = Queue()
    feeds = {"x": np.array(values, np.float32)[:, None]}
    key = run_key(cast(Model, model), feeds, ("y",), len(values))
    job = Job(cast(Model, model), feeds, ("y",), len(values), ended.put, lambda: None, run_key=key)
    scheduler.submit(job)
    return ended


@pytest.mark.parametrize("given", GIVEN)
def test_every_slice_and_every_sharer_ends(scheduler: Scheduler, given: str) -> None:
    """Of a long job, of several that share a run, and of one alone, whatever the model gives for them."""
    model = Misshapen(GIVEN[given])
    with capture_logs() as logs:
        long = submit(scheduler, model, range(1, 11)).get(timeout=TIMEOUT_S)
        model.may_run.clear()
        held = submit(scheduler, model, [1])
        shared = [submit(scheduler, model, [value]) for value in (2, 3, 4)]
        model.may_run.set()
        for queue in (held, *shared):
            assert isinstance(queue.get(timeout=TIMEOUT_S), Result)  # alone, it is whatever the model gives
        scheduler.close()
    assert isinstance(long, InternalError)
    assert any(entry.get("exc_info") for entry in logs)
    assert held.empty()
    assert all(queue.empty() for queue in shared)


def test_an_answer_that_can_not_be_held_is_given(scheduler: Scheduler) -> None:
    model = Misshapen(GIVEN["what can't be cut or joined"])
    cached = Scheduler(cache=ResponseCache(1 << 20))
    with capture_logs() as logs:
        outcome = submit(cached, model, [1]).get(timeout=TIMEOUT_S)
        cached.close()
    assert isinstance(outcome, Result)
    assert [(entry["event"], entry["exc_info"]) for entry in logs] == [
        ("unexpected error in holding an answer", True)
    ]


def test_a_job_whose_answer_can_not_be_made_ends_with_an_error(scheduler: Scheduler) -> None:
    ended: Queue[Outcome] = Queue()

    def done(outcome: Outcome) -> None:
        ended.put(outcome)
        if isinstance(outcome, Result):
            raise ZeroDivisionError

    model = cast(Model, DoublingModel())
    with capture_logs() as logs:
        scheduler.submit(Job(model, {"x": np.zeros((1, 1), np.float32)}, ("y",), 1, done, lambda: None))
        assert isinstance(ended.get(timeout=TIMEOUT_S), Result)
        assert isinstance(ended.get(timeout=TIMEOUT_S), InternalError)
        scheduler.close()
    assert [entry["event"] for entry in logs] == ["unexpected error at the end of a job"]


def test_what_is_sliced_ends_where_slicing_fails(scheduler: Scheduler) -> None:
    model = DoublingModel(BatchingLimits(4, 30))
    ended: Queue[Outcome] = Queue()

    class Brittle(np.ndarray[Any, Any]):
        def __getitem__(self, key: Any) -> Any:  # noqa: ANN401
            if isinstance(key, slice) and key.start == 4:
                raise MemoryError
            return super().__getitem__(key)

    feeds = {"x": np.zeros((12, 1), np.float32).view(Brittle)}
    job = Job(cast(Model, model), feeds, ("y",), 12, ended.put, lambda: None, run_key=("a key of its own",))
    with capture_logs() as logs:
        scheduler.submit(job)
        assert isinstance(ended.get(timeout=TIMEOUT_S), InternalError)
        assert submit(scheduler, DoublingModel(), [1]).get(timeout=TIMEOUT_S)
        scheduler.close()
    assert [entry["event"] for entry in logs] == ["unexpected error in slicing a job"]
    assert ended.empty()


def reshaping() -> bytes:
    """Rows of 31 sums of neighbours: one an item of length 32, the one that a trial finds, and two of 63."""
    nodes = [
        onnx_models.node("Conv", "x w", "sums"),
        onnx_models.node("Reshape", "sums shape", "rows"),
        onnx_models.node("Softmax", "rows", "y"),
    ]
    inputs, outputs = [onnx_models.value("x", ["n", 1, "length"])], [onnx_models.value("y", ["n", 31])]
    constants = {"w": np.ones((1, 1, 2), np.float32), "shape": np.array([-1, 31])}
    return onnx_models.model(nodes, inputs, outputs, constants).SerializeToString()


def test_callers_of_a_model_that_follows_at_one_size_only_get_their_own(
    serving: Serving, tmp_path: Path
) -> None:
    add_model(tmp_path, "reshaping", reshaping())
    with (
        serving(model_repository=tmp_path, max_queue_delay_us=20_000) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        infer = InferenceStub(channel)

        def call(seed: int) -> tuple[np.ndarray, np.ndarray]:
            x = np.random.default_rng(seed).random((1, 1, 63), np.float32)
            answer = infer.ModelInfer(request("reshaping", [("x", "FP32", x)], ["rows"]), timeout=TIMEOUT_S)
            return x, arrays(answer)["rows"]

        with ThreadPoolExecutor(4) as pool:
            for x, rows in pool.map(call, range(12)):
                sums = x[0, 0, :-1] + x[0, 0, 1:]
                np.testing.assert_allclose(rows, sums.reshape(2, 31), rtol=1e-5)
        long = np.zeros((40, 1, 63), np.float32)
        asked = request("reshaping", [("x", "FP32", long)], ["y"])
        code, details = failure(infer.ModelInfer, asked, timeout=TIMEOUT_S)
        assert code is Code.INTERNAL
        assert details.startswith("the parts of the answer can't be joined; the server's log has more")
        tensor = pack(np.zeros((3, 1, 63), np.float32))
        code, details = failure(
            ClassifierStub(channel).Classify, pb.ClassifyRequest(tensor=tensor, layers=["rows"])
        )
        assert code is Code.INTERNAL


def test_a_call_is_answered_even_if_it_can_not_be_counted(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(AccessLog, "write", broken)
    with serving() as server, grpc.insecure_channel(server.address) as channel:
        asked = request("lenet", [("image", "FP32", digits(1))])
        assert InferenceStub(channel).ModelInfer(asked, timeout=TIMEOUT_S).outputs
        classified = ClassifierStub(channel).Classify(
            pb.ClassifyRequest(tensor=pack(digits(2))), timeout=TIMEOUT_S
        )
        assert len(classified.results) == 2
