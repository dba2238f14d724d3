"""Queueing, grouping and dropping, with a model whose runs the test holds and releases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from queue import Queue
from threading import Event
from typing import cast

import numpy as np
import pytest

from service.batching_limits import BatchingLimits
from service.errors import (
    DeadlineExceededError,
    DrainingError,
    ExecutionError,
    InternalError,
    OverloadedError,
    ServiceError,
)
from service.job import Job, Result, run_key
from service.model import Model
from service.scheduler import Scheduler

TIMEOUT_S = 20


class DoublingModel:
    """Doubles its input; a run starts only when the test lets it."""

    def __init__(self, limits: BatchingLimits = BatchingLimits(4, 3), *, batches: bool = True) -> None:  # noqa: B008 - frozen
        self.batching = limits
        self.threads = 1
        self.provider = "CPUExecutionProvider"
        self._batches = batches
        self.entered: Queue[list[float]] = Queue()
        self.may_run = Event()
        self.may_run.set()

    def batches(self, outputs: Sequence[str], feeds: Mapping[str, np.ndarray]) -> bool:
        return self._batches

    def run(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        values = feeds["x"]
        self.entered.put(values.ravel().tolist())
        assert self.may_run.wait(TIMEOUT_S)
        if np.isnan(values).any():
            raise ExecutionError("the model can't digest this")
        if np.isinf(values).any():
            raise ZeroDivisionError
        return dict.fromkeys(outputs, values * 2)


class Caller:
    """Submits jobs and collects what became of them."""

    def __init__(self, scheduler: Scheduler, model: DoublingModel) -> None:
        self.scheduler = scheduler
        self.model = model
        self.outcomes: dict[str, Queue[Result | ServiceError]] = {}

    def submit(
        self,
        name: str,
        values: Sequence[float],
        outputs: tuple[str, ...] = ("y",),
        abandoned: ServiceError | None = None,
        priority: int = 0,
        size: int | None = None,
    ) -> None:
        queue = self.outcomes[name] = Queue()
        feeds = {"x": np.array(values, np.float32)[:, None]}
        model = cast(Model, self.model)
        size = len(values) if size is None else size
        key = run_key(model, feeds, outputs, size)
        job = Job(model, feeds, outputs, size, queue.put, lambda: abandoned, priority, key)
        self.scheduler.submit(job)

    def result(self, name: str) -> Result:
        outcome = self.outcomes[name].get(timeout=TIMEOUT_S)
        assert isinstance(outcome, Result), outcome
        return outcome

    def error(self, name: str) -> ServiceError:
        outcome = self.outcomes[name].get(timeout=TIMEOUT_S)
        assert isinstance(outcome, ServiceError), outcome
        return outcome

    def hold_a_run(self) -> None:
        """Start a run that doesn't end before `model.may_run` is set."""
        self.model.may_run.clear()
        self.submit("held", [0])
        assert self.model.entered.get(timeout=TIMEOUT_S) == [0]


@pytest.fixture
def caller() -> Iterator[Caller]:
    scheduler = Scheduler()
    caller = Caller(scheduler, DoublingModel())
    yield caller
    caller.model.may_run.set()
    scheduler.close()


def test_a_job_gets_its_result(caller: Caller) -> None:
    caller.submit("a", [1, 2])
    result = caller.result("a")
    assert result.outputs["y"].tolist() == [[2], [4]]
    assert result.run_batch_size == 2
    assert result.compute_ns > 0
    assert result.queue_ns >= 0


def test_jobs_that_wait_share_a_run_and_each_gets_its_own_items(caller: Caller) -> None:
    caller.hold_a_run()
    caller.submit("a", [1])
    caller.submit("b", [2, 3])
    caller.model.may_run.set()
    assert caller.result("a").outputs["y"].tolist() == [[2]]
    shared = caller.result("b")
    assert shared.outputs["y"].tolist() == [[4], [6]]
    assert shared.run_batch_size == 3
    assert caller.model.entered.get(timeout=TIMEOUT_S) == [1, 2, 3]


def test_of_the_jobs_that_share_a_run_the_first_counts_it(caller: Caller) -> None:
    caller.hold_a_run()
    for name in ("a", "b", "c"):
        caller.submit(name, [1])
    caller.model.may_run.set()
    assert [caller.result(name).executions for name in ("held", "a", "b", "c")] == [1, 1, 0, 0]


def test_a_job_whose_inputs_differ_in_length_runs_alone(caller: Caller) -> None:
    caller.hold_a_run()
    caller.submit("a", [1])
    caller.submit("b", [2, 3], size=1)
    caller.submit("c", [3])
    caller.model.may_run.set()
    assert caller.result("b").outputs["y"].tolist() == [[4], [6]]
    assert [caller.model.entered.get(timeout=TIMEOUT_S) for _ in range(2)] == [[1, 3], [2, 3]]


def test_jobs_with_other_outputs_run_apart(caller: Caller) -> None:
    caller.hold_a_run()
    caller.submit("a", [1])
    caller.submit("b", [2], outputs=("y", "layer"))
    caller.submit("c", [3])
    caller.model.may_run.set()
    assert set(caller.result("b").outputs) == {"y", "layer"}
    assert [caller.model.entered.get(timeout=TIMEOUT_S) for _ in range(2)] == [[1, 3], [2]]


def test_a_run_holds_no_more_than_the_batch_size_and_keeps_the_order(caller: Caller) -> None:
    caller.hold_a_run()
    caller.submit("a", [1, 2, 3])
    caller.submit("b", [4, 5])
    caller.submit("c", [6])
    caller.model.may_run.set()
    runs = [caller.model.entered.get(timeout=TIMEOUT_S) for _ in range(2)]
    assert runs == [[1, 2, 3, 6], [4, 5]]


def test_a_long_job_is_run_in_slices_that_let_short_ones_through(caller: Caller) -> None:
    caller.hold_a_run()
    caller.submit("long", range(10))
    caller.submit("short", [77])
    caller.model.may_run.set()
    long = caller.result("long")
    assert long.outputs["y"].ravel().tolist() == [2 * i for i in range(10)]
    assert long.run_batch_size == 4
    runs = [caller.model.entered.get(timeout=TIMEOUT_S) for _ in range(4)]
    assert runs == [[0, 1, 2, 3], [77], [4, 5, 6, 7], [8, 9]]


def test_a_slice_that_fails_fails_its_job_once(caller: Caller) -> None:
    caller.submit("long", [0, 1, 2, 3, float("nan"), 5, 6, 7, 8, 9])
    assert isinstance(caller.error("long"), ExecutionError)
    caller.scheduler.close()
    assert caller.outcomes["long"].empty()


def test_urgent_jobs_go_first_and_patient_ones_last(caller: Caller) -> None:
    caller.hold_a_run()
    caller.submit("patient", [3, 3, 3], priority=9)
    caller.submit("normal", [2, 2, 2])
    caller.submit("urgent", [1, 1, 1], priority=1)
    caller.model.may_run.set()
    runs = [caller.model.entered.get(timeout=TIMEOUT_S) for _ in range(3)]
    assert runs == [[1, 1, 1], [2, 2, 2], [3, 3, 3]]


def test_a_job_waits_for_companions_up_to_the_delay() -> None:
    limits = BatchingLimits(max_batch_size=2, max_queue_size=3, max_queue_delay_us=10_000_000)
    caller = Caller(Scheduler(), DoublingModel(limits))
    caller.submit("first", [1])
    caller.submit("second", [2])  # the batch is full: nobody waits for the ten seconds to pass
    assert caller.result("first").run_batch_size == 2
    caller.submit("alone", [3])
    caller.scheduler.close()  # neither does the end
    assert caller.result("alone").outputs["y"].tolist() == [[6]]


def test_instances_run_batches_at_once() -> None:
    scheduler = Scheduler(instances=2)
    caller = Caller(scheduler, DoublingModel(BatchingLimits(max_batch_size=1)))
    caller.model.may_run.clear()
    caller.submit("a", [1])
    caller.submit("b", [2])
    entered = [caller.model.entered.get(timeout=TIMEOUT_S) for _ in range(2)]  # neither has ended
    caller.model.may_run.set()
    assert sorted(entered) == [[1], [2]]
    scheduler.close()


@pytest.mark.parametrize(
    ("cpus", "threads", "provider", "expected"),
    [
        (4, 1, "CPUExecutionProvider", 4),
        (4, 4, "CPUExecutionProvider", 1),
        (2, 4, "CPUExecutionProvider", 1),
        (4, 1, "CUDAExecutionProvider", 1),
    ],
)
def test_a_model_has_as_many_instances_as_its_threads_leave_cpus_for(
    cpus: int, threads: int, provider: str, expected: int
) -> None:
    scheduler = Scheduler(instances=0, cpus=cpus)
    model = DoublingModel(BatchingLimits(max_batch_size=1, max_queue_size=9))
    model.threads, model.provider = threads, provider
    caller = Caller(scheduler, model)
    caller.model.may_run.clear()
    for i in range(expected + 1):
        caller.submit(str(i), [i])
    for _ in range(expected):
        caller.model.entered.get(timeout=TIMEOUT_S)
    assert caller.model.entered.empty()
    caller.model.may_run.set()
    scheduler.close()


def test_a_busy_model_does_not_hold_up_another(caller: Caller) -> None:
    caller.hold_a_run()
    other = Caller(caller.scheduler, DoublingModel())
    other.submit("a", [1])
    assert other.result("a").outputs["y"].tolist() == [[2]]


def test_a_model_without_a_batch_axis_runs_jobs_one_by_one() -> None:
    scheduler = Scheduler()
    caller = Caller(scheduler, DoublingModel(batches=False))
    caller.hold_a_run()
    caller.submit("a", [1])
    caller.submit("b", [2])
    caller.model.may_run.set()
    scheduler.close()
    assert [caller.model.entered.get(timeout=TIMEOUT_S) for _ in range(2)] == [[1], [2]]


def test_a_full_queue_refuses_at_once(caller: Caller) -> None:
    caller.hold_a_run()
    for name in "abc":
        caller.submit(name, [1])
    with pytest.raises(OverloadedError, match="3 requests already wait for this model; try again later"):
        caller.submit("d", [1])


def test_an_abandoned_job_never_runs(caller: Caller) -> None:
    caller.hold_a_run()
    late = DeadlineExceededError("too late")
    caller.submit("late", [7], abandoned=late)
    caller.submit("wanted", [8])
    caller.model.may_run.set()
    assert caller.error("late") is late
    assert caller.result("wanted").outputs["y"].tolist() == [[16]]
    assert caller.model.entered.get(timeout=TIMEOUT_S) == [8]


def test_a_job_that_fails_a_run_doesn_t_fail_its_companions(caller: Caller) -> None:
    caller.hold_a_run()
    caller.submit("bad", [float("nan")])
    caller.submit("good", [1])
    caller.model.may_run.set()
    assert isinstance(caller.error("bad"), ExecutionError)
    assert caller.result("good").outputs["y"].tolist() == [[2]]


def test_a_fault_in_a_run_fails_the_job_and_the_lane_goes_on(caller: Caller) -> None:
    caller.submit("fault", [float("inf")])
    error = caller.error("fault")
    assert type(error) is InternalError
    assert str(error) == "the run failed unexpectedly"
    caller.submit("next", [1])
    assert caller.result("next").outputs["y"].tolist() == [[2]]


def test_closing_finishes_what_is_queued_and_refuses_the_rest(caller: Caller) -> None:
    caller.hold_a_run()
    caller.submit("queued", [1])
    caller.model.may_run.set()
    caller.scheduler.close()
    assert caller.result("queued").outputs["y"].tolist() == [[2]]
    with pytest.raises(DrainingError):
        caller.submit("late", [1])
