"""A call: one request on its way through the server, and the place where its answer leaves.

A transport subclasses Call to say how an answer travels. Whoever holds the call ends it once, from any
thread, with `succeed` or `fail`; what comes later is ignored, so a deadline and a result may race.
"""

from __future__ import annotations

import itertools
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import Lock

import structlog
from structlog.typing import FilteringBoundLogger

from service.api.tally import Tally
from service.api.tracing.context import Metadata, callers_span
from service.errors import (
    CancelledError,
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    ServiceError,
)

_log: FilteringBoundLogger = structlog.get_logger()

_MAX_ID_CHARACTERS = 256
# Ids of calls that come without one: unique in the world by the process's part, cheap by counting.
_PROCESS = os.urandom(8).hex()
_numbers = itertools.count(1)


Observe = Callable[["Call", ServiceError | None, int], None]
"""Is told of every call that ends: why it failed, if it did, and how many nanoseconds it took."""


def all_told(*observers: Observe) -> Observe:
    """Make one of several, which are told in this order."""
    if len(observers) == 1:
        return observers[0]

    def tell(call: Call, error: ServiceError | None, duration_ns: int) -> None:
        for observe in observers:
            observe(call, error, duration_ns)

    return tell


class Call(ABC):
    """One request on its way.

    Attributes:
        method: full name, such as `/featurelens.v1.Classifier/Classify`.
        deadline: on time.monotonic's clock, in seconds.
        started_ns: when it arrived, on time.perf_counter_ns's clock.
        tally: what it asks of a model, once that is known.
        metadata: what came with it.
        trace_id: the trace that was begun for it, in hexadecimal; the caller's is in the metadata.
    """

    __slots__ = (
        "_ended",
        "_lock",
        "_observe",
        "_on_end",
        "_request_id",
        "deadline",
        "metadata",
        "method",
        "started_ns",
        "tally",
        "trace_id",
    )

    def __init__(
        self,
        method: str,
        deadline: float,
        request_id: str | None,
        observe: Observe,
        metadata: Metadata = (),
    ) -> None:
        self.method = method
        self.metadata = metadata
        self.trace_id = ""
        self._observe = observe
        self.deadline = deadline
        self._request_id = request_id
        self.started_ns = time.perf_counter_ns()
        self.tally: Tally | None = None
        self._ended = False
        self._on_end: Callable[[], None] | None = None
        self._lock = Lock()

    @property
    def request_id(self) -> str:
        """The caller's id, else one that is made when somebody first asks."""
        if self._request_id is None:
            self._request_id = f"{_PROCESS}{next(_numbers):x}"
        return self._request_id

    @property
    def is_admitted(self) -> bool:
        """Whether it was let in, as the limits on calls have it."""
        return self._on_end is not None

    def identify(self, request_id: str) -> None:
        """Take the id that the message gives, if it gives one.

        Raises:
            InvalidRequestError: it is too long.
        """
        if len(request_id) > _MAX_ID_CHARACTERS:
            raise InvalidRequestError(
                f"the id has {len(request_id)} characters, the limit is {_MAX_ID_CHARACTERS}; shorten it"
            )
        self._request_id = request_id or self._request_id

    def ids(self) -> dict[str, str]:
        """Tell what the log calls it: its request id, and its trace, if it is part of one."""
        ids = {"request_id": self.request_id}
        if self.trace_id:
            ids["trace_id"] = self.trace_id
        elif caller := callers_span(self.metadata):
            ids["trace_id"] = caller.trace_id
        return ids

    def tighten(self, timeout_s: float) -> None:
        """Bring the deadline forward, unless it is sooner already."""
        self.deadline = min(self.deadline, time.monotonic() + timeout_s)

    def on_end(self, callback: Callable[[], None]) -> bool:
        """Have the callback called when the call ends, on the thread that ends it; False if it has ended."""
        with self._lock:
            if not self._ended:
                self._on_end = callback
            return not self._ended

    def succeed(self, answer: bytes) -> None:
        """End the call with an encoded answer."""
        if self._end(None):
            self._send(answer)

    def fail(self, error: ServiceError) -> None:
        """End the call with an error."""
        if self._end(error):
            self._send(self._with_request_id(error))

    def time_out(self) -> None:
        """End the call because its deadline passed."""
        self.fail(DeadlineExceededError("the deadline passed before the answer was ready"))

    def cancel(self) -> None:
        """End the call because its client went away, or because the client's own deadline passed."""
        if time.monotonic() >= self.deadline:
            self.time_out()
        else:
            self.fail(CancelledError("the client cancelled the call"))

    def abandoned(self) -> ServiceError | None:
        """Tell why nobody waits for the answer any more, if so."""
        if self._ended:
            return CancelledError("the call has ended")
        if time.monotonic() >= self.deadline:
            return DeadlineExceededError("the deadline passed before the model could run")
        return None

    @abstractmethod
    def _send(self, outcome: bytes | ServiceError) -> None:
        """Let the answer or the error leave; called once, from any thread."""

    def _end(self, error: ServiceError | None) -> bool:
        with self._lock:
            if self._ended:
                return False
            self._ended = True
        duration_ns = time.perf_counter_ns() - self.started_ns
        try:
            if self.tally is not None:
                self.tally.count(duration_ns, error)
            self._observe(self, error, duration_ns)
        except Exception:  # noqa: BLE001 - what is counted or logged keeps nobody from the answer
            _log.exception("unexpected error in counting a call", **self.ids())
        if self._on_end is not None:
            self._on_end()
            self._on_end = None  # it may hold the call: no cycle is left for the garbage collector
        return True

    def _with_request_id(self, error: ServiceError) -> ServiceError:
        """Give an internal error the id under which the log tells more."""
        if isinstance(error, InternalError):
            return type(error)(f"{error}; the server's log has more under request id {self.request_id}")
        return error
