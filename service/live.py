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

from service.errors import DrainingError, InternalError, ServiceError
from service.reconciler import Reconciler
from service.trial import Trial
from service.watch import FolderWatch

_log: FilteringBoundLogger = structlog.get_logger()

_LOOK_S = 10.0
"""How often the folder is looked at without an event: not every file system sends them."""
_JOIN_S = 5.0

Done = Callable[[ServiceError | None], None]
"""Told what became of a request, on the thread of the repository."""


class LiveRepository:
    """Follows the folder while the server runs.

    Args:
        folder: the model repository.
        reconciler: follows it.
        trial: what may take long; it is ended with the server.
        watch: whether to follow changes, or only to act on request.
    """

    def __init__(self, folder: Path, reconciler: Reconciler, trial: Trial, *, watch: bool) -> None:
        self._folder = folder
        self._reconciler = reconciler
        self._trial = trial
        self._requests: SimpleQueue[tuple[Callable[[], None], Done]] = SimpleQueue()
        self._wake = Event()
        self._stopped = Event()
        self._watch = FolderWatch(self._wake.set) if watch else None
        self._thread = Thread(target=self._run, name="repository", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def load(self, name: str, done: Done) -> None:
        """Load a model, or what is new of it."""
        self._request(partial(self._reconciler.load, name), done)

    def unload(self, name: str, done: Done) -> None:
        """Take a model away until it is loaded."""
        self._request(partial(self._reconciler.unload, name), done)

    def close(self) -> None:
        """Stop following; what is just being loaded is left to end with the process."""
        self._stopped.set()
        self._wake.set()
        self._trial.cancel()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)
        if self._watch is not None:
            self._watch.close()

    def _request(self, action: Callable[[], None], done: Done) -> None:
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
        self._refuse()

    def _refuse(self) -> None:
        """End the requests that wait."""
        with suppress(Empty):
            while True:
                _, done = self._requests.get_nowait()
                done(DrainingError("the server is shutting down"))

    def _turn(self) -> float:
        """Do what there is to do; tell after how many seconds there may be more."""
        with suppress(Empty):
            while not self._stopped.is_set():
                action, done = self._requests.get_nowait()
                done(_outcome(action))
        wait_s = None
        if not self._stopped.is_set():
            try:
                self._reconciler.keep_step()
                wait_s = self._look(self._watch) if self._watch else None
            except Exception:  # noqa: BLE001 - the next look may do better; the log tells what it was
                _log.exception("unexpected error while following the model repository")
        return _LOOK_S if wait_s is None else min(wait_s, _LOOK_S)

    def _look(self, watch: FolderWatch) -> float | None:
        try:
            watch.aim(self._folder.resolve())
        except OSError:  # the folder is gone, which looking at it tells
            watch.close()
        return self._reconciler.look()


def _outcome(action: Callable[[], None]) -> ServiceError | None:
    try:
        action()
    except ServiceError as error:
        return error
    except Exception:  # noqa: BLE001 - the caller is told that it failed, the log why
        _log.exception("unexpected error while changing a model on request")
        return InternalError("internal error")
    return None
