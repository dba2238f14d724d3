"""Sends spans to a collector; an outage of it is one line in the log, and its end another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import structlog
from opentelemetry.exporter.otlp.proto.grpc.exporter import logger as exporter_logger
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.typing import FilteringBoundLogger

from service.api.tracing.spans import CallSpan

_log: FilteringBoundLogger = structlog.get_logger()


class CallExporter(SpanExporter):
    """Sends spans of calls, each with those of its stages.

    These are made here: on the thread that sends, not on the one that ends the call.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._is_open = True
        self._complaints = _FirstOnly()
        exporter_logger.addFilter(self._complaints)
        self._otlp = OTLPSpanExporter(endpoint)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; if the collector doesn't take it, try again with pauses, for some seconds."""
        result = self._otlp.export(list(_all(spans)))
        if result is SpanExportResult.SUCCESS and self._complaints.came:
            self._complaints.came = False
            _log.info("the collector takes traces again", endpoint=self._endpoint)
        return result

    def shutdown(self) -> None:
        """Close the connection; what is being sent is given up."""
        if self._is_open:
            self._is_open = False
            self._otlp.shutdown()
            exporter_logger.removeFilter(self._complaints)


class _FirstOnly(logging.Filter):
    """Lets the first complaint of an outage pass."""

    came = False

    def filter(self, _record: logging.LogRecord) -> bool:
        """Tell whether to log a complaint."""
        is_first, self.came = not self.came, True
        return is_first


def _all(spans: Sequence[ReadableSpan]) -> Iterator[ReadableSpan]:
    for span in spans:
        if isinstance(span, CallSpan):
            yield from span.with_stages()
