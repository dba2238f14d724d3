"""The lane of one model: its bounded queue, and what gathers batches from it and runs them.

While one batch runs the next gathers, so batching adds no delay. A long job is run in slices that take turns
with the jobs behind it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from threading import Condition, Thread, current_thread

import numpy as np
import structlog
from structlog.typing import FilteringBoundLogger

from service.errors import DrainingError, InternalError, QueueFullError, ServiceError
from service.histogram import Histogram
from service.job import DEFAULT_PRIORITY, Arrays, Job, Result
from service.metrics import BATCH_SIZES
from service.model import Model
from service.slices import sliced

_BRISK_S = 0.005
_LARGE_JOB = 8
"""Items, from which on running a job takes longer than making its answer."""
_IDLE_S = 10.0
"""After how long without a job a thread ends; hundreds of models need not hold one each."""

_log: FilteringBoundLogger = structlog.get_logger()


class Lane:
    """Takes the jobs of one model; ends each exactly once.

    Args:
        model: what runs them, and the limits of its queue.
        instances: how many batches may run at once.

    Attributes:
        run_sizes: items of each run.
    """

    def __init__(self, model: Model, instances: int = 1) -> None:
        self._model = model
        self._limits = model.batching
        self._instances = instances
        self._queues: tuple[deque[Job], ...] = (deque(), deque(), deque())  # most urgent first
        self._queued = 0
        self._changed = Condition()
        self._closed = False
        self._free = instances  # how many batches may be run besides those that are
        self._run_s = 0.0  # how long a run takes, lately
        self._threads: set[Thread] = set()
        self._idle = 0  # how many of the threads wait for a job
        self.run_sizes = Histogram(BATCH_SIZES)

    @property
    def queued(self) -> int:
        """How many jobs wait."""
        return self._queued

    @property
    def is_brisk(self) -> bool:
        """Whether runs are short enough for a transport's thread to do them itself, between two trips."""
        return self._run_s < _BRISK_S and not self._limits.max_queue_delay_us

    def submit(self, job: Job, *, wake: bool = True) -> None:
        """Queue a job; without `wake` the caller calls `run_queued` next.

        Raises:
            QueueFullError: it is.
            DrainingError: the lane was closed.
        """
        if job.each_alone and job.size > 1:
            job = sliced(job, 1)
        elif job.size > self._limits.max_batch_size and job.run_key is not None:
            job = sliced(job, self._limits.max_batch_size)
        with self._changed:
            if self._closed:
                raise DrainingError("the server is shutting down; try another one")
            if self._queued >= self._limits.max_queue_size:
                raise QueueFullError(
                    f"{self._limits.max_queue_size} requests already wait for this model; try again later"
                )
            self._queues[_rank(job)].append(job)
            self._queued += 1
            if wake:
                self._wake()

    def run_queued(self) -> None:
        """Run what is queued on the caller's thread; what others are running already, they go on with."""
        while batch := self._gather(wait_s=0):
            self._run_wanted(batch)

    def close(self) -> None:
        """Refuse new jobs and finish those that are queued; then the threads end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def _wake(self) -> None:
        """See to it that a thread takes what is queued, one that waits or a new one."""
        if self._idle:
            self._changed.notify()
        elif len(self._threads) < self._instances:
            thread = Thread(target=self._serve, name="lane", daemon=True)
            thread.start()
            self._threads.add(thread)

    def _serve(self) -> None:
        while batch := self._gather(wait_s=_IDLE_S):
            self._run_wanted(batch)

    def _gather(self, wait_s: float) -> list[Job]:
        """Wait for a job and take all that may share its run; nothing if none comes.

        Between the lane's threads and others' nothing is left behind: whoever has run a batch gathers again.
        """
        with self._changed:
            if not self._can_run() and not (wait_s and self._wait_for_job(wait_s)):
                return []
            self._free -= 1
            batch = [self._take_first()]
            if batch[0].run_key is not None:
                self._wait_for_companions(batch[0])
                self._take_companions(batch)
            # A transport's thread shares what it runs itself only if runs, not answers, are the work.
            if self._can_run() and (wait_s or batch[0].size >= _LARGE_JOB):
                self._wake()
            return batch

    def _can_run(self) -> bool:
        return self._queued > 0 and self._free > 0

    def _wait_for_job(self, wait_s: float) -> bool:
        """Wait as one of the lane's threads; if nothing comes it is none any more."""
        self._idle += 1
        self._changed.wait_for(lambda: self._closed or self._can_run(), wait_s)
        self._idle -= 1
        if not self._can_run():
            self._threads.discard(current_thread())
        return self._can_run()

    def _take_first(self) -> Job:
        """Take the most urgent job; what follows it, if it is a slice, goes to the end."""
        queue = next(queue for queue in self._queues if queue)
        job = queue.popleft()
        if job.following is None:
            self._queued -= 1
            return job
        try:
            queue.append(job.following())
        except Exception:  # noqa: BLE001 - whatever it is, what is sliced has to end
            _log.exception("unexpected error in slicing a job")
            self._queued -= 1
            _deliver(job, InternalError("the request can't be cut into slices"))
        return job

    def _wait_for_companions(self, first: Job) -> None:
        if not self._limits.max_queue_delay_us:
            return
        room = self._limits.max_batch_size - first.size
        deadline_ns = first.queued_ns + self._limits.max_queue_delay_us * 1000
        while self._queued < room and not self._closed:
            left_ns = deadline_ns - time.perf_counter_ns()
            if left_ns <= 0:
                return
            self._changed.wait(left_ns / 1e9)

    def _take_companions(self, batch: list[Job]) -> None:
        key = batch[0].run_key
        room = self._limits.max_batch_size - batch[0].size
        for queue in self._queues:
            passed = []
            while queue and room > 0:
                job = queue.popleft()
                # A slice that another follows fills a run of its own.
                if job.size <= room and job.run_key == key and job.following is None:
                    batch.append(job)
                    room -= job.size
                    self._queued -= 1
                else:
                    passed.append(job)
            queue.extendleft(reversed(passed))

    def _run_wanted(self, batch: Sequence[Job]) -> None:
        try:
            if wanted := [job for job in batch if _is_wanted(job)]:
                self._run(wanted)
        except Exception:  # noqa: BLE001 - the lane outlives any fault, and each of its jobs ends
            _log.exception("unexpected error in a lane")
            for job in batch:
                _deliver(job, InternalError("the run failed unexpectedly"))
        finally:
            with self._changed:
                self._free += 1

    def _run(self, batch: Sequence[Job]) -> None:
        """Run jobs together; if that fails, each alone, so that one's data can't fail another's."""
        outcomes = self._outcomes(batch)
        for job, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, ServiceError) and len(batch) > 1:
                if _is_wanted(job):  # the run may have taken long
                    self._run([job])
            else:
                _deliver(job, outcome)

    def _outcomes(self, batch: Sequence[Job]) -> Sequence[Result | ServiceError]:
        try:
            return self._results(batch)
        except ServiceError as error:
            return [error] * len(batch)
        except Exception:  # noqa: BLE001 - the lane outlives any fault of a run; the log tells what it was
            _log.exception("unexpected error in a run")
            return [InternalError("the run failed unexpectedly")] * len(batch)

    def _results(self, batch: Sequence[Job]) -> Sequence[Result]:
        started_ns = time.perf_counter_ns()
        outputs = self._model.run(_joined(batch), batch[0].outputs)
        compute_ns = time.perf_counter_ns() - started_ns
        self._run_s += 0.2 * (compute_ns / 1e9 - self._run_s)
        items = sum([job.size for job in batch])
        self.run_sizes.add(items)
        return [
            Result(cut, started_ns - job.queued_ns, compute_ns, items, int(job is batch[0]))
            for job, cut in zip(batch, _cut(outputs, batch, items), strict=True)
        ]


def _rank(job: Job) -> int:
    """Choose the queue: 1 is urgent, 0 and 2 are normal, 3 and up can wait."""
    return 1 if job.priority == DEFAULT_PRIORITY else min(job.priority, 3) - 1


def _is_wanted(job: Job) -> bool:
    """Tell whether somebody waits for a job; if not, end it."""
    if (reason := job.abandoned()) is None:
        return True
    _deliver(job, reason)
    return False


def _deliver(job: Job, outcome: Result | ServiceError) -> None:
    try:
        job.done(outcome)
    except Exception:  # noqa: BLE001 - a fault behind one job must not end the lane of all
        _log.exception("unexpected error at the end of a job")
        with suppress(Exception):  # nothing has to be made of an error: the call ends
            job.done(InternalError("the answer could not be made"))


def _joined(batch: Sequence[Job]) -> Arrays:
    if len(batch) == 1:
        return batch[0].feeds
    return {name: np.concatenate([job.feeds[name] for job in batch]) for name in batch[0].feeds}


def _cut(outputs: Arrays, batch: Sequence[Job], items: int) -> list[Arrays]:
    """Cut every output along axis 0.

    Raises:
        InternalError: one doesn't have the batch there after all: each job has to run alone.
    """
    if len(batch) == 1:
        return [outputs]
    if any(output.shape[:1] != (items,) for output in outputs.values()):
        raise InternalError("the outputs don't follow the batch")
    cuts: list[Arrays] = []
    start = 0
    for job in batch:
        stop = start + job.size
        cuts.append({name: output[start:stop] for name, output in outputs.items()})
        start = stop
    return cuts
