"""The lane of one model: its bounded queue, and the threads that gather batches from it and run them.

While one batch runs the next gathers, so batching adds no delay. A long job is run in slices that take turns
with the jobs behind it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from threading import Condition, Lock, Thread
from typing import Any, NamedTuple

import numpy as np
import structlog
from structlog.typing import FilteringBoundLogger

from service.errors import DrainingError, InternalError, OverloadedError, ServiceError
from service.job import DEFAULT_PRIORITY, Arrays, Job, Result
from service.model import Model

_BRISK_S = 0.005

_log: FilteringBoundLogger = structlog.get_logger()


class _Slice(NamedTuple):
    """Items [start, stop) of a job, for one run."""

    job: Job
    start: int
    stop: int
    parts: _Parts | None
    """Where the slices of a split job meet; None: the slice is the whole job."""

    @property
    def size(self) -> int:
        return self.stop - self.start


class _Parts:
    """The results of a split job's slices, until all are there or one has failed."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._missing = job.size
        self._results: dict[int, Result] = {}
        self._lock = Lock()
        self.failed = False

    def add(self, part: _Slice, outcome: Result | ServiceError) -> None:
        """Take a slice's outcome; end the job with the last one, or with the first error."""
        with self._lock:
            if self.failed:
                return
            if isinstance(outcome, ServiceError):
                self.failed = True
            else:
                self._results[part.start] = outcome
                self._missing -= part.size
        if isinstance(outcome, ServiceError):
            self._job.done(outcome)
        elif not self._missing:
            self._job.done(self._whole())

    def _whole(self) -> Result:
        results = [self._results[start] for start in sorted(self._results)]
        return Result(
            {name: np.concatenate([r.outputs[name] for r in results]) for name in results[0].outputs},
            results[0].queue_ns,
            sum(result.compute_ns for result in results),
            max(result.run_batch_size for result in results),
            sum(result.executions for result in results),
        )


class Lane:
    """Takes the jobs of one model; ends each exactly once.

    Args:
        model: what runs them, and the limits of its queue.
        instances: how many batches may run at once.
    """

    def __init__(self, model: Model, instances: int = 1) -> None:
        self._model = model
        self._limits = model.batching
        self._queues: tuple[deque[_Slice], ...] = (deque(), deque(), deque())  # most urgent first
        self._queued = 0
        self._changed = Condition()
        self._closed = False
        self._free = instances  # how many batches may be run besides those that are
        self._run_s = 0.0  # how long a run takes, lately
        self._threads = [Thread(target=self._serve, name="lane", daemon=True) for _ in range(instances)]
        for thread in self._threads:
            thread.start()

    @property
    def is_brisk(self) -> bool:
        """Whether runs are short enough for a transport's thread to do them itself, between two trips."""
        return self._run_s < _BRISK_S and not self._limits.max_queue_delay_us

    def run_queued(self) -> None:
        """Run what is queued on the caller's thread; what others are running already, they go on with."""
        while batch := self._gather(wait=False):
            self._run_wanted(batch)

    def submit(self, job: Job, *, wake: bool = True) -> None:
        """Queue a job; without `wake` the caller sees to it that it runs.

        Raises:
            OverloadedError: the queue is full.
            DrainingError: the lane was closed.
        """
        splits = job.size > self._limits.max_batch_size and self._model.batches(job.outputs, job.feeds)
        with self._changed:
            if self._closed:
                raise DrainingError("the server is shutting down; try another one")
            if self._queued >= self._limits.max_queue_size:
                raise OverloadedError(
                    f"{self._limits.max_queue_size} requests already wait for this model; try again later"
                )
            self._queues[_rank(job)].append(_Slice(job, 0, job.size, _Parts(job) if splits else None))
            self._queued += 1
            if wake:
                self._changed.notify()

    def close(self, *, wait: bool = True) -> None:
        """Refuse new jobs and finish those that are queued; then the threads end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if wait:
            for thread in self._threads:
                thread.join()

    def _serve(self) -> None:
        while batch := self._gather():
            self._run_wanted(batch)

    def _run_wanted(self, batch: Sequence[_Slice]) -> None:
        if wanted := [part for part in batch if _is_wanted(part)]:
            self._run(wanted)
        with self._changed:
            self._free += 1
            if self._queued or self._closed:
                self._changed.notify_all()

    def _gather(self, *, wait: bool = True) -> list[_Slice]:
        """Wait for a job and take all that may share its run; nothing once the lane is closed and empty."""
        with self._changed:
            while not (self._queued and self._free):
                if not wait or (self._closed and not self._queued):
                    return []
                self._changed.wait()
            self._free -= 1
            batch = [self._take_first()]
            if self._model.batches(batch[0].job.outputs, batch[0].job.feeds):
                self._wait_for_companions(batch[0])
                self._take_companions(batch)
            return batch

    def _take_first(self) -> _Slice:
        """Take the most urgent job, or the next slice of it; the rest of a split job goes to the end."""
        queue = next(queue for queue in self._queues if queue)
        part = queue.popleft()
        if part.parts is not None and part.size > self._limits.max_batch_size:
            stop = part.start + self._limits.max_batch_size
            queue.append(part._replace(start=stop))
            return part._replace(stop=stop)
        self._queued -= 1
        return part

    def _wait_for_companions(self, first: _Slice) -> None:
        room = self._limits.max_batch_size - first.size
        deadline_ns = first.job.queued_ns + self._limits.max_queue_delay_us * 1000
        while self._queued < room and not self._closed:
            left_ns = deadline_ns - time.perf_counter_ns()
            if left_ns <= 0:
                return
            self._changed.wait(left_ns / 1e9)

    def _take_companions(self, batch: list[_Slice]) -> None:
        key = batch[0].job.run_key
        room = self._limits.max_batch_size - batch[0].size
        for queue in self._queues:
            passed = []
            while queue and room > 0:
                part = queue.popleft()
                if part.size <= room and part.job.run_key == key:
                    batch.append(part)
                    room -= part.size
                    self._queued -= 1
                else:
                    passed.append(part)
            queue.extendleft(reversed(passed))

    def _run(self, batch: Sequence[_Slice]) -> None:
        """Run slices together; if that fails, each alone, so that one job's data can't fail another's."""
        outcomes = self._outcomes(batch)
        for part, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, ServiceError) and len(batch) > 1:
                if _is_wanted(part):  # the run may have taken long
                    self._run([part])
            else:
                _deliver(part, outcome)

    def _outcomes(self, batch: Sequence[_Slice]) -> Sequence[Result | ServiceError]:
        started_ns = time.perf_counter_ns()
        try:
            outputs = self._model.run(_joined(batch), batch[0].job.outputs)
        except ServiceError as error:
            return [error] * len(batch)
        except Exception:  # noqa: BLE001 - the lane outlives any fault of a run; the log tells what it was
            _log.exception("unexpected error in a run")
            return [InternalError("the run failed unexpectedly")] * len(batch)
        compute_ns = time.perf_counter_ns() - started_ns
        self._run_s += 0.2 * (compute_ns / 1e9 - self._run_s)
        items = sum(part.size for part in batch)
        if (cuts := _cut(outputs, batch, items)) is None:
            return [InternalError("the outputs don't follow the batch")] * len(batch)
        return [
            Result(cut, started_ns - part.job.queued_ns, compute_ns, items, executions=int(part is batch[0]))
            for part, cut in zip(batch, cuts, strict=True)
        ]


def _rank(job: Job) -> int:
    """Choose the queue: 1 is urgent, 0 and 2 are normal, 3 and up can wait."""
    return 1 if job.priority == DEFAULT_PRIORITY else min(job.priority, 3) - 1


def _is_wanted(part: _Slice) -> bool:
    """Tell whether somebody waits for a slice; if not, end its job."""
    if part.parts is not None and part.parts.failed:
        return False
    if (reason := part.job.abandoned()) is None:
        return True
    _deliver(part, reason)
    return False


def _deliver(part: _Slice, outcome: Result | ServiceError) -> None:
    try:
        if part.parts is None:
            part.job.done(outcome)
        else:
            part.parts.add(part, outcome)
    except Exception:  # noqa: BLE001 - a fault behind one job must not end the lane of all
        _log.exception("unexpected error at the end of a job")


def _joined(batch: Sequence[_Slice]) -> Arrays:
    if len(batch) > 1:
        return {name: np.concatenate([_feed(part, name) for part in batch]) for name in batch[0].job.feeds}
    part = batch[0]
    return part.job.feeds if part.parts is None else {name: _feed(part, name) for name in part.job.feeds}


def _feed(part: _Slice, name: str) -> np.ndarray[Any, Any]:
    feed = part.job.feeds[name]
    return feed if part.parts is None else feed[part.start : part.stop]


def _cut(outputs: Arrays, batch: Sequence[_Slice], items: int) -> list[Arrays] | None:
    """Cut every output along axis 0; None where one doesn't have the batch there."""
    if len(batch) == 1 and batch[0].parts is None:
        return [outputs]
    if any(output.ndim == 0 or len(output) != items for output in outputs.values()):
        return None
    cuts: list[Arrays] = []
    start = 0
    for part in batch:
        stop = start + part.size
        cuts.append({name: output[start:stop] for name, output in outputs.items()})
        start = stop
    return cuts
