"""Gives every model a lane, made when its first job comes, so that a busy model doesn't hold up another."""

from __future__ import annotations

from threading import Lock, local

from service.cache import ResponseCache
from service.errors import DrainingError
from service.job import Job
from service.lane import Lane
from service.model import Model
from service.providers import CPU


class Scheduler:
    """The lanes of all models.

    Args:
        instances: how many batches of one model may run at once; 0: as many as there are CPUs for.
        cpus: how many there are.
        cache: what answers equal jobs without a run, if anything does.
    """

    def __init__(self, instances: int = 1, cpus: int = 1, cache: ResponseCache | None = None) -> None:
        self._instances = instances
        self._cpus = cpus
        self._cache = cache
        self._lanes: dict[int, Lane] = {}
        self._lock = Lock()
        self._closed = False
        self._thread = _Thread()

    def submit(self, job: Job) -> None:
        """Queue a job, or end it at once with an answer that is held.

        Raises:
            QueueFullError: the model's queue is full.
            DrainingError: the scheduler was closed.
        """
        if self._cache is not None and self._cache.answers(job):
            return
        lane = self._lanes.get(id(job.model)) or self._new_lane(job.model)
        gathered = self._thread.gathered
        if gathered is None or not lane.is_brisk:
            lane.submit(job)
        else:
            lane.submit(job, wake=False)
            gathered.add(lane)

    def trip(self) -> _Trip:
        """Run the jobs that the caller's thread submits in the block at its end, on that thread.

        Saves the hand-over to a lane's thread, which costs more than a short run. Jobs of models with long
        runs go to their lanes all the same.
        """
        return _Trip(self._thread)

    def retire(self, model: Model) -> None:
        """Finish the queued jobs of a model that no call holds any more, and end its lane."""
        with self._lock:
            lane = self._lanes.pop(id(model), None)
        if lane is not None:
            lane.close()

    @property
    def cache_bytes(self) -> int | None:
        """What the answers that are held take; None if none are."""
        return None if self._cache is None else self._cache.size

    def lane(self, model: Model) -> Lane | None:
        """Return a model's lane, if it has had a job."""
        return self._lanes.get(id(model))

    def close(self) -> None:
        """Refuse new jobs, finish those that are queued, end the threads."""
        with self._lock:
            self._closed = True
            lanes = list(self._lanes.values())
        for lane in lanes:
            lane.close()

    def _new_lane(self, model: Model) -> Lane:
        with self._lock:
            if self._closed:
                raise DrainingError("the server is shutting down; try another one")
            # The lane keeps the model, so no other model can get its id.
            if id(model) not in self._lanes:
                self._lanes[id(model)] = Lane(model, self._instances_of(model))
            return self._lanes[id(model)]

    def _instances_of(self, model: Model) -> int:
        if self._instances:
            return self._instances
        return max(1, self._cpus // model.threads) if model.provider == CPU else 1


class _Thread(local):
    """What a thread has in hand; every thread has its own."""

    gathered: set[Lane] | None = None
    """Lanes that it is to run at the end of its trip, if it is on one."""


class _Trip:
    """See Scheduler.trip. A class: it stands on every call's way, and contextlib's generators cost more."""

    __slots__ = ("_thread",)

    def __init__(self, thread: _Thread) -> None:
        self._thread = thread

    def __enter__(self) -> None:
        self._thread.gathered = set()

    def __exit__(self, *_: object) -> None:
        gathered, self._thread.gathered = self._thread.gathered, None
        for lane in gathered or ():
            lane.run_queued()
