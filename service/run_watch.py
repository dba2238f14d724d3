"""Ends runs that take too long: a model that hangs must not keep its lane for ever."""

from __future__ import annotations

import time
from functools import cache
from threading import Event, Lock, Thread, local
from types import TracebackType
from weakref import WeakSet

import onnxruntime as ort
import structlog
from structlog.typing import FilteringBoundLogger

_log: FilteringBoundLogger = structlog.get_logger()

_LOOKS = 10  # at each run before its time is up


class RunWatch:
    """A block in which a run of a model goes on at most so long. Shared by all threads, one run a thread.

    One thread looks at what runs, so a run costs no timer. ONNX Runtime ends a run before its next node: one
    node that never ends can't be ended, only told about.

    Args:
        timeout_s: How long a run may take, in seconds.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._own = local()
        self._slots: WeakSet[_Slot] = WeakSet()  # a thread holds its own
        self._lock = Lock()
        self._watching = False

    def __enter__(self) -> ort.RunOptions:
        try:
            slot: _Slot = self._own.slot
        except AttributeError:
            slot = self._own.slot = self._new_slot()
        slot.started_s = time.monotonic()
        return slot.options

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        slot: _Slot = self._own.slot
        with slot.lock:
            slot.started_s = None
            ended, slot.ended = slot.ended, False
        if ended:
            slot.options = ort.RunOptions()
            if error is not None:
                raise TimeoutError(f"the run took longer than {self.timeout_s:g} s and was ended") from error

    def _new_slot(self) -> _Slot:
        slot = _Slot()
        with self._lock:
            self._slots.add(slot)
            if not self._watching:
                self._watching = True
                Thread(target=self._watch, name="run-watch", daemon=True).start()
        return slot

    def _watch(self) -> None:
        """Look at the runs until the threads that do them have ended."""
        pause = Event()
        while True:
            pause.wait(self.timeout_s / _LOOKS)
            with self._lock:
                slots = list(self._slots)
                if not slots:
                    self._watching = False
                    return
            latest_s = time.monotonic() - self.timeout_s
            for slot in slots:
                slot.end_if_before(latest_s)


@cache
def run_watch(timeout_s: float) -> RunWatch:
    """Return the one watch that this process has for a timeout."""
    return RunWatch(timeout_s)


class _Slot:
    """The run of one thread, if there is one."""

    __slots__ = ("__weakref__", "ended", "lock", "options", "started_s")

    def __init__(self) -> None:
        self.options = ort.RunOptions()
        self.started_s: float | None = None
        self.ended = False
        self.lock = Lock()  # so that the next run isn't ended for the one before

    def end_if_before(self, latest_s: float) -> None:
        with self.lock:
            if self.started_s is not None and self.started_s <= latest_s and not self.ended:
                _log.error("a run takes too long and is ended", seconds=time.monotonic() - self.started_s)
                self.options.terminate = True
                self.ended = True
