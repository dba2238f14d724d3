"""Fixtures that every part's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving import serving


@pytest.fixture(scope="session")
def server_address() -> Iterator[str]:
    """The address of a real server of the shipped LeNet, in this process."""
    with serving() as server:
        yield server.address
