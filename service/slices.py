"""Runs a long job as several short ones, which take turns with the jobs of others."""

from __future__ import annotations

from functools import partial
from threading import Lock

import numpy as np
import structlog
from structlog.typing import FilteringBoundLogger

from service.errors import CancelledError, InternalError, ServiceError
from service.job import Arrays, Job, Result

_log: FilteringBoundLogger = structlog.get_logger()


def sliced(job: Job, size: int) -> Job:
    """Return the first slice of a job, of `size` items; each slice makes the one that follows it.

    The job is done with the last slice, or with the first that fails.
    """
    return _Slices(job, size).starting_at(0)


class _Slices:
    """The slices of a job, and their results until all are there."""

    def __init__(self, job: Job, size: int) -> None:
        self._job = job
        self._size = size
        self._missing = job.size
        self._results: dict[int, Result] = {}
        self._failed = False
        self._lock = Lock()

    def starting_at(self, start: int) -> Job:
        job = self._job
        stop = min(start + self._size, job.size)
        part = Job(
            job.model,
            {name: feed[start:stop] for name, feed in job.feeds.items()},
            job.outputs,
            stop - start,
            partial(self._add, start, stop - start),
            self._abandoned,
            job.priority,
            job.run_key,
        )
        part.queued_ns = job.queued_ns
        part.following = partial(self.starting_at, stop) if stop < job.size else None
        return part

    def _abandoned(self) -> ServiceError | None:
        return CancelledError("another slice has failed") if self._failed else self._job.abandoned()

    def _add(self, start: int, size: int, outcome: Result | ServiceError) -> None:
        with self._lock:
            if self._failed:
                return
            if isinstance(outcome, ServiceError):
                self._failed = True
            else:
                self._results[start] = outcome
                self._missing -= size
        if isinstance(outcome, ServiceError):
            self._job.done(outcome)
        elif not self._missing:
            self._job.done(self._whole())

    def _whole(self) -> Result | ServiceError:
        results = [self._results[start] for start in sorted(self._results)]
        try:
            outputs = {} if self._job.each_alone else self._joined()
        except Exception:  # noqa: BLE001 - whatever it is, the job has to end
            _log.exception("unexpected error in joining slices")
            return InternalError("the parts of the answer can't be joined")
        return Result(
            outputs,
            results[0].queue_ns,
            sum(result.compute_ns for result in results),
            max(result.run_batch_size for result in results),
            sum(result.executions for result in results),
            items=tuple(result.outputs for result in results) if self._job.each_alone else (),
        )

    def _joined(self) -> Arrays:
        """Join the slices' outputs along axis 0.

        Raises:
            ValueError: one hasn't an item of its slice in each row.
        """
        parts = sorted(self._results.items())
        for start, result in parts:
            items = min(self._size, self._job.size - start)
            for name, array in result.outputs.items():
                if array.shape[:1] != (items,):
                    raise ValueError(f"{name} has shape {array.shape} for {items} items")
        return {name: np.concatenate([r.outputs[name] for _, r in parts]) for name in parts[0][1].outputs}
