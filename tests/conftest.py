"""Fixtures that every part's tests share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest
import structlog

from tests.serving import serving


def pytest_configure() -> None:
    """Heed Ctrl-C even where the tests run in the background of a shell script, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def logs_to_stderr() -> None:
    """Keep the lines of servers in this process out of the standard output of commands in it."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))


@pytest.fixture(scope="session")
def server_address() -> Iterator[str]:
    """The address of a real server of the shipped LeNet, in this process."""
    with serving() as server:
        yield server.address
