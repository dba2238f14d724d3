"""Keeps a repository live: a thread that looks at the folder when it may have changed, and on request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread

import structlog
from structlog.typing import FilteringBoundLogger

from service.attempts import Attempts
from service.errors import DrainingError, InternalError, ServiceError
from service.reconciler import Reconciler
from service.watch import FolderWatch

_log: FilteringBoundLogger = structlog.get_logger()

_LOOK_S = 10.0
"""How often the folder is looked at without an event: not every file system sends them."""
_JOIN_S = 5.0

Done = Callable[[ServiceError | None], None]
"""Told what became of a request, on the thread of the repository."""
Met = Callable[[], bool]
"""Tells whether a request is met; raises ServiceError if it can't be."""


class LiveRepository:
    """Follows the folder while the server runs.

    Args:
        folder: the model repository.
        reconciler: follows it.
        attempts: what may take long; it is ended with the server.
        wake: set when there is something to do.
        watch: whether to follow changes, or only to act on request.
    """

    def __init__(
        self, folder: Path, reconciler: Reconciler, attempts: Attempts, wake: Event, *, watch: bool
    ) -> None:
        self._folder = folder
        self._reconciler = reconciler
        self._attempts = attempts
        self._requests: SimpleQueue[tuple[Callable[[], Met], Done]] = SimpleQueue()
        self._waiting: list[tuple[Met, Done]] = []
        self._wake = wake
        self._stopped = Event()
        self._watch = FolderWatch(self._wake.set) if watch else None
        self._thread = Thread(target=self._run, name="repository", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def load(self, name: str, done: Done) -> None:
        """Load a model, or what is new of it."""
        self._request(partial(self._load, name), done)

    def unload(self, name: str, done: Done) -> None:
        """Take a model away until it is loaded."""
        self._request(partial(self._unload, name), done)

    def close(self) -> None:
        """Stop following; what is just being loaded is left to end with the process."""
        self._stopped.set()
        self._wake.set()
        self._attempts.close()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)
        if self._watch is not None:
            self._watch.close()

    def _load(self, name: str) -> Met:
        self._reconciler.load(name)
        return partial(self._reconciler.met, name)

    def _unload(self, name: str) -> Met:
        self._reconciler.unload(name)
        return lambda: True

    def _request(self, action: Callable[[], Met], done: Done) -> None:
        self._requests.put((action, done))
        self._wake.set()
        if self._stopped.is_set():  # the thread may have looked for the last time
            self._refuse()

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopped.is_set():
            self._wake.wait(wait_s)
            self._wake.clear()
            wait_s = self._turn()
        for _, done in self._waiting:
            done(_draining())
        self._refuse()

    def _refuse(self) -> None:
        """End the requests that nobody has begun."""
        with suppress(Empty):
            while True:
                _, done = self._requests.get_nowait()
                done(_draining())

    def _turn(self) -> float:
        """Do what there is to do; tell after how many seconds there may be more."""
        with suppress(Empty):
            while not self._stopped.is_set():
                action, done = self._requests.get_nowait()
                self._end_or_wait(action, done)
        wait_s = None
        if not self._stopped.is_set():
            try:
                self._reconciler.keep_step()
                wait_s = self._follow()
            except Exception:  # noqa: BLE001 - the next look may do better; the log tells what it was
                _log.exception("unexpected error while following the model repository")
            waiting, self._waiting = self._waiting, []
            for met, done in waiting:
                self._end_or_wait(partial(_same, met), done)
        return _LOOK_S if wait_s is None else min(wait_s, _LOOK_S)

    def _end_or_wait(self, action: Callable[[], Met], done: Done) -> None:
        """Tell a caller what became of a request, or wait until it is met."""
        try:
            met = action()
            if not met():
                self._waiting.append((met, done))
                return
            error = None
        except ServiceError as refusal:
            error = refusal
        except Exception:  # noqa: BLE001 - the caller is told that it failed, the log why
            _log.exception("unexpected error while changing a model on request")
            error = InternalError("internal error")
        done(error)

    def _follow(self) -> float | None:
        if self._watch is not None:
            return self._look(self._watch)
        self._reconciler.go_on()
        return None

    def _look(self, watch: FolderWatch) -> float | None:
        try:
            watch.aim(self._folder.resolve())
        except OSError:  # the folder is gone, which looking at it tells
            watch.close()
        return self._reconciler.look()


def _same(met: Met) -> Met:
    return met


def _draining() -> ServiceError:
    return DrainingError("the server is shutting down")
