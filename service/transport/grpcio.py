"""The reference transport: grpc.aio, bytes in, bytes out. It knows calls and statuses, not messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from math import inf
from urllib.parse import quote

import grpc

from service.api.call import Call, Observe
from service.api.dispatch import Dispatcher, Handler, StreamMethod
from service.api.status import status_of
from service.auth import Guard
from service.errors import DrainingError, ServiceError
from service.transport.accepting import AcceptingServer, Tls
from service.transport.connections import ConnectionWatch
from service.transport.doorkeeper import Doorkeeper
from service.transport.limits import REQUEST_ID_KEY, TransportLimits, request_id_in, status_message
from service.transport.unread import Backlog, UnreadAnswers

# How long no call may come for before connections are closed, and how long that is waited for at most.
_QUIET_S = 0.05
_MOST_WAIT_S = 1.0

_SHUTTING_DOWN = "the server is shutting down; try another one"

_Context = grpc.aio.ServicerContext[bytes, bytes]


class GrpcioTransport:
    """A server of every method of a dispatcher, and of the standard services.

    Attributes:
        limits: what it enforces.
        backlog: answers that wait for their streams.
        streams: those that are open.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        limits: TransportLimits,
        guard: Guard | None = None,
        services: Sequence[Callable[[grpc.aio.Server], None]] = (),
        *,
        reuse_port: bool = False,
    ) -> None:
        """Make the server; it has no address yet.

        Args:
            dispatcher: The methods.
            limits: What the transport enforces.
            guard: Stands before every method, those of the standard services included.
            services: Each adds one of the standard services to a server.
            reuse_port: Let others bind its address too, if they want to as well.
        """
        self._dispatcher = dispatcher
        self.limits = limits
        self._late: list[Call] | None = None  # a list from the moment on when no more calls are accepted
        self._closing = False
        self._unread = UnreadAnswers(limits.max_unread_bytes)
        self._connections: ConnectionWatch | None = None
        self.backlog = Backlog(limits.max_unread_bytes)
        self.streams: set[_Stream] = set()
        self._last_arrival_s = -inf
        doorkeepers = [Doorkeeper(guard, dispatcher.observe)] if guard else []
        options = _channel_options(limits, reuse_port)

        def make() -> grpc.aio.Server:
            server = grpc.aio.server(interceptors=doorkeepers, options=options)
            server.add_generic_rpc_handlers(list(self._generic_handlers()))
            for add in services:
                add(server)
            return server

        self._server = AcceptingServer(make)

    def bind(self, address: str, tls: Tls | None = None) -> str:
        """Bind an address, such as `127.0.0.1:8001`, and return it with the port that was really bound.

        Raises:
            StartupError: the address can't be bound.
        """
        port = self._server.bind(address, tls)
        if not address.startswith("unix:"):
            self._unread.port = port
            self._connections = ConnectionWatch(port, self.limits, self._unread.keep)
        return f"{address.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Take calls from now on."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, wait for those in flight, then close every connection.

        When it is told to stop, gRPC's core cancels the calls that it has and Python hasn't taken, as if
        their clients had wished so. So all are taken first, until no more come, and refused when clients have
        been told to go: one that calls again at once does so elsewhere.
        """
        self._late = []
        await self._until_quiet(min(_MOST_WAIT_S, grace_s))
        stopped = asyncio.create_task(self._server.stop(grace_s))
        await asyncio.sleep(0)  # lets it begin
        self._closing = True
        for call in self._late:
            _refuse(call)
        for stream in self.streams:
            stream.cut_off()
        await stopped
        if self._connections:
            await asyncio.to_thread(self._connections.close)

    async def _until_quiet(self, most_s: float) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + most_s
        # Not a poll: the end moves with each call that comes.
        while (wait_s := min(end_s, self._last_arrival_s + _QUIET_S) - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(wait_s)

    def _generic_handlers(self) -> Iterator[grpc.GenericRpcHandler]:
        methods: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
        for name, handler in self._dispatcher.unary.items():
            service, _, method = name.lstrip("/").partition("/")
            unary = self._unary(name, handler)
            methods.setdefault(service, {})[method] = grpc.unary_unary_rpc_method_handler(unary)
        for name, stream_method in self._dispatcher.streams.items():
            service, _, method = name.lstrip("/").partition("/")
            stream = self._stream(name, stream_method)
            methods.setdefault(service, {})[method] = grpc.stream_stream_rpc_method_handler(stream)
        for service, handlers in methods.items():
            yield grpc.method_handlers_generic_handler(service, handlers)

    def _take(self, handler: Handler, request: bytes, call: Call) -> None:
        self._last_arrival_s = asyncio.get_running_loop().time()
        if self._closing:
            _refuse(call)
        elif self._late is not None:
            self._late.append(call)
        else:
            self._dispatcher.dispatch(handler, request, call)

    def _unary(self, name: str, handler: Handler) -> Callable[[bytes, _Context], Awaitable[bytes]]:
        async def answer(request: bytes, context: _Context) -> bytes:
            arrived = asyncio.Event()
            call = _GrpcioCall(name, context, self.limits, self._dispatcher.observe, lambda _: arrived.set())
            self._take(handler, request, call)
            try:
                await arrived.wait()
            except asyncio.CancelledError:
                call.cancel()
                raise
            context.set_trailing_metadata(((REQUEST_ID_KEY, quote(call.request_id, safe=" ")),))
            if isinstance(call.outcome, ServiceError):
                await context.abort(status_of(call.outcome), status_message(call.outcome))
            self._unread.add(context.peer(), len(call.outcome))
            return call.outcome

        return answer

    def _stream(
        self, name: str, method: StreamMethod
    ) -> Callable[[AsyncIterator[bytes], _Context], AsyncIterator[bytes]]:
        async def answer(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
            if len(self.streams) >= self.limits.max_streams:
                reason = f"{self.limits.max_streams} streams are open; try again later"
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, reason)
            stream = _Stream(name, method, context, self)
            self.streams.add(stream)
            try:
                with self._dispatcher.stream(name):
                    async for message in stream.answers(requests):
                        self._unread.add(context.peer(), len(message))
                        yield message
            finally:
                self.streams.discard(stream)
            if stream.is_cut_off:
                await context.abort(grpc.StatusCode.UNAVAILABLE, _SHUTTING_DOWN)

        return answer

    def take(self, method: StreamMethod, request: bytes, call: Call) -> None:
        """Take a request of a stream."""
        self._take(method.handler, request, call)

    @property
    def observe(self) -> Observe:
        """Who is told of calls that have ended."""
        return self._dispatcher.observe


class _Stream:
    """One stream of requests and their answers, in any order.

    Attributes:
        is_cut_off: whether it ended because the server stops, and not because its client was done.
    """

    def __init__(
        self, name: str, method: StreamMethod, context: _Context, transport: GrpcioTransport
    ) -> None:
        self._name = name
        self._method = method
        self._context = context
        self._transport = transport
        self._slots = asyncio.Semaphore(transport.limits.max_stream_in_flight)
        # None: no more requests will come.
        self._arrived: asyncio.Queue[tuple[_GrpcioCall, bytes] | None] = asyncio.Queue()
        self._in_flight: set[_GrpcioCall] = set()
        self._task: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self.is_cut_off = False

    async def answers(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Read the requests, as many at once as there is room for, and give the answers as they come."""
        self._task = asyncio.current_task()
        self._reader = reader = asyncio.create_task(self._read(requests))
        try:
            reading = True
            while reading or self._in_flight:
                if (answered := await self._arrived.get()) is None:
                    reading = False
                    continue
                call, message = answered
                self._in_flight.remove(call)
                self._transport.backlog.add(self, -len(message))
                yield message
                self._slots.release()
            if not self.is_cut_off:
                await reader
        finally:
            reader.cancel()
            self._transport.backlog.forget(self)
            abandoned = list(self._in_flight)
            self._in_flight.clear()
            for call in abandoned:
                call.cancel()

    def cancel(self) -> None:
        """End the stream, and its calls, at once."""
        if self._task is not None:
            self._task.cancel()

    def cut_off(self) -> None:
        """Read no more requests, so that the stream ends when those in flight are answered."""
        if self._reader is not None:
            self.is_cut_off = self._reader.cancel()

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        transport = self._transport
        try:
            async for request in requests:
                await self._slots.acquire()
                call = _GrpcioCall(
                    self._name, self._context, transport.limits, transport.observe, self._arrive
                )
                self._in_flight.add(call)
                transport.take(self._method, request, call)
        finally:
            self._arrived.put_nowait(None)

    def _arrive(self, call: _GrpcioCall) -> None:
        if call in self._in_flight:  # else the stream has ended
            message = _in_band(call, self._method)
            self._arrived.put_nowait((call, message))
            self._transport.backlog.add(self, len(message))


def _channel_options(limits: TransportLimits, reuse_port: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.max_request_bytes),
        ("grpc.max_send_message_length", limits.max_response_bytes),
        # By default a second server binds the same port silently.
        ("grpc.so_reuseport", int(reuse_port)),
        ("grpc.max_concurrent_streams", limits.max_concurrent_streams),
        # By default what is over half of it is refused at random.
        ("grpc.max_metadata_size", limits.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_metadata_bytes),
        ("grpc.keepalive_time_ms", limits.keepalive_time_s * 1000),
        ("grpc.keepalive_timeout_ms", limits.keepalive_timeout_s * 1000),
        # Without it a ping is waited for a minute, whatever the line above says.
        ("grpc.http2.ping_timeout_ms", limits.keepalive_timeout_s * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Refuses peers that ping more often than every 10 s.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


class _GrpcioCall(Call):
    """A call whose outcome goes to the event loop."""

    def __init__(
        self,
        method: str,
        context: _Context,
        limits: TransportLimits,
        observe: Observe,
        arrive: Callable[[_GrpcioCall], None],
    ) -> None:
        metadata = context.invocation_metadata() or ()
        deadline = limits.deadline(context.time_remaining())
        super().__init__(method, deadline, request_id_in(metadata), observe, metadata)
        self.outcome: bytes | ServiceError = b""
        self._loop = asyncio.get_running_loop()
        self._arrive = arrive
        self._timer = self._loop.call_at(self.deadline, self.time_out)

    def tighten(self, timeout_s: float) -> None:
        """Bring the deadline forward."""
        super().tighten(timeout_s)
        self._loop.call_soon_threadsafe(self._rearm)

    def _send(self, outcome: bytes | ServiceError) -> None:
        self.outcome = outcome
        self._loop.call_soon_threadsafe(self._finish)

    def _rearm(self) -> None:
        if not self._ended:
            self._timer.cancel()
            self._timer = self._loop.call_at(self.deadline, self.time_out)

    def _finish(self) -> None:
        self._timer.cancel()
        self._arrive(self)


def _refuse(call: Call) -> None:
    call.fail(DrainingError(_SHUTTING_DOWN))


def _in_band(call: _GrpcioCall, method: StreamMethod) -> bytes:
    if isinstance(call.outcome, ServiceError):
        return method.encode_error(call.request_id, call.outcome)
    return call.outcome
