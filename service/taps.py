"""Tap sessions: sessions of a model whose layers are outputs too, built when first asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.build_time import BuildTime
from service.errors import OverloadedError
from service.freed_memory import give_back
from service.tap_memory import Held, Layers, TapMemory

Session = TypeVar("Session")


@dataclass(frozen=True)
class TapCounts:
    """What became of the requests for tap sessions; `live` is how many are held now, `bytes` an estimate."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    live: int = 0
    bytes: int = field(default=0, compare=False)


class TapSessions(Generic[Session]):
    """Tap sessions of one model by the set of layers they give. Thread-safe.

    A set of layers is always served by a session that gives those and no others: which other layers are
    outputs decides what ONNX Runtime fuses, and so the last digits of float16 and quantized models. Thus no
    answer depends on what was asked for before. ONNX Runtime builds the same session of the same graph again.

    Args:
        build: Builds the session for a set of layers.
        size: Estimate of the bytes that a session holds.
        capacity: How many sessions are held at most.
        memory: Bounds what the sessions of all models hold together.
        build_time: Bounds how long builds may take.
    """

    def __init__(
        self,
        build: Callable[[Layers], Session],
        size: int = 0,
        capacity: int = 4,
        memory: TapMemory | None = None,
        build_time: BuildTime | None = None,
    ) -> None:
        self._build = build
        self._size = size
        self._memory = memory or TapMemory()
        self._shelf = self._memory.shelf(capacity)
        self._build_time = build_time or BuildTime()
        self._hits = self._misses = 0

    def get(self, layers: Layers, *, preload: bool = False) -> Session:
        """Return the session that gives these layers, building it if there is none.

        Threads that ask for the same set while it is being built wait for that one build and share its
        failure; the next to ask tries again. With `preload` it goes after those that callers alone asked for,
        and builds may take any time.

        Raises:
            OverloadedError: Builds for ever new sets have taken too much time lately.
        """
        with self._memory.lock:
            held = self._memory.use(self._shelf, layers)
            if held is not None:
                self._hits += 1
            else:
                self._check_time(preload=preload)
                self._misses += 1
                mine = Held(Future(), self._size, preload)
                dropped = self._memory.put(self._shelf, layers, mine)
        if held is not None:
            session: Session = held.session.result()
            return session
        # Whoever runs or waits for a dropped session holds it; else it goes here, where nobody waits for it.
        del dropped
        return self._fulfil(mine, layers)

    def counts(self) -> TapCounts:
        """Tell what became of the requests so far."""
        with self._memory.lock:
            held = list(self._shelf.sessions.values())
            total = sum(one.size for one in held)
            return TapCounts(self._hits, self._misses, self._shelf.evictions, len(held), total)

    def _check_time(self, *, preload: bool) -> None:
        if not preload and (wait_s := self._build_time.wait_s()):
            raise OverloadedError(
                "too many different sets of layers were asked of this model lately; ask for a set that was "
                f"asked for before, for more layers in one request, or again in {math.ceil(wait_s)} s"
            )

    def _fulfil(self, held: Held, layers: Layers) -> Session:
        started_s = self._build_time.clock()
        try:
            session = self._build(layers)
        except BaseException as error:
            self._built(held, layers, started_s, keep=False)
            held.session.set_exception(error)
            raise
        self._built(held, layers, started_s, keep=not held.passing)
        held.session.set_result(session)
        give_back()  # what the build took besides, and what was dropped for it
        return session

    def _built(self, held: Held, layers: Layers, started_s: float, *, keep: bool) -> None:
        with self._memory.lock:
            if not held.preloaded:
                self._build_time.spend(self._build_time.clock() - started_s)
            if not keep:
                self._memory.remove(self._shelf, layers, held)
