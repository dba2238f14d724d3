"""The access log: a line for each call that ends; under load, of the answered ones, a sample."""

from __future__ import annotations

import logging
import time
from threading import Lock

import structlog
from structlog.typing import FilteringBoundLogger

from service.api.call import Call
from service.api.status import status_of
from service.errors import ServiceError

_log: FilteringBoundLogger = structlog.get_logger()

_OK = "OK"


class AccessLog:
    """Writes the lines.

    A line costs more than a small model's run. So of the calls that are answered only the first `rate` of a
    second have one, and the next line of such a call tells how many had none. Failures always have one.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._is_on = _log.is_enabled_for(logging.INFO)
        self._lock = Lock()
        self._second = 0
        self._written = 0
        self._left_out = 0

    def write(self, call: Call, error: ServiceError | None, duration_ns: int) -> None:
        """Write the line of a call that has ended, if it gets one."""
        if not self._is_on:
            return
        facts = {} if error is not None else self._admit()
        if facts is None:
            return
        if call.tally is not None:
            facts |= call.tally.facts()
        if error is not None:
            facts["error"] = str(error)
        _log.info(
            "call",
            method=call.method,
            code=_OK if error is None else status_of(error).name,
            **call.ids(),
            duration_ms=round(duration_ns / 1e6, 3),
            **facts,
        )

    def _admit(self) -> dict[str, object] | None:
        """Tell what the line of an answered call says of those without one; None if it is such itself."""
        second = int(time.monotonic())
        with self._lock:
            if second != self._second:
                self._second, self._written = second, 0
            if self._written >= self._rate:
                self._left_out += 1
                return None
            self._written += 1
            left_out, self._left_out = self._left_out, 0
        return {"left_out": left_out} if left_out else {}
