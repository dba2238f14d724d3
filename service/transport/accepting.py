"""A grpc.aio server that goes on accepting: when its accept loop ends, another server takes its addresses.

grpc.aio's loop decodes the path of every call as UTF-8, and ends for good at one that isn't. Any stranger
can send such a path, without a token. What grpcio then does is to refuse connections and calls for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import structlog
from structlog.typing import FilteringBoundLogger

from service.errors import StartupError

_log: FilteringBoundLogger = structlog.get_logger()

Tls = Callable[[], grpc.ServerCredentials]
"""Makes the credentials of one server; another needs others."""

_LOOK_S = 0.05
"""How often the loop is looked at. Calls that come after its end are refused until then."""
_AGAIN_S = 0.01
"""After how long an address that the old server hasn't let go is tried again."""
_COMPLAIN_S = 5.0
_CALLS_END_S = 60.0
"""How long the calls of a server whose loop has ended may take."""


class AcceptingServer:
    """Accepts calls at its addresses until it is stopped. Calls in flight survive the end of an accept loop.

    Args:
        make: Makes a server with all of its methods, and no address.
    """

    def __init__(self, make: Callable[[], grpc.aio.Server]) -> None:
        self._make = make
        self._server = make()
        self._addresses: list[tuple[str, Tls | None]] = []
        self._watch: asyncio.Task[None] | None = None
        self._retired: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._grace_s = _CALLS_END_S

    def bind(self, address: str, tls: Tls | None = None) -> int:
        """Bind an address, such as `127.0.0.1:0` or `unix:/path`; return its port, 1 for one without.

        Raises:
            StartupError: the address can't be bound.
        """
        port = _bind(self._server, address, tls)
        if not port:
            raise StartupError(
                f"can't listen on {address}: it is in use or not an address of this machine; choose another"
                " with --grpc-address"
            )
        host = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
        self._addresses.append((host, tls))
        return port

    async def start(self) -> None:
        """Accept calls from now on."""
        await self._server.start()
        self._watch = asyncio.create_task(self._keep_accepting())

    async def stop(self, grace_s: float) -> None:
        """Accept no more calls, and end when those in flight have, at the latest after `grace_s` seconds."""
        self._grace_s = grace_s
        self._stopping.set()
        if self._watch:
            self._watch.cancel()
        await self._server.stop(grace_s)  # begins at once, before anything is waited for
        await asyncio.gather(*self._retired)

    async def _keep_accepting(self) -> None:
        while True:
            try:
                # Raises what ended the loop, also while calls that it had accepted go on.
                await self._server.wait_for_termination(_LOOK_S)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not be the end
                _log.error("the accept loop ended; accepting anew", reason=f"{type(error).__name__}: {error}")
                await self._renew()

    async def _renew(self) -> None:
        retired = asyncio.create_task(self._see_out(self._server))
        self._retired.add(retired)
        retired.add_done_callback(self._retired.discard)
        self._server = self._make()
        for address, tls in self._addresses:
            await self._bind_again(address, tls)
        await self._server.start()
        _log.info("accepting anew", addresses=[address for address, _ in self._addresses])

    async def _bind_again(self, address: str, tls: Tls | None) -> None:
        loop = asyncio.get_running_loop()
        complain_at = loop.time() + _COMPLAIN_S
        while not _bind(self._server, address, tls):
            if loop.time() >= complain_at:
                _log.error("an address can't be bound again", address=address)
                complain_at += _COMPLAIN_S
            await asyncio.sleep(_AGAIN_S)

    async def _see_out(self, server: grpc.aio.Server) -> None:
        """Let the calls of a server end, those of a server that stops within its grace."""
        ended = asyncio.create_task(server.stop(_CALLS_END_S))
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ended.done():
            await server.stop(self._grace_s)
        await ended


def _bind(server: grpc.aio.Server, address: str, tls: Tls | None) -> int:
    """Return the port; 0 if the address can't be bound."""
    try:
        return server.add_secure_port(address, tls()) if tls else server.add_insecure_port(address)
    except RuntimeError:
        return 0
