"""Traces calls: chooses which, and has their spans sent in batches.

A call that isn't traced costs the choice alone. Whether one is, its caller's span decides, if it has one.
"""

from __future__ import annotations

import os
from random import random
from threading import Timer

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import format_trace_id

from service.api.call import Call
from service.api.tracing.context import callers_span
from service.api.tracing.exporter import CallExporter
from service.api.tracing.spans import CallSpan
from service.errors import ServiceError
from service.versions import version_of

_NAME = "featurelens"
_MOST_FLUSH_S = 3.0
"""How long the end of the server may wait for the collector."""
_PROBES = frozenset(f"/inference.GRPCInferenceService/Server{state}" for state in ("Live", "Ready"))


class Tracer:
    """Makes spans of calls and sends them.

    The OTEL_* variables of the OTLP exporter, of batches and of the resource have the meaning that
    OpenTelemetry gives them.

    Args:
        endpoint: URL of the collector, which speaks OTLP over gRPC.
        sample_ratio: share of the calls without a caller's span that are traced.
    """

    def __init__(self, endpoint: str, sample_ratio: float) -> None:
        self._sample_ratio = sample_ratio
        self._resource = _resource()
        self._exporter = CallExporter(endpoint)
        self._batches = BatchSpanProcessor(self._exporter)

    def observe(self, call: Call, error: ServiceError | None, duration_ns: int) -> None:
        """Make the span of a call that has ended, if it is traced, and tell it its trace."""
        caller = callers_span(call.metadata)
        is_sampled = random() < self._sample_ratio if caller is None else caller.is_sampled  # noqa: S311 - no secret
        if is_sampled and call.method not in _PROBES:
            span = CallSpan(call, error, duration_ns, caller, self._resource)
            call.trace_id = format_trace_id(span.own.trace_id)
            self._batches.on_end(span)

    def close(self) -> None:
        """Send what hasn't been sent yet, within a few seconds."""
        alarm = Timer(_MOST_FLUSH_S, self._exporter.give_up)
        alarm.daemon = True
        alarm.start()
        self._batches.shutdown()  # type: ignore[no-untyped-call] # theirs
        alarm.cancel()


def _resource() -> Resource:
    """Describe this process; the OTEL_* variables win."""
    ours = {"service.name": _NAME, "service.version": version_of(_NAME), "process.pid": os.getpid()}
    resource = Resource.create(ours)
    return resource.merge(OTELResourceDetector().detect())
