"""Runs jobs on models: queues them, groups those that may share a run, drops those nobody waits for.

Each model has a lane: a bounded queue and one thread. While one batch runs the next gathers, so batching adds
no delay. Results and errors leave through the job's own `done`, on the lane's thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Condition, Lock, Thread

import numpy as np
import structlog

from service.errors import DrainingError, InternalError, OverloadedError, ServiceError
from service.model import Model

_log = structlog.stdlib.get_logger(__name__)

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run gave one job."""

    outputs: Arrays
    """The wanted tensors, axis 0 cut to the job's own items."""
    queue_ns: int
    compute_ns: int
    run_batch_size: int
    """Items of all jobs that shared the run."""
    executions: int = 1
    """Runs that count as this job's: of the jobs that shared a run the first has it."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One request for a run of a model."""

    model: Model
    feeds: Arrays
    outputs: tuple[str, ...]
    size: int
    """Items along axis 0 of every feed."""
    done: Callable[[Result | ServiceError], None]
    """Called once, on a thread of the scheduler."""
    abandoned: Callable[[], ServiceError | None]
    """Tells why nobody waits for the answer any more, if so."""
    queued_ns: int = field(default_factory=time.perf_counter_ns)
    priority: int = 0
    """How urgent the caller says it is; not looked at yet."""
    shareable: bool = True
    """Whether it may share a run where the model allows it."""

    def may_share_a_run_with(self, other: Job) -> bool:
        """Tell whether both want the same outputs from items of the same shape and type."""
        return (
            self.shareable
            and self.outputs == other.outputs
            and self.feeds.keys() == other.feeds.keys()
            and all(
                feed.shape[1:] == other.feeds[name].shape[1:] and feed.dtype == other.feeds[name].dtype
                for name, feed in self.feeds.items()
            )
        )


class Scheduler:
    """The lanes of all models."""

    def __init__(self, max_batch_size: int, max_queue_size: int) -> None:
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._lanes: dict[int, _Lane] = {}
        self._lock = Lock()
        self._closed = False

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            OverloadedError: the model's queue is full.
            DrainingError: the scheduler was closed.
        """
        self._lane_of(job.model).submit(job)

    def close(self) -> None:
        """Refuse new jobs, finish those that are queued, end the threads."""
        with self._lock:
            self._closed = True
            lanes = list(self._lanes.values())
        for lane in lanes:
            lane.close()

    def _lane_of(self, model: Model) -> _Lane:
        with self._lock:
            if self._closed:
                raise DrainingError("the server is shutting down; try another one")
            if (
                lane := self._lanes.get(id(model))
            ) is None:  # the lane keeps the model, so its id stays its own
                lane = self._lanes[id(model)] = _Lane(model, self._max_batch_size, self._max_queue_size)
            return lane


class _Lane:
    """The queue of one model, and the thread that serves it."""

    def __init__(self, model: Model, max_batch_size: int, max_queue_size: int) -> None:
        self._model = model
        self._max_batch_size = max_batch_size
        self._max_queue_size = max_queue_size
        self._queue: deque[Job] = deque()
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._serve, name="lane", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        with self._changed:
            if self._closed:
                raise DrainingError("the server is shutting down; try another one")
            if len(self._queue) >= self._max_queue_size:
                raise OverloadedError(
                    f"{self._max_queue_size} requests already wait for this model; try again later"
                )
            self._queue.append(job)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while batch := self._gather():
            wanted = _drop_abandoned(batch)
            if wanted:
                _run(self._model, wanted)

    def _gather(self) -> list[Job]:
        """Wait for a job and take all that may share its run; nothing once the lane is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return []
            batch = [self._queue.popleft()]
            if batch[0].shareable and self._model.batches(batch[0].outputs):
                self._take_companions(batch)
            return batch

    def _take_companions(self, batch: list[Job]) -> None:
        room = self._max_batch_size - batch[0].size
        left: deque[Job] = deque()
        while self._queue and room > 0:
            job = self._queue.popleft()
            if job.size <= room and job.may_share_a_run_with(batch[0]):
                batch.append(job)
                room -= job.size
            else:
                left.append(job)
        self._queue.extendleft(reversed(left))


def _drop_abandoned(jobs: Sequence[Job]) -> list[Job]:
    wanted = []
    for job in jobs:
        if (reason := job.abandoned()) is None:
            wanted.append(job)
        else:
            job.done(reason)
    return wanted


def _run(model: Model, jobs: Sequence[Job]) -> None:
    """Run jobs together; if that fails, each alone, so that one job's data can't fail another's."""
    outcomes = _outcomes(model, jobs)
    for job, outcome in zip(jobs, outcomes, strict=True):
        if isinstance(outcome, ServiceError) and len(jobs) > 1:
            _run(model, [job])
        else:
            job.done(outcome)


def _outcomes(model: Model, jobs: Sequence[Job]) -> Sequence[Result | ServiceError]:
    started_ns = time.perf_counter_ns()
    try:
        outputs = model.run(_joined(jobs), jobs[0].outputs)
    except ServiceError as error:
        return [error] * len(jobs)
    except Exception:  # noqa: BLE001 - the lane outlives any fault of a run; the caller gets an error, the log the rest
        _log.exception("unexpected error in a run")
        return [InternalError("the run failed unexpectedly")] * len(jobs)
    compute_ns = time.perf_counter_ns() - started_ns
    items = sum(job.size for job in jobs)
    if (parts := _split(outputs, [job.size for job in jobs])) is None:
        return [InternalError("the outputs don't follow the batch")] * len(jobs)
    return [
        Result(part, started_ns - job.queued_ns, compute_ns, items, executions=int(job is jobs[0]))
        for job, part in zip(jobs, parts, strict=True)
    ]


def _joined(jobs: Sequence[Job]) -> Arrays:
    if len(jobs) == 1:
        return jobs[0].feeds
    return {name: np.concatenate([job.feeds[name] for job in jobs]) for name in jobs[0].feeds}


def _split(outputs: Arrays, sizes: Sequence[int]) -> list[Arrays] | None:
    """Cut every output along axis 0; None where one doesn't have the batch there."""
    if len(sizes) == 1:
        return [outputs]
    if any(output.ndim == 0 or len(output) != sum(sizes) for output in outputs.values()):
        return None
    bounds = np.cumsum(sizes)[:-1]
    cut = {name: np.split(output, bounds) for name, output in outputs.items()}
    return [{name: parts[i] for name, parts in cut.items()} for i in range(len(sizes))]
