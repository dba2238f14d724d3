"""The reference transport: grpc.aio, bytes in, bytes out. It knows calls and statuses, not messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import quote

import grpc

from service.api.call import Call
from service.api.dispatch import Dispatcher, Handler, StreamMethod
from service.api.status import status_of
from service.auth import Guard
from service.errors import ServiceError, StartupError
from service.transport.limits import REQUEST_ID_KEY, TransportLimits, request_id_in, status_message

_Context = grpc.aio.ServicerContext[bytes, bytes]
_AnyHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


def build_server(
    dispatcher: Dispatcher, limits: TransportLimits, guard: Guard | None = None
) -> grpc.aio.Server:
    """Make a server of every method of the dispatcher; the caller binds an address and starts it.

    The guard stands before every method, those that are added later included.
    """
    interceptors = [_Doorkeeper(guard, limits)] if guard else []
    server = grpc.aio.server(interceptors=interceptors, options=_channel_options(limits))
    methods: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
    for name, handler in dispatcher.unary.items():
        service, _, method = name.lstrip("/").partition("/")
        unary = _unary(name, handler, dispatcher, limits)
        methods.setdefault(service, {})[method] = grpc.unary_unary_rpc_method_handler(unary)
    for name, stream_method in dispatcher.streams.items():
        service, _, method = name.lstrip("/").partition("/")
        stream = _stream(name, stream_method, dispatcher, limits)
        methods.setdefault(service, {})[method] = grpc.stream_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, handlers) for service, handlers in methods.items()]
    )
    return server


def bind(server: grpc.aio.Server, address: str, tls: grpc.ServerCredentials | None = None) -> str:
    """Bind an address, such as `127.0.0.1:8001`, and return it with the port that was really bound.

    Raises:
        StartupError: the address can't be bound.
    """
    try:
        port = server.add_secure_port(address, tls) if tls else server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if port == 0:
        raise StartupError(
            f"can't listen on {address}: it is in use or not an address of this machine; choose another"
            " with --grpc-address"
        )
    return f"{address.rpartition(':')[0]}:{port}"


def _channel_options(limits: TransportLimits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.max_request_bytes),
        ("grpc.max_send_message_length", limits.max_response_bytes),
        # By default a second server binds the same port silently.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", limits.max_concurrent_streams),
        ("grpc.keepalive_time_ms", limits.keepalive_time_s * 1000),
        ("grpc.keepalive_timeout_ms", limits.keepalive_timeout_s * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Refuses peers that ping more often than every 10 s.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


class _GrpcioCall(Call):
    """A call whose outcome goes to the event loop."""

    def __init__(
        self, method: str, context: _Context, limits: TransportLimits, arrive: Callable[[_GrpcioCall], None]
    ) -> None:
        request_id = request_id_in(context.invocation_metadata() or ())
        super().__init__(method, limits.deadline(context.time_remaining()), request_id)
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


def _unary(
    name: str, handler: Handler, dispatcher: Dispatcher, limits: TransportLimits
) -> Callable[[bytes, _Context], Awaitable[bytes]]:
    async def answer(request: bytes, context: _Context) -> bytes:
        arrived = asyncio.Event()
        call = _GrpcioCall(name, context, limits, lambda _: arrived.set())
        dispatcher.dispatch(handler, request, call)
        try:
            await arrived.wait()
        except asyncio.CancelledError:
            call.cancel()
            raise
        context.set_trailing_metadata(((REQUEST_ID_KEY, quote(call.request_id, safe=" ")),))
        if isinstance(call.outcome, ServiceError):
            await context.abort(status_of(call.outcome), status_message(call.outcome))
        return call.outcome

    return answer


def _stream(
    name: str, method: StreamMethod, dispatcher: Dispatcher, limits: TransportLimits
) -> Callable[[AsyncIterator[bytes], _Context], AsyncIterator[bytes]]:
    async def answer(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        slots = asyncio.Semaphore(limits.max_stream_in_flight)
        arrived: asyncio.Queue[_GrpcioCall | None] = asyncio.Queue()  # None: no more requests will come
        in_flight: set[_GrpcioCall] = set()

        async def read() -> None:
            try:
                async for request in requests:
                    await slots.acquire()
                    call = _GrpcioCall(name, context, limits, arrived.put_nowait)
                    in_flight.add(call)
                    dispatcher.dispatch(method.handler, request, call)
            finally:
                arrived.put_nowait(None)

        reader = asyncio.create_task(read())
        try:
            reading = True
            while reading or in_flight:
                if (call := await arrived.get()) is None:
                    reading = False
                    continue
                in_flight.remove(call)
                yield _in_band(call, method)
                slots.release()
            await reader
        finally:
            reader.cancel()
            for call in in_flight:
                call.cancel()

    return answer


class _Doorkeeper(grpc.aio.ServerInterceptor):
    """Refuses the calls that the guard refuses, before their messages are read."""

    def __init__(self, guard: Guard, limits: TransportLimits) -> None:
        self._guard = guard
        self._limits = limits

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_AnyHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _AnyHandler:
        """Let a call pass, or give it a handler that refuses it."""
        method = handler_call_details.method
        if refusal := self._guard(method, handler_call_details.invocation_metadata):
            return grpc.stream_stream_rpc_method_handler(_refusing(method, refusal, self._limits))
        return await continuation(handler_call_details)


def _refusing(
    method: str, refusal: ServiceError, limits: TransportLimits
) -> Callable[[AsyncIterator[bytes], _Context], Awaitable[None]]:
    async def refuse(_requests: AsyncIterator[bytes], context: _Context) -> None:
        call = _GrpcioCall(method, context, limits, lambda _: None)
        call.fail(refusal)
        context.set_trailing_metadata(((REQUEST_ID_KEY, quote(call.request_id, safe=" ")),))
        await context.abort(status_of(refusal), status_message(refusal))

    return refuse


def _in_band(call: _GrpcioCall, method: StreamMethod) -> bytes:
    if isinstance(call.outcome, ServiceError):
        return method.encode_error(call.request_id, call.outcome)
    return call.outcome
