"""Gives every model a lane, made when its first job comes, so that a busy model doesn't hold up another."""

from __future__ import annotations

from threading import Lock, local

from service.errors import DrainingError
from service.job import Job
from service.lane import Lane
from service.model import Model


class Scheduler:
    """The lanes of all models."""

    def __init__(self, instances: int = 1) -> None:
        self._instances = instances
        self._lanes: dict[int, Lane] = {}
        self._lock = Lock()
        self._closed = False
        self._thread = _Thread()

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            OverloadedError: the model's queue is full.
            DrainingError: the scheduler was closed.
        """
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
                self._lanes[id(model)] = Lane(model, self._instances)
            return self._lanes[id(model)]


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
