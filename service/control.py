"""The way to the process that follows the repository: carries requests to load and unload models there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from service import errors
from service.channel import JSON
from service.errors import DrainingError, ServiceError
from service.live import Done, LiveRepository
from service.peers import Peers

_REQUEST = "model control"
_TIMEOUT_S = 600.0
_KINDS = {
    kind.__name__: kind
    for kind in (errors.UnknownModelError, errors.ModelRefusedError, errors.ModelNotReadyError)
}
Abandoned = Callable[[], ServiceError | None]
"""Tells why nobody waits for a request any more, if so."""

_BUSY = "another request to load or unload a model is being met; try again when it is done"


class Control:
    """Takes requests in any process of a port.

    Args:
        peers: the processes.
        live: what meets the requests, if this process does.

    Attributes:
        is_closing: whether requests that wait are refused.
    """

    def __init__(self, peers: Peers, live: LiveRepository | None) -> None:
        self._peers = peers
        self._live = live
        self._busy = Lock()
        self.is_closing = False
        self._askers = ThreadPoolExecutor(1, thread_name_prefix="control")
        peers.answer(_REQUEST, self._answer)

    def begin(self) -> None:
        """Follow the repository from now on, if this process is to; all processes have to be askable."""
        if self._live is not None:
            self._live.start()

    def load(self, name: str, done: Done, abandoned: Abandoned) -> None:
        """Load a model, or what is new of it; tell what became of that on another thread."""
        self._askers.submit(self._ask, "load", name, done, abandoned)

    def unload(self, name: str, done: Done, abandoned: Abandoned) -> None:
        """Take a model away until it is loaded."""
        self._askers.submit(self._ask, "unload", name, done, abandoned)

    def close(self) -> None:
        """Refuse the requests that wait, and end the thread that asks."""
        self.is_closing = True
        self._askers.shutdown()

    def _ask(self, action: str, name: str, done: Done, abandoned: Abandoned) -> None:
        if self.is_closing:
            done(DrainingError("the server is shutting down"))
            return
        if (reason := abandoned()) is not None:
            done(reason)
            return
        answers = self._peers.ask_all(_REQUEST, [action, name], _TIMEOUT_S)
        answer = next(filter(None, answers), None)
        if answer is None:
            done(errors.ModelNotReadyError("the worker that changes models is being replaced; try again"))
        else:
            kind, message = answer
            done(_KINDS.get(kind, errors.InternalError)(message) if kind else None)

    def _answer(self, told: JSON) -> JSON:
        """Meet a request: [kind of error or "", message]; None where another process does."""
        if self._live is None:
            return None
        action, name = told
        # The threads that answer are few, and the change needs some.
        if not self._busy.acquire(blocking=False):
            return [errors.ModelRefusedError.__name__, _BUSY]
        try:
            met: Future[ServiceError | None] = Future()
            meet: Callable[[str, Done], None] = self._live.load if action == "load" else self._live.unload
            meet(name, met.set_result)
            error = met.result()
        finally:
            self._busy.release()
        return [type(error).__name__, str(error)] if error else ["", ""]
