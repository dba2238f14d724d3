"""Serves the metrics over HTTP, on threads of its own."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry, MetricsHandler
from structlog.typing import FilteringBoundLogger

from service.errors import StartupError
from service.exposition import registry
from service.peers import Respondents
from service.settings import Settings

_log: FilteringBoundLogger = structlog.get_logger()

_PATHS = frozenset({"/", "/metrics"})
_MOST_CONNECTIONS = 16
# After how long a connection on which nothing moves is closed.
_IDLE_S = 10.0
# After how long a connection makes room for another: a scrape takes less, whoever sends byte by byte more.
_LONG_S = 10.0
# How long the end may take.
_POLL_S = 0.1

_Socket: TypeAlias = "socket.socket | tuple[bytes, socket.socket]"


@contextmanager
def metrics_served(settings: Settings, respondents: Respondents) -> Iterator[str]:
    """Serve the metrics where the settings say, until the block is left.

    Args:
        settings: If they don't choose an address and the default's is in use, nothing is served.
        respondents: Who is asked for the numbers.

    Yields:
        The address with the port that was really bound, "" if nothing is served.

    Raises:
        StartupError: the address can't be bound.
    """
    address = settings.metrics_address
    required = "metrics_address" in settings.model_fields_set
    server = _bound(address, registry(respondents), required=required) if address else None
    if server is None:
        yield ""
        return
    told = f"{address.rpartition(':')[0]}:{server.server_port}"
    with server:
        thread = Thread(target=server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True)
        thread.start()
        _log.info("serving metrics", address=told)
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


def _bound(address: str, metrics: CollectorRegistry, *, required: bool) -> _Server | None:
    try:
        return _Server(*_resolve(address), metrics)
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number == errno.EADDRINUSE and not required:
            _log.warning("metrics are not served, their address is in use", address=address)
            return None
        reason = os.strerror(number) if number and number > 0 else str(error)
        raise StartupError(
            f"can't serve metrics on {address}: {reason}; choose another with --metrics-address"
        ) from error


def _resolve(address: str) -> tuple[socket.AddressFamily, Any]:
    host, _, port = address.rpartition(":")
    if not 0 <= int(port) < 1 << 16:
        raise ValueError(f"there is no port {port}")
    family, *_, sockaddr = socket.getaddrinfo(
        host.strip("[]") or None,  # every address of this machine
        int(port),
        type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    )[0]
    return family, sockaddr


class _Server(ThreadingHTTPServer):
    """Answers each connection on a thread; those over the limit are closed, or the oldest if it is old."""

    request_queue_size = 128  # the default of 5 has others wait a second for a second try

    def __init__(
        self,
        family: socket.AddressFamily,
        sockaddr: Any,  # noqa: ANN401 - as socket.getaddrinfo gives it
        metrics: CollectorRegistry,
    ) -> None:
        self.address_family = family
        self._started_s: dict[_Socket, float] = {}  # oldest first
        super().__init__(sockaddr, type("_Bound", (_Handler,), {"registry": metrics}))

    def server_bind(self) -> None:
        """Bind, and do without the host's name, for which HTTPServer asks the DNS."""
        TCPServer.server_bind(self)
        self.server_port = int(self.server_address[1])

    def verify_request(self, request: _Socket, client_address: Any) -> bool:  # noqa: ANN401
        """Take a connection if there is room, or one that has gone on for long can be ended to make some."""
        now_s = time.monotonic()
        if len(self._started_s) >= _MOST_CONNECTIONS:
            oldest, started_s = next(iter(self._started_s.items()))
            if now_s - started_s < _LONG_S:
                return False
            self._end(oldest)
        self._started_s[request] = now_s
        return True

    def process_request_thread(self, request: _Socket, client_address: Any) -> None:  # noqa: ANN401
        """Answer, then leave its room to others."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._started_s.pop(request, None)

    def _end(self, request: _Socket) -> None:
        self._started_s.pop(request, None)
        if isinstance(request, socket.socket):
            with suppress(OSError):  # it has ended
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: _Socket, client_address: Any) -> None:  # noqa: ANN401
        """Let the log tell of an error, unless it is that the other end has gone."""
        if not isinstance(sys.exception(), OSError):
            _log.exception("a request for metrics failed")


class _Handler(MetricsHandler):
    """Writes the metrics."""

    timeout = _IDLE_S

    def do_GET(self) -> None:  # noqa: N802 - as http.server calls it
        """Answer with all metrics."""
        if urlsplit(self.path).path in _PATHS:
            super().do_GET()
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "the metrics are at /metrics")

    def version_string(self) -> str:
        """Name the product, not what it is made of."""
        return "featurelens"
