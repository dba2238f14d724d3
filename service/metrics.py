"""Every metric of the server, once; and how the numbers of several processes become one.

Names and labels that other servers' dashboards know are kept: `nv_inference_*` are Triton's, `grpc_server_*`
those of go-grpc-prometheus, `process_*` those of all Prometheus clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import add
from typing import TypeAlias

from service.channel import JSON

Labels: TypeAlias = tuple[str, ...]
Value: TypeAlias = list[float]
"""One number; of a histogram how many values each bucket holds, then their sum."""
Samples: TypeAlias = dict[str, dict[Labels, Value]]
"""The numbers of each metric by the values of its labels."""


class Kind(Enum):
    """What a metric's numbers mean, as Prometheus calls it."""

    COUNTER = "counter"
    UNTYPED = "untyped"
    """Counts up, under a name that doesn't end in _total."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        join: makes one number of those of two processes.
        bounds: of a histogram's buckets.
    """

    name: str
    kind: Kind
    labels: Labels
    meaning: str
    join: Callable[[float, float], float] = add
    bounds: tuple[float, ...] = ()


BOUNDS_NS = (
    *(round(factor * 10**exponent) for exponent in range(4, 10) for factor in (1, 2.5, 5)),
    10**10,
)
"""From 10 us to 10 s."""
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

_SECONDS = tuple(bound / 1e9 for bound in BOUNDS_NS)
_METHOD = ("grpc_type", "grpc_service", "grpc_method")
MODEL = ("model", "version")

_ALL = (
    Metric(
        "grpc_server_started_total", Kind.COUNTER, _METHOD, "Calls that have begun; a stream is one call."
    ),
    Metric("grpc_server_handled_total", Kind.COUNTER, (*_METHOD, "grpc_code"), "Calls that have ended."),
    Metric("grpc_server_msg_received_total", Kind.COUNTER, _METHOD, "Messages that were received."),
    Metric("grpc_server_msg_sent_total", Kind.COUNTER, _METHOD, "Messages that were sent."),
    Metric(
        "grpc_server_handling_seconds",
        Kind.HISTOGRAM,
        _METHOD,
        "From the arrival of a call to its end.",
        bounds=_SECONDS,
    ),
    Metric(
        "featurelens_stream_message_seconds",
        Kind.HISTOGRAM,
        _METHOD,
        "From the arrival of a message of a stream to its answer.",
        bounds=_SECONDS,
    ),
    Metric("featurelens_refusals_total", Kind.COUNTER, ("reason",), "Requests that were refused."),
    Metric("nv_inference_request_success", Kind.UNTYPED, MODEL, "Requests that were answered."),
    Metric("nv_inference_request_failure", Kind.UNTYPED, (*MODEL, "reason"), "Requests that failed."),
    Metric("nv_inference_count", Kind.UNTYPED, MODEL, "Items of all requests that were answered."),
    Metric("nv_inference_exec_count", Kind.UNTYPED, MODEL, "Runs for requests that were answered."),
    Metric(
        "nv_inference_request_duration_us",
        Kind.UNTYPED,
        MODEL,
        "Microseconds from the arrival of requests to their answers.",
    ),
    Metric("nv_inference_queue_duration_us", Kind.UNTYPED, MODEL, "Microseconds of waiting for a run."),
    Metric(
        "nv_inference_compute_input_duration_us",
        Kind.UNTYPED,
        MODEL,
        "Microseconds of making arrays of requests.",
    ),
    Metric("nv_inference_compute_infer_duration_us", Kind.UNTYPED, MODEL, "Microseconds of runs."),
    Metric(
        "nv_inference_compute_output_duration_us",
        Kind.UNTYPED,
        MODEL,
        "Microseconds of making answers of arrays.",
    ),
    Metric(
        "nv_cache_num_hits_per_model",
        Kind.UNTYPED,
        MODEL,
        "Answered requests that the response cache had the answer of; they are not among the runs.",
    ),
    Metric(
        "nv_cache_num_misses_per_model",
        Kind.UNTYPED,
        MODEL,
        "Answered requests that the response cache was asked for and were run.",
    ),
    Metric(
        "nv_cache_hit_duration_per_model", Kind.UNTYPED, MODEL, "Microseconds of looking up what was there."
    ),
    Metric(
        "nv_cache_miss_duration_per_model",
        Kind.UNTYPED,
        MODEL,
        "Microseconds of looking up what wasn't there, and of keeping it.",
    ),
    Metric(
        "featurelens_response_cache_bytes",
        Kind.GAUGE,
        (),
        "Memory of the answers that are held; none without a cache.",
    ),
    Metric("nv_inference_pending_request_count", Kind.GAUGE, MODEL, "Requests that wait for a run."),
    Metric(
        "featurelens_run_batch_size",
        Kind.HISTOGRAM,
        MODEL,
        "Items of a run, those of all requests that shared it.",
        bounds=BATCH_SIZES,
    ),
    Metric(
        "featurelens_queue_seconds",
        Kind.HISTOGRAM,
        MODEL,
        "How long a request that was run and answered waited for its run.",
        bounds=_SECONDS,
    ),
    Metric("featurelens_tap_sessions", Kind.GAUGE, MODEL, "Sessions that are held for sets of layers."),
    Metric("featurelens_tap_session_bytes", Kind.GAUGE, MODEL, "What they hold, by estimate."),
    Metric(
        "featurelens_tap_session_hits_total",
        Kind.COUNTER,
        MODEL,
        "Runs that found the session for their layers.",
    ),
    Metric("featurelens_tap_session_misses_total", Kind.COUNTER, MODEL, "Runs for which it had to be built."),
    Metric(
        "featurelens_tap_session_evictions_total",
        Kind.COUNTER,
        MODEL,
        "Sessions that others displaced.",
    ),
    Metric(
        "featurelens_model_state",
        Kind.GAUGE,
        (*MODEL, "state"),
        "Workers in which a version is in this state: 0 or 1 without `--workers`.",
    ),
    Metric(
        "featurelens_model_changes_total",
        Kind.COUNTER,
        ("model", "change"),
        "Versions and configurations that came, changed or went while serving, by what became of them.",
    ),
    Metric(
        "featurelens_model_change_refused",
        Kind.GAUGE,
        MODEL,
        "Workers in which a version serves on as it was, since a change to its files was refused.",
    ),
    Metric(
        "featurelens_model_provider_info",
        Kind.GAUGE,
        (*MODEL, "provider"),
        "1, for the execution provider that runs a model.",
        join=max,
    ),
    Metric("featurelens_build_info", Kind.GAUGE, ("version", "python"), "1, for what runs.", join=max),
    Metric(
        "featurelens_workers",
        Kind.GAUGE,
        ("state",),
        "Processes that serve the port: those `alive`, and how many are `wanted`.",
    ),
    Metric("featurelens_worker_restarts_total", Kind.COUNTER, (), "Workers that died and were replaced."),
    Metric("process_cpu_seconds_total", Kind.COUNTER, (), "CPU time of all workers, user and system."),
    Metric("process_resident_memory_bytes", Kind.GAUGE, (), "Memory of all workers, shared pages each time."),
    Metric("process_virtual_memory_bytes", Kind.GAUGE, (), "Address space of all workers."),
    Metric("process_open_fds", Kind.GAUGE, (), "Open file descriptors of all workers."),
    Metric("process_max_fds", Kind.GAUGE, (), "File descriptors that one worker may open.", join=min),
    Metric(
        "process_start_time_seconds",
        Kind.GAUGE,
        (),
        "When the oldest worker was started, in seconds since 1970.",
        join=min,
    ),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}


def histogram_value(counts: Sequence[int], total: float) -> Value:
    """Make a sample of what the buckets of a histogram hold and of the sum of the values."""
    return [*counts, total]


def packed(samples: Samples) -> JSON:
    """Make plain data of samples, for `merged` in another process."""
    return {name: [[list(labels), value] for labels, value in v.items()] for name, v in samples.items()}


def merged(parts: Iterable[JSON]) -> Samples:
    """Join what several processes have packed."""
    whole: Samples = {}
    for part in parts:
        for name, values in part.items():
            known = whole.setdefault(name, {})
            for texts, value in values:
                labels = tuple(texts)
                other = known.get(labels)
                known[labels] = value if other is None else list(map(METRICS[name].join, other, value))
    return whole
