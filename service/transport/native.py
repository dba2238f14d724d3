"""The fast transport: gRPC in Rust (pygrpc-native) for unary calls, and grpcio behind it for the rest.

The front hands over every call that is waiting in one trip, so a burst becomes a batch without a timer. It
knows no TLS, and no limit on the size of a message: that one is kept here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event, Thread, current_thread
from typing import TYPE_CHECKING
from urllib.parse import quote

from pygrpc_native import EVENT_CALL, NativeGrpcFront

from service.api.call import Call, Observe
from service.api.dispatch import Dispatcher
from service.api.status import status_of
from service.api.tracing.context import Metadata
from service.auth import Guard
from service.errors import DrainingError, LimitExceededError, ServiceError, StartupError
from service.transport.connections import ConnectionWatch
from service.transport.limits import REQUEST_ID_KEY, TransportLimits, request_id_in, status_message
from service.transport.unread import SMALL, UnreadAnswers

if TYPE_CHECKING:  # a type that exists in the .pyi only
    from pygrpc_native._native import DetailedEvent

_CALLS_PER_TRIP = 64
# How often deadlines are looked at, which matters for clients that set none, and how long a trip may keep its
# thread before another takes over receiving.
_WATCH_S = 0.05
# How often a server that stops looks whether the last answers have left.
_LEAVING_S = 0.005
# One does 40,000 calls a second: the other cores are for the models.
_IO_THREADS = 1


class NativeTransport:
    """Takes the calls of an address; what isn't unary goes on to a grpcio server on a Unix socket."""

    def __init__(
        self,
        address: str,
        fallback: str,
        dispatcher: Dispatcher,
        limits: TransportLimits,
        guard: Guard | None = None,
        *,
        reuse_port: bool = False,
    ) -> None:
        """Bind and start; others may bind the address too if they and this one want to reuse the port.

        Raises:
            StartupError: the address can't be bound.
        """
        self._dispatcher = dispatcher
        self._limits = limits
        self._guard = guard
        self._methods = list(dispatcher.unary.items())
        self._calls: dict[int, _NativeCall] = {}
        self._draining = False
        self._idle = Event()
        self._closed = Event()
        self._busy_since: float | None = None
        self.unread = UnreadAnswers(limits.max_unread_bytes)
        self._front = self._listen(address, fallback, reuse_port)
        self.unread.port = self._front.bound_port
        self._connections = ConnectionWatch(self._front.bound_port, limits, self.unread.keep)
        self.address = f"{address.rpartition(':')[0]}:{self._front.bound_port}"
        self._receiver = Thread(target=self._receive, name="native", daemon=True)
        self._receiver.start()
        self._watcher = Thread(target=self._watch, name="native-watch", daemon=True)
        self._watcher.start()

    def drain(self, grace_s: float) -> None:
        """Refuse new calls, and wait until those in flight are answered and their answers have left."""
        end = time.monotonic() + grace_s
        self._draining = True
        if self._calls:
            self._idle.wait(grace_s)
        begun, ended = self._counts()
        while ended < begun and time.monotonic() < end:
            self._closed.wait(_LEAVING_S)
            _, ended = self._counts()

    def close(self) -> None:
        """Close every connection; calls in flight end UNAVAILABLE."""
        self._closed.set()
        self._front.close()
        self._connections.close()
        self._watcher.join()
        self._receiver.join()

    def _listen(self, address: str, fallback: str, reuse_port: bool) -> NativeGrpcFront:
        limits = self._limits
        try:
            front = NativeGrpcFront(
                address,
                [(name, False) for name, _ in self._methods],
                io_threads=_IO_THREADS,
                call_details=True,
                metrics=True,  # for `drain`; a microsecond a call
                keepalive_time_ms=limits.keepalive_time_s * 1000,
                keepalive_timeout_ms=limits.keepalive_timeout_s * 1000,
                max_concurrent_streams=limits.max_concurrent_streams,
                max_metadata_size=limits.max_metadata_bytes,
                reuse_port=reuse_port,
            )
        except OSError as error:
            raise StartupError(
                f"can't listen on {address}: {error.strerror}; choose another with --grpc-address"
            ) from error
        front.set_fallback(fallback)
        front.start()
        return front

    def _counts(self) -> tuple[int, int]:
        """Tell how many calls have begun, and how many are over, their answers sent to the last byte."""
        counted = (self._front.metrics() or {"methods": {}})["methods"].values()
        statuses = [status["count"] for method in counted for status in method["status"].values()]
        return sum(method["started"] for method in counted), sum(statuses)

    def _receive(self) -> None:
        """Take calls and cancellations until the front is closed or another thread has taken over."""
        while True:
            events = self._front.recv_batch_details(_CALLS_PER_TRIP)
            if events is None:
                return
            self._busy_since = time.monotonic()
            with self._dispatcher.trip():
                self._take_all(events)
            events.clear()  # or their messages would stay in memory until the next ones come
            if self._receiver is not current_thread():
                return
            self._busy_since = None

    def _take_all(self, events: Sequence[DetailedEvent]) -> None:
        for kind, call_id, method_id, payload, _, details in events:
            if kind == EVENT_CALL and payload is not None and details is not None:
                self._take(call_id, method_id, payload, *details)
            elif call := self._calls.get(call_id):
                call.cancel()

    def _watch(self) -> None:
        """End calls whose deadline has passed; let another thread receive while a run keeps the one."""
        while not self._closed.wait(_WATCH_S):
            now = time.monotonic()
            for call in list(self._calls.values()):
                if call.deadline <= now:
                    call.time_out()
            if self._busy_since is not None and now - self._busy_since > _WATCH_S:
                self._busy_since = None
                self._receiver = Thread(target=self._receive, name="native", daemon=True)
                self._receiver.start()

    def _take(
        self,
        call_id: int,
        method_id: int,
        payload: bytes,
        metadata: tuple[tuple[str, str | bytes], ...],
        peer: str,
        remaining_s: float | None,
    ) -> None:
        name, handler = self._methods[method_id]
        deadline = self._limits.deadline(remaining_s)
        observe = self._dispatcher.observe
        call = _NativeCall(name, deadline, metadata, observe, self, call_id, peer)
        self._calls[call_id] = call
        if self._draining:
            call.fail(DrainingError("the server is shutting down; try another one"))
        elif self._guard and (refusal := self._guard(name, metadata)):
            call.fail(refusal)
        elif len(payload) > self._limits.max_request_bytes:
            call.fail(
                LimitExceededError(
                    f"the request has {len(payload)} bytes, the limit is {self._limits.max_request_bytes}"
                )
            )
        else:
            self._dispatcher.dispatch(handler, payload, call)

    def leave(self, call_id: int, outcome: bytes | ServiceError, request_id: str) -> None:
        """Send an outcome to the client; one that has gone is no error."""
        metadata = ((REQUEST_ID_KEY, request_id if _is_plain(request_id) else quote(request_id, safe=" ")),)
        if isinstance(outcome, ServiceError):
            code, _ = status_of(outcome).value
            self._front.fail(call_id, code, status_message(outcome), metadata)
        else:
            self._front.respond(call_id, outcome, None, metadata)
        self._calls.pop(call_id, None)
        if self._draining and not self._calls:
            self._idle.set()


class _NativeCall(Call):
    """A call whose outcome goes to the front."""

    __slots__ = ("_call_id", "_peer", "_transport")

    def __init__(
        self,
        method: str,
        deadline: float,
        metadata: Metadata,
        observe: Observe,
        transport: NativeTransport,
        call_id: int,
        peer: str,
    ) -> None:
        super().__init__(method, deadline, request_id_in(metadata), observe, metadata)
        self._transport = transport
        self._call_id = call_id
        self._peer = peer

    def _send(self, outcome: bytes | ServiceError) -> None:
        self._transport.leave(self._call_id, outcome, self.request_id)
        if isinstance(outcome, bytes) and len(outcome) >= SMALL:
            self._transport.unread.add(self._peer, len(outcome))


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isalnum()
