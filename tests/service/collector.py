"""An OpenTelemetry collector: a gRPC server that takes spans and keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(rpc.TraceServiceServicer):
    """What has come so far.

    Attributes:
        spans: In the order of their arrival.
        resources: Who sent them, one for each batch.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: list[Span] = []
        self.resources: list[Resource] = []
        self._lock = Lock()

    def Export(  # noqa: N802 - gRPC's name
        self, request: pb.ExportTraceServiceRequest, _context: object
    ) -> pb.ExportTraceServiceResponse:
        """Keep spans."""
        with self._lock:
            for sent in request.resource_spans:
                self.resources.append(sent.resource)
                self.spans += [span for scope in sent.scope_spans for span in scope.spans]
        return pb.ExportTraceServiceResponse()

    def calls(self) -> list[Span]:
        """Return the spans of calls, without those of stages."""
        return [span for span in self.spans if span.kind == Span.SPAN_KIND_SERVER]

    def below(self, parent: Span) -> list[Span]:
        """Return the children of a span by their start."""
        children = [span for span in self.spans if span.parent_span_id == parent.span_id]
        return sorted(children, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))


@contextmanager
def collecting(address: str = "127.0.0.1:0") -> Iterator[Collector]:
    """Collect until the block is left."""
    collector = Collector()
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, options=[("grpc.so_reuseport", 0)])
        rpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call] # generated
        port = server.add_insecure_port(address)
        collector.endpoint = f"http://127.0.0.1:{port}"
        server.start()
        try:
            yield collector
        finally:
            server.stop(None).wait()


def values(attributes: list[KeyValue]) -> dict[str, str | int]:
    """Return attributes by name."""
    return {a.key: a.value.string_value or a.value.int_value for a in attributes}
