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
        self._is_down = False
        self._complaints = _Complaints()
        exporter_logger.filters.insert(0, self._complaints)
        self._otlp = OTLPSpanExporter(endpoint)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; if the collector doesn't take it, try again with pauses, for some seconds."""
        result = self._otlp.export(list(_all(spans)))
        is_down = result is not SpanExportResult.SUCCESS
        if is_down and not self._is_down:
            reason = self._complaints.last
            _log.warning("the collector takes no traces", endpoint=self._endpoint, reason=reason)
        elif self._is_down and not is_down:
            _log.info("the collector takes traces again", endpoint=self._endpoint)
        self._is_down = is_down
        return result

    def give_up(self) -> None:
        """Close the connection; what is being sent, and what comes later, is lost."""
        if self._is_open:
            self._is_open = False
            self._otlp.shutdown()

    def shutdown(self) -> None:
        """Close the connection, when nothing is being sent any more."""
        self.give_up()
        exporter_logger.removeFilter(self._complaints)


class _Complaints(logging.Filter):
    """Keeps what the library logs, a line for each attempt, out of the log, and the last of it here."""

    last = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Take a record."""
        self.last = record.getMessage()
        return False


def _all(spans: Sequence[ReadableSpan]) -> Iterator[ReadableSpan]:
    for span in spans:
        if isinstance(span, CallSpan):
            yield from span.with_stages()
