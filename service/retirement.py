"""Frees models that were replaced, once no call uses them any more, on a thread that no call waits for."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from threading import Thread

from service.freed_memory import give_back
from service.model import Model
from service.repository import ServedModel


class Retirement:
    """Waits for the last call of each retired model, ends its lane and lets it go.

    Calls hold the ServedModel, so none can queue another job once that is collected.

    Args:
        end: ends what runs a model's jobs.
    """

    def __init__(self, end: Callable[[Model], None]) -> None:
        self._end = end
        self._unused: SimpleQueue[Model | None] = SimpleQueue()  # may be put to while garbage is collected
        self._thread = Thread(target=self._free, name="retirement", daemon=True)
        self._thread.start()

    def retire(self, displaced: Iterable[ServedModel]) -> None:
        """Free models as soon as nobody holds them."""
        for served in displaced:
            weakref.finalize(served, self._unused.put, served.model).atexit = False

    def close(self) -> None:
        """End the thread; what is still in use is left as it is."""
        self._unused.put(None)
        self._thread.join()

    def _free(self) -> None:
        while (model := self._unused.get()) is not None:
            self._end(model)
            del model  # here, where it may take its time
            give_back()
