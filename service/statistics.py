"""What a model has done since it was loaded: counts and durations, thread-safe."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import add
from threading import Lock
from typing import Literal, NamedTuple, get_args

from service.histogram import Histogram
from service.metrics import BOUNDS_NS

Change = Literal["loaded", "refused", "removed", "config_applied", "config_refused", "quarantined"]
"""What became of a version, or of a config.toml, that came, changed or went."""
CHANGES: tuple[Change, ...] = get_args(Change)

_MOST_RECENT = 256

Fault = Literal["rejected", "canceled", "broken"]


class Inference(NamedTuple):
    """One request that was answered, and where its time went, in nanoseconds."""

    samples: int
    """Items along axis 0; 1 for a model without a batch."""
    executions: int
    """Runs that are counted for this request and for no other that shared them."""
    input_ns: int
    """Making arrays of the request."""
    queue_ns: int
    infer_ns: int
    output_ns: int
    """Making the answer of the arrays."""
    cached: bool = False
    """Whether the response cache had the answer, so that nothing was run."""
    cache_ns: int = 0
    """Using the response cache; 0 without it."""


@dataclass(slots=True)
class Totals:
    """Sums over requests; durations in nanoseconds, of the answered ones but for `failure_ns`."""

    successes: int = 0
    failures: int = 0
    rejected: int = 0
    """Of the failures those for lack of time or room, or because the server was draining."""
    canceled: int = 0
    broken: int = 0
    """Of the failures those of runs."""
    samples: int = 0
    executions: int = 0
    last_ms: int = 0
    """When the last answer was given, in milliseconds since 1970; 0 for never."""
    success_ns: int = 0
    failure_ns: int = 0
    input_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    cache_hits: int = 0
    """Answered requests that were not run; neither they nor their time count in samples and the others."""
    cache_hit_ns: int = 0
    cache_misses: int = 0
    cache_miss_ns: int = 0

    def add_runs(self, runs: Iterable[Inference]) -> None:
        """Add requests that were run."""
        samples, executions, input_ns, queue_ns, infer_ns, output_ns, _, cache_ns = zip(*runs, strict=True)
        self.samples += sum(samples)
        self.executions += sum(executions)
        self.input_ns += sum(input_ns)
        self.queue_ns += sum(queue_ns)
        self.infer_ns += sum(infer_ns)
        self.output_ns += sum(output_ns)
        self.cache_misses += sum(took > 0 for took in cache_ns)
        self.cache_miss_ns += sum(cache_ns)


def combined(parts: Iterable[Totals]) -> Totals:
    """Add up what several processes have counted."""
    whole = Totals()
    for part in parts:
        for name in Totals.__slots__:
            join = max if name == "last_ms" else add
            setattr(whole, name, join(getattr(whole, name), getattr(part, name)))
    return whole


class Statistics:
    """The totals of one version of a model."""

    def __init__(self) -> None:
        self._queue_ns = Histogram(BOUNDS_NS)
        self._lock = Lock()
        self._totals = Totals()
        self._recent: deque[tuple[Inference, int, int]] = deque()  # not in the totals yet

    def succeeded(self, inference: Inference, duration_ns: int) -> None:
        """Count a request that was answered, and how long it took from its arrival on."""
        # Adding up nine sums a call costs more than keeping what is to be added.
        self._recent.append((inference, duration_ns, time.time_ns()))
        if len(self._recent) >= _MOST_RECENT:
            with self._lock:
                self._add_recent()

    def failed(self, duration_ns: int, fault: Fault | None = None) -> None:
        """Count a request that failed, and why if the totals tell such failures apart."""
        with self._lock:
            self._totals.failures += 1
            if fault is not None:
                setattr(self._totals, fault, getattr(self._totals, fault) + 1)
            self._totals.failure_ns += duration_ns

    def inherit(self, totals: Totals) -> None:
        """Add what another process has counted that isn't there any more."""
        with self._lock:
            self._totals = combined((self._totals, totals))

    def totals(self) -> Totals:
        """Return a copy of the sums so far."""
        with self._lock:
            self._add_recent()
            return replace(self._totals)

    def queue_times(self) -> tuple[list[int], int]:
        """Return how many answered requests waited how long, by BOUNDS_NS, and the sum in nanoseconds."""
        with self._lock:
            self._add_recent()
            return self._queue_ns.counts()

    def _add_recent(self) -> None:
        recent = [self._recent.popleft() for _ in range(len(self._recent))]
        if not recent:
            return
        inferences, durations, ends = zip(*recent, strict=True)
        totals = self._totals
        totals.successes += len(recent)
        totals.last_ms = max(totals.last_ms, max(ends) // 1_000_000)
        totals.success_ns += sum(durations)
        hits = [inference for inference in inferences if inference.cached]
        totals.cache_hits += len(hits)
        totals.cache_hit_ns += sum(inference.cache_ns for inference in hits)
        if runs := [inference for inference in inferences if not inference.cached]:
            totals.add_runs(runs)
            self._queue_ns.extend([inference.queue_ns for inference in runs])


class ChangeCounts:
    """How often models changed while they were served, by model and what became of it; thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[tuple[str, Change]] = Counter()

    def add(self, model: str, change: Change) -> None:
        """Count a change."""
        with self._lock:
            self._counts[model, change] += 1

    def totals(self) -> dict[tuple[str, Change], int]:
        """Return a copy of the counts so far."""
        with self._lock:
            return dict(self._counts)
