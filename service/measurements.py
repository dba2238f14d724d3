"""Reads the metrics of this process off its parts, and answers for them when the processes are asked."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from itertools import product

from prometheus_client import ProcessCollector

from service.api.call_counts import CallCounts
from service.api.dispatch import Dispatcher
from service.lane import Lane
from service.metrics import METRICS, Kind, Labels, Samples, Value, histogram_value, merged, packed
from service.peers import COUNTED, PRESENT, Peers
from service.repository import Repository, ServedModel, State
from service.scheduler import Scheduler
from service.statistics import CHANGES
from service.versions import version_of

_NAME = "featurelens"
_PROCESS = ProcessCollector(registry=None)

_Sample = tuple[str, Labels, Value]


def answer_for(
    peers: Peers, calls: CallCounts, dispatcher: Dispatcher, repository: Repository, scheduler: Scheduler
) -> None:
    """Answer the peers' questions for metrics; go on counting where the process before this one ended."""
    inherited = peers.inherited.get(COUNTED, {})

    def counted() -> Samples:
        return {
            **calls.samples(dispatcher.admitted),
            **_gathered([*_counted(repository, scheduler), *_changes(repository), *_process(counted=True)]),
        }

    peers.answer(COUNTED, lambda _: packed(merged([inherited, packed(counted())])))
    peers.answer(
        PRESENT, lambda _: packed(_gathered([*_present(repository, scheduler), *_process(counted=False)]))
    )


def _gathered(found: Iterable[_Sample]) -> Samples:
    samples: Samples = {}
    for name, labels, value in found:
        samples.setdefault(name, {})[labels] = value
    return samples


def _counted(repository: Repository, scheduler: Scheduler) -> Iterator[_Sample]:
    for served in _served(repository):
        labels = (served.name, served.version)
        taps = served.model.tap_counts
        yield "featurelens_tap_session_hits_total", labels, [taps.hits]
        yield "featurelens_tap_session_misses_total", labels, [taps.misses]
        yield "featurelens_tap_session_evictions_total", labels, [taps.evictions]
        if lane := scheduler.lane(served.model):  # else it has done nothing, and has no histograms yet
            counts, total_ns = served.statistics.queue_times()
            yield "featurelens_queue_seconds", labels, histogram_value(counts, total_ns / 1e9)
            yield "featurelens_run_batch_size", labels, histogram_value(*lane.run_sizes.counts())


def _changes(repository: Repository) -> Iterator[_Sample]:
    totals = repository.changes.totals()
    models = {entry.name for entry in repository.entries()} | {model for model, _ in totals}
    for labels in product(sorted(models), CHANGES):
        yield "featurelens_model_changes_total", labels, [totals.get(labels, 0)]


def _present(repository: Repository, scheduler: Scheduler) -> Iterator[_Sample]:
    yield "featurelens_build_info", (version_of(_NAME) or "unknown", platform.python_version()), [1]
    if scheduler.cache_bytes is not None:
        yield "featurelens_response_cache_bytes", (), [scheduler.cache_bytes]
    for entry in repository.entries():
        for state in State:
            yield "featurelens_model_state", (entry.name, entry.version, state.value), [entry.state is state]
        refused = entry.state is State.READY and entry.reason != ""
        yield "featurelens_model_change_refused", (entry.name, entry.version), [refused]
    for served in _served(repository):
        labels = (served.name, served.version)
        lane: Lane | None = scheduler.lane(served.model)
        yield "nv_inference_pending_request_count", labels, [lane.queued if lane else 0]
        taps = served.model.tap_counts
        yield "featurelens_tap_sessions", labels, [taps.live]
        yield "featurelens_tap_session_bytes", labels, [taps.bytes]
        yield "featurelens_model_provider_info", (*labels, served.model.provider), [1]


def _process(*, counted: bool) -> Iterator[_Sample]:
    for family in _PROCESS.collect():
        for sample in family.samples:
            if (METRICS[sample.name].kind is Kind.COUNTER) is counted:
                yield sample.name, (), [sample.value]


def _served(repository: Repository) -> list[ServedModel]:
    return [entry.served for entry in repository.entries() if entry.served is not None]
