"""Gives every model a lane, made when its first job comes, so that a busy model doesn't hold up another."""

from __future__ import annotations

from threading import Lock

from service.errors import DrainingError
from service.job import Job
from service.lane import Lane, LaneLimits
from service.model import Model


class Scheduler:
    """The lanes of all models."""

    def __init__(self, limits: LaneLimits) -> None:
        self._limits = limits
        self._lanes: dict[int, Lane] = {}
        self._lock = Lock()
        self._closed = False

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            OverloadedError: the model's queue is full.
            DrainingError: the scheduler was closed.
        """
        (self._lanes.get(id(job.model)) or self._new_lane(job.model)).submit(job)

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
                self._lanes[id(model)] = Lane(model, self._limits)
            return self._lanes[id(model)]
