"""Answers that their clients leave unread: they fill the server's memory, so whoever hoards is disconnected.

A client that gives no flow-control credit (HTTP/2, RFC 9113, 5.2) makes a transport keep its answers, and no
transport tells how many. But the kernel tells how many bytes a connection's peer has acknowledged, and an
answer that was sent takes up at least its own length.
"""

from __future__ import annotations

from collections.abc import Set
from threading import Lock
from typing import Protocol

import structlog
from structlog.typing import FilteringBoundLogger

from service.transport.connections import CAN_LOOK, Peer, connections_to, parsed

_log: FilteringBoundLogger = structlog.get_logger()

SMALL = 4096
"""Answers below this need not be counted: the number of streams bounds what they take."""


class UnreadAnswers:
    """Counts what the connections of a port were answered; closes those that leave most of it unread.

    Connections are looked at only when as many bytes were answered as could pass the limit unread: with
    clients that read, every 256 MiB. Where the kernel isn't Linux nothing is closed.

    Args:
        limit: Most bytes that all connections together may leave unread.
    """

    def __init__(self, limit: int) -> None:
        self.port = 0
        self._limit = limit
        self._answered: dict[str, int] = {}
        self._until_look = limit
        self._lock = Lock()

    def add(self, peer: str, size: int) -> None:
        """Count an answer.

        Threads may overwrite each other's count, which then is an answer too small: no harm is done.
        """
        self._answered[peer] = self._answered.get(peer, 0) + size
        self._until_look -= size
        if self._until_look < 0 and CAN_LOOK and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()

    def keep(self, peers: Set[Peer]) -> None:
        """Forget all but these: what comes from the same address later is another connection."""
        self._answered = {peer: size for peer, size in self._answered.copy().items() if parsed(peer) in peers}

    def _look(self) -> None:
        connections, answered = connections_to(self.port), self._answered.copy()
        known = {peer: found for peer in answered if (found := connections.get(parsed(peer)))}
        unread = {peer: max(0, answered[peer] - known[peer].acknowledged) for peer in known}
        total = sum(unread.values())
        for peer in sorted(unread, key=unread.__getitem__, reverse=True):
            if total <= self._limit // 2:
                break
            _log.warning("connection closed: it leaves answers unread", peer=peer, bytes=unread[peer])
            known.pop(peer).close()
            total -= unread[peer]
        self._answered = {peer: answered[peer] for peer in known}
        self._until_look = self._limit - total


class _Cancellable(Protocol):
    def cancel(self) -> object: ...

    def __hash__(self) -> int: ...


class Backlog:
    """Counts the answers that streams hold back until the ones before them are read; ends who hoards.

    For one event loop's thread. A stream ends without a status: its client doesn't read one either.

    Args:
        limit: Most bytes that all streams together may hold back.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._waiting: dict[_Cancellable, int] = {}

    def add(self, stream: _Cancellable, size: int) -> None:
        """Count an answer that begins to wait, or with a negative size one that no longer does."""
        self._waiting[stream] = self._waiting.get(stream, 0) + size
        self._total += size
        if self._total > self._limit:
            worst = max(self._waiting, key=self._waiting.__getitem__)
            _log.warning("stream ended: it leaves answers unread", bytes=self._waiting[worst])
            self.forget(worst)
            worst.cancel()

    def forget(self, stream: _Cancellable) -> None:
        """Forget a stream that has ended."""
        self._total -= self._waiting.pop(stream, 0)
