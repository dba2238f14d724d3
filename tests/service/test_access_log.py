"""The access log: which calls get a line, and what it says."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.api.access_log import AccessLog
from service.api.call import Call
from service.errors import OverloadedError, ServiceError

Lines = list[MutableMapping[str, Any]]


class SilentCall(Call):
    """A call whose outcome goes nowhere."""

    def _send(self, outcome: bytes | ServiceError) -> None:
        pass


@pytest.fixture
def lines() -> Iterator[Lines]:
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Lets the test set the clock that the log reads."""
    now = [1000.0]
    with monkeypatch.context() as patch:
        patch.setattr("service.api.access_log.time.monotonic", lambda: now[0])
        yield now


def answered(log: AccessLog, count: int) -> None:
    for _ in range(count):
        SilentCall("/a.B/C", 1e9, "r", log.write).succeed(b"")


def test_a_line_tells_method_code_id_and_duration(lines: Lines) -> None:
    answered(AccessLog(10), 1)

    (line,) = lines
    assert line.pop("duration_ms") >= 0
    assert line == {
        "event": "call",
        "log_level": "info",
        "method": "/a.B/C",
        "code": "OK",
        "request_id": "r",
    }


def test_answered_calls_over_the_rate_are_counted_in_the_next_line(lines: Lines, second: list[float]) -> None:
    log = AccessLog(3)
    answered(log, 10)
    second[0] += 1
    answered(log, 2)

    assert [line.get("left_out") for line in lines] == [None, None, None, 7, None]


def test_failures_always_have_a_line(lines: Lines, second: list[float]) -> None:
    log = AccessLog(0)
    for _ in range(5):
        SilentCall("/a.B/C", 1e9, "r", log.write).fail(OverloadedError("full"))
    answered(log, 5)

    assert [(line["code"], line["error"]) for line in lines] == [("RESOURCE_EXHAUSTED", "full")] * 5
