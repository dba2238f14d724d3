"""Gathers the metrics of all processes that serve a port, and writes them as Prometheus reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from service.channel import JSON
from service.metrics import METRICS, MODEL, Kind, Labels, Metric, Samples, Value, merged
from service.peers import COUNTED, PRESENT, STATISTICS, Respondents
from service.statistics import Totals, combined

# For each of three questions. Prometheus waits 10 s for all it wants to know.
_TIMEOUT_S = 1.0

_OF_TOTALS: Mapping[str, Callable[[Totals], float]] = {
    "nv_inference_request_success": lambda totals: totals.successes,
    "nv_inference_count": lambda totals: totals.samples,
    "nv_inference_exec_count": lambda totals: totals.executions,
    "nv_inference_request_duration_us": lambda totals: totals.success_ns / 1000,
    "nv_inference_queue_duration_us": lambda totals: totals.queue_ns / 1000,
    "nv_inference_compute_input_duration_us": lambda totals: totals.input_ns / 1000,
    "nv_inference_compute_infer_duration_us": lambda totals: totals.infer_ns / 1000,
    "nv_inference_compute_output_duration_us": lambda totals: totals.output_ns / 1000,
    "nv_cache_num_hits_per_model": lambda totals: totals.cache_hits,
    "nv_cache_num_misses_per_model": lambda totals: totals.cache_misses,
    "nv_cache_hit_duration_per_model": lambda totals: totals.cache_hit_ns / 1000,
    "nv_cache_miss_duration_per_model": lambda totals: totals.cache_miss_ns / 1000,
}
_FAILURES: Mapping[str, Callable[[Totals], int]] = {
    "REJECTED": lambda totals: totals.rejected,
    "CANCELED": lambda totals: totals.canceled,
    "BACKEND": lambda totals: totals.broken,
    "OTHER": lambda totals: totals.failures - totals.rejected - totals.canceled - totals.broken,
}


def registry(respondents: Respondents) -> CollectorRegistry:
    """Make a registry that asks anew whenever it is read."""
    made = CollectorRegistry(support_collectors_without_names=True)
    made.register(_Processes(respondents))
    return made


def gathered(respondents: Respondents) -> Samples:
    """Ask all processes for their metrics and join them.

    What counts up is there even of processes that have ended; the rest is of those that answer.
    """
    present = merged(respondents.ask_all(PRESENT, None, _TIMEOUT_S))
    versions = {labels[:2] for labels in present.get("featurelens_model_state", {})}
    samples = {
        **merged(respondents.ask_all(COUNTED, None, _TIMEOUT_S)),
        **_inferences(respondents.ask_all(STATISTICS, None, _TIMEOUT_S)),
        **present,
        **_workers(respondents),
    }
    return {
        name: {of: v for of, v in values.items() if of[:2] in versions} if is_of_model(name) else values
        for name, values in samples.items()
    }


def is_of_model(name: str) -> bool:
    """Tell whether a metric is of a model's version."""
    return METRICS[name].labels[:2] == MODEL


def _inferences(answers: list[JSON]) -> Samples:
    parts: dict[Labels, list[Totals]] = defaultdict(list)
    for answer in answers:
        for name, version, totals in answer:
            parts[name, version].append(Totals(**totals))
    sums = {labels: combined(found) for labels, found in parts.items()}
    samples: Samples = {
        name: {labels: [read(totals)] for labels, totals in sums.items()} for name, read in _OF_TOTALS.items()
    }
    samples["nv_inference_request_failure"] = {
        (*labels, reason): [read(totals)]
        for labels, totals in sums.items()
        for reason, read in _FAILURES.items()
    }
    return samples


def _workers(respondents: Respondents) -> Samples:
    census = respondents.census()
    return {
        "featurelens_workers": {("alive",): [census.alive], ("wanted",): [census.wanted]},
        "featurelens_worker_restarts_total": {(): [census.restarts]},
    }


class _Processes(Collector):
    def __init__(self, respondents: Respondents) -> None:
        self._respondents = respondents

    def collect(self) -> Iterator[Family]:
        samples = gathered(self._respondents)
        for name, metric in METRICS.items():
            if values := samples.get(name):
                yield _family(metric, values)


def _family(metric: Metric, values: Mapping[Labels, Value]) -> Family:
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        bounds = [*map(floatToGoString, metric.bounds), "+Inf"]
        for labels, (*counts, total) in values.items():
            histogram.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        return histogram
    family = _FAMILIES[metric.kind](metric.name, metric.meaning, labels=metric.labels)
    for labels, (value,) in values.items():
        family.add_metric(labels, value)
    return family


_FAMILIES: Mapping[Kind, type[CounterMetricFamily] | type[GaugeMetricFamily] | type[UnknownMetricFamily]] = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
    # To a counter's name the library appends _total, which Triton's names don't have.
    Kind.UNTYPED: UnknownMetricFamily,
}
