"""Counts calls by method and outcome, for the metrics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

from service import errors
from service.api.call import Call, Observe
from service.api.status import status_of
from service.errors import ServiceError
from service.histogram import Histogram
from service.metrics import BOUNDS_NS, Labels, Samples, Value, histogram_value

REFUSALS: Mapping[type[ServiceError], str] = {
    errors.QueueFullError: "queue_full",
    errors.OverloadedError: "too_many_calls",
    errors.LimitExceededError: "limit",
    errors.DrainingError: "draining",
    errors.ModelNotReadyError: "model_not_ready",
    errors.UnauthenticatedError: "unauthenticated",
    errors.PermissionDeniedError: "permission_denied",
}
"""Errors of requests that may be right, for another time, place or caller, or in smaller parts."""

# As go-grpc-prometheus writes them, which dashboards expect.
_OK = "OK"
_CANCELED = "Canceled"
_UNKNOWN = "Unknown"
_UNARY = "unary"
_STREAM = "bidi_stream"


class CallCounts:
    """What became of the calls of each method.

    Of a stream each message is a call of its own, and the stream as a whole is counted too.

    Args:
        unary: names of the methods that take one message.
        streams: names of the others.
        then: is told of every call when it has been counted.
    """

    def __init__(self, unary: Iterable[str], streams: Iterable[str], then: Observe) -> None:
        self._unary = {name: _Outcomes() for name in unary}
        self._streams = {name: _Outcomes() for name in streams}
        self._messages = {name: _Outcomes() for name in self._streams}
        self._calls = {**self._unary, **self._messages}
        self._refusals = Counter(dict.fromkeys(REFUSALS.values(), 0))
        self._lock = Lock()
        self._then = then

    def ended(self, call: Call, error: ServiceError | None, duration_ns: int) -> None:
        """Count a call that has ended."""
        outcomes = self._calls.get(call.method)  # none: its name is the caller's, and may be anything
        if error is not None:
            self._count_refusal(error)
            if outcomes is not None:
                outcomes.failed(_code(error), duration_ns, unadmitted=not call.is_admitted)
        elif outcomes is not None:
            outcomes.durations.add(duration_ns)
        self._then(call, error, duration_ns)

    @contextmanager
    def stream(self, method: str) -> Iterator[None]:
        """Count the block as a stream; it is cancelled where the block is."""
        outcomes = self._streams[method]
        started_ns = time.perf_counter_ns()
        outcomes.begin()
        code = _CANCELED
        try:
            yield
            code = _OK
        except Exception:
            code = _UNKNOWN
            raise
        finally:
            duration_ns = time.perf_counter_ns() - started_ns
            if code == _OK:
                outcomes.durations.add(duration_ns)
            else:
                outcomes.failed(code, duration_ns)

    def samples(self, admitted: Mapping[str, int]) -> Samples:
        """Return the metrics, given how many calls of each method were let in."""
        samples: Samples = {name: {} for name in _NAMES}
        for name, outcomes in self._unary.items():
            labels = _labels(_UNARY, name)
            begun, ended, durations = outcomes.read()
            begun += admitted.get(name, 0)
            _add_calls(samples, labels, begun, ended, durations)
            _add_messages(samples, labels, begun, ended[_OK])
        for name, outcomes in self._streams.items():
            labels = _labels(_STREAM, name)
            _add_calls(samples, labels, *outcomes.read())
            begun, ended, durations = self._messages[name].read()
            _add_messages(samples, labels, begun + admitted.get(name, 0), ended.total() - ended[_CANCELED])
            if any(durations):
                samples["featurelens_stream_message_seconds"][labels] = durations
        with self._lock:
            samples["featurelens_refusals_total"] = {(why,): [n] for why, n in self._refusals.items()}
        return samples

    def _count_refusal(self, error: ServiceError) -> None:
        reason = next((REFUSALS[kind] for kind in type(error).__mro__ if kind in REFUSALS), None)
        if reason is not None:
            with self._lock:
                self._refusals[reason] += 1


_NAMES = (
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds",
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "featurelens_stream_message_seconds",
)


class _Outcomes:
    """What became of the calls of one method. Answers are counted in `durations` alone."""

    def __init__(self) -> None:
        self.durations = Histogram(BOUNDS_NS)
        self._begun = 0
        self._failed: Counter[str] = Counter()
        self._lock = Lock()

    def begin(self) -> None:
        """Count a call that begins here."""
        with self._lock:
            self._begun += 1

    def failed(self, code: str, duration_ns: int, *, unadmitted: bool = False) -> None:
        """Count a call that failed, and one that was not let in as begun too."""
        with self._lock:
            self._begun += unadmitted
            self._failed[code] += 1
            self.durations.add(duration_ns)

    def read(self) -> tuple[int, Counter[str], Value]:
        """Return how many began here, how many ended with each code, and the durations."""
        with self._lock:
            counts, duration_ns = self.durations.counts()
            ended = Counter({_OK: sum(counts) - self._failed.total(), **self._failed})
            return self._begun, ended, histogram_value(counts, duration_ns / 1e9)


def _add_calls(samples: Samples, labels: Labels, begun: int, ended: Counter[str], durations: Value) -> None:
    samples["grpc_server_started_total"][labels] = [begun]
    samples["grpc_server_handled_total"].update({(*labels, code): [n] for code, n in ended.items()})
    if any(durations):
        samples["grpc_server_handling_seconds"][labels] = durations


def _add_messages(samples: Samples, labels: Labels, received: int, sent: int) -> None:
    samples["grpc_server_msg_received_total"][labels] = [received]
    samples["grpc_server_msg_sent_total"][labels] = [sent]


def _labels(kind: str, method: str) -> Labels:
    service, _, name = method.lstrip("/").partition("/")
    return kind, service, name


def _code(error: ServiceError) -> str:
    if isinstance(error, errors.CancelledError):
        return _CANCELED
    return status_of(error).name.title().replace("_", "")
