"""OpenTelemetry spans of calls that have ended, and of their stages."""

from __future__ import annotations

import time
from collections.abc import Iterator

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from service.api.call import Call
from service.api.status import status_of
from service.api.tracing.context import CallersSpan, Metadata, trace_state
from service.api.tracing.stages import Stage, stages
from service.errors import ServiceError

# https://opentelemetry.io/docs/specs/semconv/rpc/grpc/: with any other code it is the caller who erred.
_OUR_FAULTS = frozenset({"DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"})
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("featurelens")
_IDS = RandomIdGenerator()


class CallSpan(ReadableSpan):
    """The span of a call, from which those of its stages can be made.

    Attributes:
        own: its ids.
    """

    def __init__(
        self,
        call: Call,
        error: ServiceError | None,
        duration_ns: int,
        caller: CallersSpan | None,
        resource: Resource,
    ) -> None:
        code = "OK" if error is None else status_of(error).name
        is_fault = code in _OUR_FAULTS
        ended_ns = call.started_ns + duration_ns
        parent = None if caller is None else _parent(caller, call.metadata)
        self.own = _child(parent)
        self._clock_ns = time.time_ns() - time.perf_counter_ns()
        self._stages = [] if error else stages(call.tally, call.started_ns, ended_ns)
        super().__init__(
            call.method.lstrip("/"),
            self.own,
            parent,
            resource,
            _attributes(call, code),
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR, str(error)) if is_fault else Status(StatusCode.UNSET),
            start_time=self._clock_ns + call.started_ns,
            end_time=self._clock_ns + ended_ns,
            instrumentation_scope=_SCOPE,
        )

    def with_stages(self) -> Iterator[ReadableSpan]:
        """Yield the span and those of the stages, which are its children."""
        yield self
        for stage in self._stages:
            yield self._span_of(stage)

    def _span_of(self, stage: Stage) -> ReadableSpan:
        return ReadableSpan(
            stage.name,
            _child(self.own),
            self.own,
            self.resource,
            start_time=self._clock_ns + stage.start_ns,
            end_time=self._clock_ns + stage.end_ns,
            instrumentation_scope=_SCOPE,
        )


def _attributes(call: Call, code: str) -> dict[str, str | int]:
    """Describe a call: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/."""
    attributes: dict[str, str | int] = {
        "rpc.system.name": "grpc",
        "rpc.method": call.method.lstrip("/"),
        "rpc.response.status_code": code,
        "featurelens.request_id": call.request_id,
    }
    if code != "OK":
        attributes["error.type"] = code
    if call.tally is not None:
        attributes |= {f"featurelens.{name}": fact for name, fact in call.tally.facts().items()}
    return attributes


def _parent(caller: CallersSpan, metadata: Metadata) -> SpanContext:
    state = TraceState.from_header(trace_state(metadata))
    return SpanContext(int(caller.trace_id, 16), int(caller.span_id, 16), True, _SAMPLED, state)


def _child(parent: SpanContext | None) -> SpanContext:
    """Make the ids of a span below another, or of the first of a trace."""
    if parent is None:
        return SpanContext(_IDS.generate_trace_id(), _IDS.generate_span_id(), False, _SAMPLED)
    return SpanContext(parent.trace_id, _IDS.generate_span_id(), False, _SAMPLED, parent.trace_state)
