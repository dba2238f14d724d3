"""Refuses the calls that come without the right token, before grpcio reads their messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from typing import Any, TypeAlias
from urllib.parse import quote

import grpc

from service.api.call import Call, Observe
from service.api.status import status_of
from service.auth import Guard
from service.errors import ServiceError
from service.transport.limits import REQUEST_ID_KEY, request_id_in, status_message

_AnyHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class Doorkeeper(grpc.aio.ServerInterceptor):
    """Stands before every method of a server, those that it doesn't know included."""

    def __init__(self, guard: Guard, observe: Observe) -> None:
        self._guard = guard
        self._observe = observe

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_AnyHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _AnyHandler:
        """Let a call pass, or give it a handler that refuses it."""
        details = handler_call_details
        if refusal := self._guard(details.method, details.invocation_metadata):
            call = _RefusedCall(
                details.method, inf, request_id_in(details.invocation_metadata), self._observe
            )
            return grpc.stream_stream_rpc_method_handler(_refusing(call, refusal))
        return await continuation(details)


class _RefusedCall(Call):
    """A call that was over before it began: it is told about like any other."""

    def _send(self, outcome: bytes | ServiceError) -> None:
        """The handler sends it."""


def _refusing(
    call: Call, refusal: ServiceError
) -> Callable[[AsyncIterator[bytes], _Context], Awaitable[None]]:
    async def refuse(_requests: AsyncIterator[bytes], context: _Context) -> None:
        call.fail(refusal)
        context.set_trailing_metadata(((REQUEST_ID_KEY, quote(call.request_id, safe=" ")),))
        await context.abort(status_of(refusal), status_message(refusal))

    return refuse
