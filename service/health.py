"""grpc.health.v1: whether services answer calls, told to those who ask and to those who watch.

grpcio's own servicer lets an open Watch hold up the server's stop, and forgets all watchers of a service when
one of them leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer, add_HealthServicer_to_server

_Context = grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]


class Health(HealthServicer):  # type: ignore[misc] # its base has no types
    """The state of each service; to be used on the server's event loop alone.

    Args:
        services: names of those that are known from the start, NOT_SERVING; "" is the server as a whole.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._status = dict.fromkeys(services, HealthCheckResponse.NOT_SERVING)
        self._changed = asyncio.Event()  # of the next change; each has one of its own
        self._draining = False
        self._closed = False

    def set_serving(self, service: str, *, serving: bool = True) -> None:
        """Say whether a service answers calls; without effect once the server drains."""
        if not self._draining:
            self._status[service] = (
                HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
            )
            self._tell()

    def drain(self) -> None:
        """Say NOT_SERVING of all services from now on."""
        self._draining = True
        self._status = dict.fromkeys(self._status, HealthCheckResponse.NOT_SERVING)
        self._tell()

    def close(self) -> None:
        """End the watches, each after the state as it is now, so that none holds up the server's stop."""
        self._closed = True
        self._tell()

    async def Check(self, request: HealthCheckRequest, context: _Context) -> HealthCheckResponse:  # noqa: N802 - as grpcio calls it
        """Tell the state of a service."""
        if (status := self._status.get(request.service)) is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'no service "{request.service[:100]}"')
        return HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802 - as above
        self, request: HealthCheckRequest, context: _Context
    ) -> AsyncIterator[HealthCheckResponse]:
        """Tell the state of a service now and whenever it has changed."""
        told = None
        while True:
            changed = self._changed
            status = self._status.get(request.service, HealthCheckResponse.SERVICE_UNKNOWN)
            if status != told:
                yield HealthCheckResponse(status=status)
                told = status
            if self._closed:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
            await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offer grpc.health.v1 on a server; it may be one of several."""
        add_HealthServicer_to_server(self, server)
