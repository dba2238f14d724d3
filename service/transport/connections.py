"""The TCP connections of clients to a port of this process, whatever transport holds them (Linux only).

No transport bounds their number, and one waits for ever for clients that connect and say nothing. The kernel
knows of each connection what it has received; closing the socket's both directions is heard by its owner.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit
from threading import Event, Thread
from typing import NamedTuple
from urllib.parse import unquote

import structlog
from structlog.typing import FilteringBoundLogger

from service.transport.limits import TransportLimits

_log: FilteringBoundLogger = structlog.get_logger()

_DESCRIPTORS = Path("/proc/self/fd")
CAN_LOOK = _DESCRIPTORS.is_dir()
# struct tcp_info of include/uapi/linux/tcp.h: tcpi_last_data_recv, _bytes_acked, _bytes_received.
_TCP_INFO = struct.Struct("52xI64xQQ")
# HTTP/2's preface, and the shortest frame of settings that has to follow (RFC 9113, 3.4).
_GREETING_BYTES = 24 + 9
_OTHER_DESCRIPTORS = 512

Peer = tuple[str, int]
"""The client's end: its host and port."""


class Connection(NamedTuple):
    """A connection, and what the kernel tells of it."""

    descriptor: int
    peer: Peer
    idle_ms: int
    """How long ago the client sent something."""
    acknowledged: int
    """Bytes of ours that the client's side has."""
    received: int

    def close(self) -> None:
        """Close it, as if the client had."""
        with suppress(OSError), _borrowed(self.descriptor) as borrowed:  # OSError: it has gone by itself
            if _peer(borrowed.getpeername()) == self.peer:
                borrowed.shutdown(socket.SHUT_RDWR)


def connections_to(port: int) -> dict[Peer, Connection]:
    """Find the connections to a port, by the client's end."""
    found = {}
    for descriptor in _descriptors():
        with (
            suppress(OSError),
            _borrowed(descriptor) as borrowed,
        ):  # OSError: no socket, or not connected
            if borrowed.family in {socket.AF_INET, socket.AF_INET6} and borrowed.getsockname()[1] == port:
                peer = _peer(borrowed.getpeername())
                info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
                found[peer] = Connection(descriptor, peer, *_TCP_INFO.unpack(info))
    return found


def _descriptors() -> Iterable[int]:
    try:
        return [int(name) for name in os.listdir(_DESCRIPTORS)]  # noqa: PTH208 - names, not paths
    except OSError:  # none is free, and listing takes one
        return range(getrlimit(RLIMIT_NOFILE)[0])


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Give a socket that stays its owner's; a copy would take a descriptor, when there may be none."""
    borrowed = socket.socket(fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def parsed(peer: str) -> Peer:
    """Read an address as gRPC writes it: `ipv4:127.0.0.1:50000`, `ipv6:%5B::1%5D:50000`."""
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return _peer((host.strip("[]"), int(port) if port.isdigit() else 0))


def _peer(address: tuple[str, int]) -> Peer:
    return address[0].removeprefix("::ffff:"), address[1]


def _limit_descriptors(connections: int) -> None:
    """Let this process have so many connections and some files, and no more."""
    _, hard = getrlimit(RLIMIT_NOFILE)
    wanted = connections + _OTHER_DESCRIPTORS
    if hard != RLIM_INFINITY and hard < wanted:
        _log.warning("too few descriptors for all connections", limit=hard, wanted=wanted)
        wanted = hard
    setrlimit(RLIMIT_NOFILE, (wanted, hard))


class ConnectionWatch:
    """Looks every few seconds: closes connections that don't begin to speak, and the idlest of too many.

    Args:
        port: Where they come in.
        limits: How many may stay, and how long they may take.
        present: Is told each time whose connections there are.
    """

    def __init__(self, port: int, limits: TransportLimits, present: Callable[[Set[Peer]], None]) -> None:
        _limit_descriptors(limits.max_connections)
        self._port = port
        self._limits = limits
        self._present = present
        self._silent_since: dict[Peer, float] = {}
        self._stop = Event()
        self._thread = Thread(target=self._watch, name="connections", daemon=True)
        if CAN_LOOK:
            self._thread.start()

    def close(self) -> None:
        """End the watch, not the connections."""
        self._stop.set()
        if CAN_LOOK:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._limits.look_at_connections_every_s):
            connections = connections_to(self._port)
            self._present(connections.keys())
            self._close_silent(connections)
            self._close_idlest(connections)

    def _close_silent(self, connections: dict[Peer, Connection]) -> None:
        now_s = time.monotonic()
        self._silent_since = {
            peer: self._silent_since.get(peer, now_s)
            for peer, connection in connections.items()
            if connection.received < _GREETING_BYTES
        }
        latest_s = now_s - self._limits.greeting_s
        late = [peer for peer, since_s in self._silent_since.items() if since_s < latest_s]
        for peer in late:
            connections.pop(peer).close()
        if late:
            _log.warning("connections closed: their clients said nothing", count=len(late))

    def _close_idlest(self, connections: dict[Peer, Connection]) -> None:
        most = self._limits.max_connections
        if (excess := len(connections) - most) <= 0:
            return
        for connection in sorted(connections.values(), key=_idleness, reverse=True)[:excess]:
            connection.close()
        _log.warning("connections closed: there were too many", count=excess, limit=most)


def _idleness(connection: Connection) -> int:
    return connection.idle_ms
