"""Tap sessions: sessions of a model whose layers are outputs too, built when first asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

Session = TypeVar("Session")
Layers = frozenset[str]


@dataclass(frozen=True)
class TapCounts:
    """What became of the requests for tap sessions; `live` is how many sessions are held now."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    live: int = 0


class TapSessions(Generic[Session]):
    """Tap sessions by the set of layers they give, the least recently used dropped first. Thread-safe.

    A session for exactly the layers that are wanted is the fastest, but every set costs a build and memory.
    So after `max_builds` builds any further set is served by one session that gives all layers; unless that
    can't be built.

    Args:
        build: Builds the session for a set of layers.
        all_layers: Every layer of the graph.
        capacity: How many sessions are held at most.
        max_builds: How many sessions are built for sets of their own.
    """

    def __init__(
        self, build: Callable[[Layers], Session], all_layers: Layers, capacity: int = 4, max_builds: int = 16
    ) -> None:
        self._build = build
        self._all_layers = all_layers
        self._capacity = capacity
        self._max_builds = max_builds
        self._lock = threading.Lock()
        self._sessions: OrderedDict[Layers, Future[Session]] = OrderedDict()
        self._hits = self._misses = self._evictions = self._builds = 0

    def get(self, layers: Layers) -> Session:
        """Return a session that gives at least these layers, building it if there is none.

        Threads that ask for the same set while it is being built wait for that one build and share its
        failure; the next to ask tries again.
        """
        with self._lock:
            if layers not in self._sessions and self._builds >= self._max_builds:
                layers = self._all_layers
            future = self._sessions.get(layers)
            if future is not None:
                self._hits += 1
                self._sessions.move_to_end(layers)
            else:
                mine = self._sessions[layers] = Future()
                self._misses += 1
            dropped = self._evict()
        # Whoever runs or waits for a dropped session holds it; else it goes here, where nobody waits for it.
        del dropped
        return future.result() if future is not None else self._fulfil(mine, layers)

    def counts(self) -> TapCounts:
        """Tell what became of the requests so far."""
        with self._lock:
            return TapCounts(self._hits, self._misses, self._evictions, len(self._sessions))

    def _evict(self) -> Future[Session] | None:
        if len(self._sessions) <= self._capacity:
            return None
        self._evictions += 1
        return self._sessions.popitem(last=False)[1]

    def _fulfil(self, future: Future[Session], layers: Layers) -> Session:
        try:
            session = self._build(layers)
        except BaseException as error:
            self._forget(layers, future)
            future.set_exception(error)
            raise
        with self._lock:
            self._builds += 1
        future.set_result(session)
        return session

    def _forget(self, layers: Layers, future: Future[Session]) -> None:
        with self._lock:
            if self._sessions.get(layers) is future:
                del self._sessions[layers]
            if layers == self._all_layers:
                self._builds = -self._max_builds  # try sets of their own for a while
