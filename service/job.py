"""A job: one request for a run of a model, and the result it gets."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from service.errors import ServiceError
from service.model import Model

Arrays = Mapping[str, np.ndarray[Any, Any]]
RunKey = tuple[object, ...]

DEFAULT_PRIORITY = 0
"""Between 1, the most urgent, and 2 and up, the less urgent: as Triton counts."""


class Result(NamedTuple):
    """What a run gave one job."""

    outputs: Arrays
    """The wanted tensors: axis 0 cut to the job's own items, or whole if it ran alone."""
    queue_ns: int
    compute_ns: int
    run_batch_size: int
    """Items of all jobs that shared the run; of the largest run, if the job was split."""
    executions: int = 1
    """Runs that count as this job's: of jobs that shared a run the first has it."""
    cached: bool = False
    """Whether it was given to an earlier job, and nothing was run."""
    cache_ns: int = 0
    """Looking it up in the response cache, or putting it there; 0: it had nothing to do with the cache."""
    items: tuple[Arrays, ...] = ()
    """In place of the outputs, if each of several items ran alone: what each run gave, in order."""


class Job:
    """One request for a run.

    Attributes:
        model: what runs it.
        feeds: its inputs; items along axis 0.
        outputs: names of the tensors that it wants.
        size: number of items.
        done: called once, on a thread of the scheduler, with what became of it.
        abandoned: tells why nobody waits for the answer any more, if so.
        priority: see DEFAULT_PRIORITY.
        run_key: jobs of one model that agree in it may share a run; None: it runs alone.
        each_alone: whether each of its items is run by itself.
        following: makes the job that is to be queued when this one is taken, if there is one.
        queued_ns: when it was made, on time.perf_counter_ns's clock.
    """

    __slots__ = (
        "abandoned",
        "done",
        "each_alone",
        "feeds",
        "following",
        "model",
        "outputs",
        "priority",
        "queued_ns",
        "run_key",
        "size",
    )

    def __init__(
        self,
        model: Model,
        feeds: Arrays,
        outputs: tuple[str, ...],
        size: int,
        done: Callable[[Result | ServiceError], None],
        abandoned: Callable[[], ServiceError | None],
        priority: int = DEFAULT_PRIORITY,
        run_key: RunKey | None = None,
        *,
        each_alone: bool = False,
    ) -> None:
        self.model = model
        self.feeds = feeds
        self.outputs = outputs
        self.size = size
        self.done = done
        self.abandoned = abandoned
        self.priority = priority
        self.run_key = run_key
        self.each_alone = each_alone
        self.following: Callable[[], Job] | None = None
        self.queued_ns = time.perf_counter_ns()


def run_key(model: Model, feeds: Arrays, outputs: Sequence[str], size: int) -> RunKey | None:
    """Tell what jobs must agree in to share a run: outputs, and shapes and types of the items.

    None if the outputs don't follow the batch, or an input doesn't hold `size` items: no run could be cut
    into this job's part.
    """
    if not model.batches(outputs, feeds):
        return None
    if any(feed.shape[:1] != (size,) for feed in feeds.values()):
        return None
    return tuple(outputs), *((name, feed.dtype.num, feed.shape[1:]) for name, feed in feeds.items())
