"""The bound on what tap sessions hold together, those of all models in the process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain, count
from threading import Lock
from typing import Any
from weakref import WeakSet

from service.settings import MiB

Layers = frozenset[str]


@dataclass(eq=False, slots=True)
class Held:
    """A tap session that is held, or being built.

    Attributes:
        session: What it will be, or is.
        size: Estimate of the bytes it holds.
        preloaded: Whether config.toml names its layers: it goes after all that callers alone asked for.
        passing: Whether it is let go as soon as it is built: those who asked for it together use it once.
        used: Which use of any was its last.
    """

    session: Future[Any]
    size: int
    preloaded: bool
    passing: bool = False
    used: int = 0


@dataclass(eq=False)
class Shelf:
    """The tap sessions of one model.

    Attributes:
        capacity: How many are held at most.
        sessions: By the set of layers they give.
        evictions: How many were displaced so far.
    """

    capacity: int
    sessions: dict[Layers, Held] = field(default_factory=dict)
    evictions: int = 0

    def kept(self) -> Iterator[tuple[Shelf, Layers, Held]]:
        """Go through what stays once it is built."""
        return ((self, layers, held) for layers, held in self.sessions.items() if not held.passing)


class TapMemory:
    """Shelves of tap sessions with one bound for all; what was used least recently goes first.

    Its methods want `lock` to be held.

    Args:
        most_bytes: What all sessions may hold together, by estimate.

    Attributes:
        lock: Guards the shelves.
    """

    def __init__(self, most_bytes: int = 1024 * MiB) -> None:
        self.lock = Lock()
        self._most_bytes = most_bytes
        self._shelves: WeakSet[Shelf] = WeakSet()  # a model that is let go takes its sessions along
        self._uses = count(1)

    def shelf(self, capacity: int) -> Shelf:
        """Make the shelf of a model."""
        shelf = Shelf(capacity)
        self._shelves.add(shelf)
        return shelf

    def use(self, shelf: Shelf, layers: Layers) -> Held | None:
        """Return the session for these layers, if there is one."""
        if held := shelf.sessions.get(layers):
            held.used = next(self._uses)
        return held

    def put(self, shelf: Shelf, layers: Layers, held: Held) -> list[Held]:
        """Put a session on a shelf that has none for its layers, and return what has to go for it.

        If it may not stay itself it becomes `passing`: it is over the bound alone, or only preloaded ones
        would be left to go.
        """
        held.used = next(self._uses)
        held.passing = held.size > self._most_bytes
        shelf.sessions[layers] = held
        dropped = []
        while len(own := list(shelf.kept())) > shelf.capacity:
            dropped.append(_drop_one(own, held))
        while sum(one.size for *_, one in self._kept()) > self._most_bytes:
            dropped.append(_drop_one(self._kept(), held))
        return [one for one in dropped if one is not held]

    def remove(self, shelf: Shelf, layers: Layers, held: Held) -> None:
        """Take a session off its shelf, if it is still there."""
        if shelf.sessions.get(layers) is held:
            del shelf.sessions[layers]

    def _kept(self) -> list[tuple[Shelf, Layers, Held]]:
        return list(chain.from_iterable(shelf.kept() for shelf in self._shelves))


def _drop_one(candidates: Iterable[tuple[Shelf, Layers, Held]], newest: Held) -> Held:
    """Drop the one that was used least recently, preloaded ones last; the newest only stops being kept."""
    shelf, layers, held = min(candidates, key=lambda one: (one[2].preloaded, one[2].used))
    if held is newest:
        held.passing = True
    else:
        del shelf.sessions[layers]
        shelf.evictions += 1
    return held
