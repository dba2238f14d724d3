"""Traces, as a collector gets them: over both transports."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult
from structlog.testing import capture_logs

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as oip
from protos.tensors import pack
from service.api.call import Call
from service.api.dispatch import fail
from service.api.tracing.context import CallersSpan, callers_span
from service.api.tracing.exporter import CallExporter
from service.api.tracing.spans import CallSpan
from service.errors import ServiceError, StartupError
from tests.service.collector import Collector, collecting, values
from tests.service.oip.stub import InferenceStub
from tests.service.oip.stub import request as infer_request
from tests.service.test_classify import SAMPLES, digits, of_images
from tests.serving import Serving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
UNSAMPLED = f"00-{TRACE}-{PARENT}-00"
REQUEST = pb.ClassifyRequest(tensor=pack(digits(2)), id="seven")
INFER = infer_request("lenet", [("image", "FP32", digits(1))])
STAGES = ["decode", "queue", "run", "encode"]


class SilentCall(Call):
    """A call whose outcome goes nowhere."""

    def _send(self, outcome: bytes | ServiceError) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@contextmanager
def traced(
    serving: Serving, collector: Collector, ratio: float, **settings: object
) -> Iterator[grpc.Channel]:
    """Serve until the block is left; then the collector has all there is."""
    with (
        serving(trace_endpoint=collector.endpoint, trace_sample_ratio=ratio, **settings) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield channel


def status_of(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as info:
        call()
    return str(info.value.code().name)


def test_a_call_is_a_span_below_its_callers(serving: Serving, collector: Collector) -> None:
    metadata = (("traceparent", SAMPLED), ("tracestate", "vendor=1"), ("tracestate", "other=2"))
    with traced(serving, collector, ratio=0) as channel:
        ClassifierStub(channel).Classify(REQUEST, metadata=metadata)

    (span,) = collector.calls()
    assert span.name == "featurelens.v1.Classifier/Classify"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.trace_state == "vendor=1,other=2"
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert values(list(span.attributes)) == {
        "rpc.system.name": "grpc",
        "rpc.method": "featurelens.v1.Classifier/Classify",
        "rpc.response.status_code": "OK",
        "featurelens.request_id": "seven",
        "featurelens.model": "lenet",
        "featurelens.version": "1",
        "featurelens.samples": 2,
        "featurelens.layers": 0,
        "featurelens.run_batch_size": 2,
    }
    assert values(list(collector.resources[0].attributes))["service.name"] == "featurelens"


@pytest.mark.parametrize("method", ["Classify", "ModelInfer", "ClassifyStream"])
def test_its_stages_are_spans_below_it_one_after_the_other(
    serving: Serving, collector: Collector, method: str
) -> None:
    with traced(serving, collector, ratio=1) as channel:
        match method:
            case "Classify":
                ClassifierStub(channel).Classify(REQUEST)
            case "ModelInfer":
                InferenceStub(channel).ModelInfer(INFER)
            case "ClassifyStream":
                list(ClassifierStub(channel).ClassifyStream(iter([REQUEST])))

    (span,) = collector.calls()
    children = collector.below(span)
    assert span.name.endswith(f"/{method}")
    assert [child.name for child in children] == STAGES
    assert {child.trace_id for child in children} == {span.trace_id}
    assert {child.kind for child in children} == {Span.SPAN_KIND_INTERNAL}
    times = [t for child in children for t in (child.start_time_unix_nano, child.end_time_unix_nano)]
    assert times == sorted(times)
    assert span.start_time_unix_nano <= times[0] < times[-1] == span.end_time_unix_nano


def test_decoding_of_images_is_a_stage(serving: Serving, collector: Collector) -> None:
    request = of_images(SAMPLES[0].read_bytes())
    with traced(serving, collector, ratio=1) as channel:
        timings = ClassifierStub(channel).Classify(request).timings

    (span,) = collector.calls()
    decode, queue, run, _ = collector.below(span)
    assert decode.end_time_unix_nano - decode.start_time_unix_nano == timings.decode_ns
    assert queue.end_time_unix_nano - queue.start_time_unix_nano == timings.queue_ns
    assert run.end_time_unix_nano - run.start_time_unix_nano == timings.compute_ns


def test_an_answer_of_the_cache_has_a_stage_of_its_own(serving: Serving, collector: Collector) -> None:
    with traced(serving, collector, ratio=1, response_cache_mib=1) as channel:
        for _ in range(2):
            InferenceStub(channel).ModelInfer(INFER)

    stages = [[child.name for child in collector.below(span)] for span in collector.calls()]
    assert stages == [STAGES, ["decode", "cache", "encode"]]


@pytest.mark.parametrize(
    ("refused", "code"),
    [(pb.ClassifyRequest(model="nope"), "NOT_FOUND"), (pb.ClassifyRequest(), "INVALID_ARGUMENT")],
)
def test_a_callers_fault_is_no_error_of_the_span(
    serving: Serving, collector: Collector, refused: pb.ClassifyRequest, code: str
) -> None:
    with traced(serving, collector, ratio=1) as channel:
        assert status_of(lambda: ClassifierStub(channel).Classify(refused)) == code

    (span,) = collector.spans
    attributes = values(list(span.attributes))
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert (attributes["rpc.response.status_code"], attributes["error.type"]) == (code, code)


def test_a_fault_of_ours_is_an_error(serving: Serving, collector: Collector) -> None:
    with traced(serving, collector, ratio=1) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/inference.GRPCInferenceService/LogSettings"
        )
        assert status_of(lambda: call(b"")) == "UNIMPLEMENTED"

    (span,) = collector.spans
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert span.status.message


@pytest.mark.parametrize(
    ("ratio", "traceparent", "count"),
    [
        pytest.param(0, None, 0, id="none"),
        pytest.param(1, None, 3, id="all"),
        pytest.param(0, SAMPLED, 3, id="those whose caller is"),
        pytest.param(1, UNSAMPLED, 0, id="not those whose caller isn't"),
        pytest.param(1, "nonsense", 3, id="nonsense is no caller"),
    ],
)
def test_which_calls_are_traced(
    serving: Serving, collector: Collector, ratio: float, traceparent: str | None, count: int
) -> None:
    metadata = (("traceparent", traceparent),) if traceparent else ()
    with traced(serving, collector, ratio) as channel:
        for _ in range(3):
            ClassifierStub(channel).Classify(REQUEST, metadata=metadata)

    assert len(collector.calls()) == count
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)
    expected = {TRACE} if traceparent == SAMPLED else {span.trace_id.hex() for span in collector.calls()}
    assert {span.trace_id.hex() for span in collector.spans} == (expected if count else set())


def test_probes_are_not_traced(serving: Serving, collector: Collector) -> None:
    with traced(serving, collector, ratio=1) as channel:
        InferenceStub(channel).ServerLive(oip.ServerLiveRequest())
        InferenceStub(channel).ServerReady(oip.ServerReadyRequest())

    assert collector.spans == []


def test_log_lines_name_the_trace(serving: Serving, collector: Collector) -> None:
    with capture_logs() as lines, traced(serving, collector, ratio=1) as channel:
        ClassifierStub(channel).Classify(REQUEST, metadata=(("traceparent", UNSAMPLED),))
        ClassifierStub(channel).Classify(REQUEST)

    (span,) = collector.calls()
    traces = [line.get("trace_id") for line in lines if line["event"] == "call"]
    assert traces == [TRACE, span.trace_id.hex()]


def test_a_faults_log_line_names_the_callers_trace_without_any_collector() -> None:
    call = SilentCall("/a.B/C", 1e9, "r", lambda *_: None, (("traceparent", SAMPLED),))
    with capture_logs() as lines:
        fail(call, RuntimeError("broken"))

    assert [(line["request_id"], line["trace_id"]) for line in lines] == [("r", TRACE)]


def test_a_collector_that_is_down_is_one_line_in_the_log(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as nobody:  # bound, so that nobody else takes the port, and not listening
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with (
            capture_logs() as lines,
            serving(trace_endpoint=endpoint, trace_sample_ratio=1) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            for _ in range(20):
                ClassifierStub(channel).Classify(REQUEST)

    (line,) = [line for line in lines if line["log_level"] == "warning"]
    assert (line["event"], line["endpoint"]) == ("the collector takes no traces", endpoint)
    assert line["reason"]
    assert caplog.records == []


def test_an_end_does_not_wait_long_for_a_collector_that_never_answers(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            serving(trace_endpoint=endpoint, trace_sample_ratio=1) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            ClassifierStub(channel).Classify(REQUEST)

    assert caplog.records == []


def test_an_outage_and_its_end_are_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    with collecting() as collector:
        address = collector.endpoint.removeprefix("http://")
    exporter = CallExporter(collector.endpoint)
    span = CallSpan(SilentCall("/a.B/C", 1e9, "r", lambda *_: None), None, 1000, None, Resource({}))

    with capture_logs() as lines:
        outcomes = [exporter.export([span]), exporter.export([span])]
        with collecting(address):
            outcomes += [exporter.export([span]), exporter.export([span])]
    exporter.shutdown()

    failure, success = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
    assert outcomes == [failure, failure, success, success]
    assert [line["event"] for line in lines] == [
        "the collector takes no traces",
        "the collector takes traces again",
    ]


@pytest.mark.parametrize("endpoint", ["localhost:4317", "http://", "ftp://x"])
def test_an_endpoint_is_a_url(serving: Serving, endpoint: str) -> None:
    with pytest.raises(ValueError, match="trace_endpoint"), serving(trace_endpoint=endpoint):
        pass


def test_without_opentelemetry_the_extra_is_named(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "service.api.tracing.tracer", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)

    with (
        pytest.raises(StartupError, match=r"pip install 'featurelens\[otel\]'"),
        serving(trace_endpoint="http://127.0.0.1:1"),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SAMPLED, CallersSpan(TRACE, PARENT, True)),
        (UNSAMPLED, CallersSpan(TRACE, PARENT, False)),
        (f"00-{TRACE}-{PARENT}-03", CallersSpan(TRACE, PARENT, True)),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-brings", CallersSpan(TRACE, PARENT, True)),
        (f"cc-{TRACE}-{PARENT}-01", CallersSpan(TRACE, PARENT, True)),
        (f"ff-{TRACE}-{PARENT}-01", None),
        (f"00-{TRACE}-{PARENT}-01-more", None),
        (f"00-{TRACE}-{PARENT}-01.", None),
        (f"00-{TRACE.upper()}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE[1:]}-{PARENT}-01", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_the_standard_says(text: str, expected: CallersSpan | None) -> None:
    assert callers_span((("x-request-id", "r"), ("traceparent", text))) == expected


def test_metadata_without_a_traceparent_names_no_caller() -> None:
    assert callers_span((("x-request-id", "r"), ("traceparent-bin", b"\0"))) is None
