"""Structured logs on standard error: readable on a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Literal, TextIO

import structlog
from structlog.typing import Processor

_MOST_LINES_A_SECOND = 20
"""Of libraries; our own are bounded where they are written."""

LogFormat = Literal["auto", "console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


def configure_logs(log_format: LogFormat, log_level: LogLevel, **facts: object) -> None:
    """Write our own records straight to standard error, and those of libraries in the same form.

    Args:
        log_format: For whom.
        log_level: The least severe that are written.
        facts: What every line says.
    """
    stream = _UnfailingStream(sys.stderr)
    before: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        lambda _logger, _method, line: {**line, **facts},
    ]
    render = _readable() if _is_for_people(log_format) else _json()
    level = logging.getLevelNamesMapping()[log_level.upper()]
    structlog.configure(
        processors=[*before, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),  # type: ignore[arg-type] # all it uses is there
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(_Sample())
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.add_logger_name], processors=[remove_meta, *render]
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)


class _Sample(logging.Filter):
    """Passes the first lines of libraries in a second: what a stranger sends may make one for each call."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._passed = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is written."""
        second = int(record.created)
        if second != self._second:
            self._second, self._passed = second, 0
        self._passed += 1
        return self._passed <= _MOST_LINES_A_SECOND


class _UnfailingStream:
    """A stream whose reader may leave, or whose disk may fill up: then lines are lost, and no call fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def _is_for_people(log_format: LogFormat) -> bool:
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def _readable() -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return [renderer]


def _json() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
