"""Admits calls to the handlers of their methods, and makes whatever a handler raises the call's failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from threading import Lock

import structlog
from structlog.typing import FilteringBoundLogger

from service.api.call import Call, Observe
from service.errors import InternalError, OverloadedError, ServiceError

_log: FilteringBoundLogger = structlog.get_logger()

Handler = Callable[[bytes, Call], None]
"""Takes an encoded request and ends the call, now or later, on whatever thread."""


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """A method of which each message of a stream is a call of its own."""

    handler: Handler
    encode_error: Callable[[str, ServiceError], bytes]
    """Makes the in-band answer for a message that failed, from its request id and the error."""


class Dispatcher:
    """Every method of the server, by its full name.

    Attributes:
        observe: to be told of every call that ends.
        stream: a block in which a transport serves a whole stream of the method that is named.
        admitted: how many calls of each method were let in so far.
        trip: a block in which a transport's thread dispatches calls that came together; at its end it does
            their runs, if they are short.
    """

    def __init__(
        self,
        unary: Mapping[str, Handler],
        streams: Mapping[str, StreamMethod],
        max_concurrent_calls: int,
        trip: Callable[[], AbstractContextManager[None]],
        observe: Observe,
        stream: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self.trip = trip
        self.observe = observe
        self.unary = unary
        self.streams = streams
        self.stream = stream
        self.admitted = dict.fromkeys([*unary, *streams], 0)
        self._max_concurrent_calls = max_concurrent_calls
        self._in_flight = 0
        self._lock = Lock()

    def dispatch(self, handler: Handler, request: bytes, call: Call) -> None:
        """Let a handler work on a call; never raises."""
        try:
            self._admit(call)
            handler(request, call)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the call's
            fail(call, error)

    def _admit(self, call: Call) -> None:
        with self._lock:
            if self._in_flight >= self._max_concurrent_calls:
                raise OverloadedError(
                    f"{self._max_concurrent_calls} calls are already in progress; try again later"
                )
            if call.on_end(self._leave):
                self._in_flight += 1
                self.admitted[call.method] += 1

    def _leave(self) -> None:
        with self._lock:
            self._in_flight -= 1


def fail(call: Call, error: Exception) -> None:
    """End a call with what was raised; of a fault of ours the log gets the traceback, the caller the id."""
    if isinstance(error, ServiceError):
        call.fail(error)
    else:
        _log.error("unexpected error", **call.ids(), exc_info=error)
        call.fail(InternalError("internal error"))


@contextmanager
def failing(call: Call) -> Iterator[None]:
    """End a call with whatever is raised inside the block; nothing gets out."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - see above
        fail(call, error)


def off_thread(handler: Handler, workers: Executor) -> Handler:
    """Make a handler work on an executor, so that the transport's thread goes on."""

    def work(request: bytes, call: Call) -> None:
        with failing(call):
            if (reason := call.abandoned()) is not None:
                raise reason
            handler(request, call)

    def submit(request: bytes, call: Call) -> None:
        workers.submit(work, request, call)

    return submit
