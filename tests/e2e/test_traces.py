"""Traces of a server with workers: none is lost at its end."""

from __future__ import annotations

import os

from tests.e2e.clients import OK, classify, connect
from tests.e2e.processes import server_process
from tests.service.collector import collecting, values

CALLS = 40
OTEL = {"OTEL_SERVICE_NAME": "shop", "OTEL_BSP_SCHEDULE_DELAY": "60000"}


def test_every_worker_sends_its_spans_before_it_ends() -> None:
    with collecting() as collector:
        flags = ("--workers", "2", "--trace-endpoint", collector.endpoint, "--trace-sample-ratio", "1")
        with server_process(*flags, environment=os.environ | OTEL) as server:
            workers = server.workers()
            for _ in range(CALLS):  # a connection each, so that both workers get some
                with connect(server.address) as channel:
                    assert classify(channel)[0] is OK
            assert collector.spans == []
            assert server.terminate() == 0

    senders = [values(list(resource.attributes)) for resource in collector.resources]
    assert len(collector.calls()) == CALLS
    assert {sender["service.name"] for sender in senders} == {"shop"}
    assert {sender["process.pid"] for sender in senders} == workers
