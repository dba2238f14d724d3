"""Metrics: what they count, over both transports; which address they are on; that they hold up nobody."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from threading import Event
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest
from structlog.testing import capture_logs

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service import metrics_port
from service.api.call_counts import REFUSALS
from service.api.status import STATUS
from service.errors import StartupError
from service.metrics import merged, packed
from service.metrics_port import metrics_served
from service.peers import Alone
from service.server import RunningServer
from service.settings import Settings
from tests.service.conftest import HeldRuns
from tests.service.oip.stub import InferenceStub, failure, request
from tests.service.scrape import Scrape, scraped
from tests.service.test_classify import digits
from tests.serving import Serving

Code = grpc.StatusCode
PORT_0 = "127.0.0.1:0"
DIGIT = pb.ClassifyRequest(tensor=pack(digits(1)))
THREE = pb.ClassifyRequest(tensor=pack(digits(3)))


@contextmanager
def measured(serving: Serving, **settings: object) -> Iterator[tuple[RunningServer, grpc.Channel]]:
    """Serve with a metrics port, and connect."""
    with (
        serving(metrics_address=PORT_0, **settings) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield server, channel


def test_calls_are_counted_by_method_and_code(serving: Serving) -> None:
    with measured(serving, max_request_bytes=20_000) as (server, channel):
        stub = ClassifierStub(channel)
        for _ in range(7):
            stub.Classify(DIGIT)
        for _ in range(2):
            assert failure(stub.Classify, pb.ClassifyRequest(model="resnet"))[0] is Code.NOT_FOUND
        assert failure(stub.Classify, pb.ClassifyRequest())[0] is Code.INVALID_ARGUMENT
        too_large = pb.ClassifyRequest(tensor=pack(digits(5)))
        assert failure(stub.Classify, too_large)[0] is Code.RESOURCE_EXHAUSTED
        infer = InferenceStub(channel).ModelInfer
        infer(request("lenet", [("image", "FP32", digits(2))]))
        scrape = Scrape(server.metrics_address)

    codes = {"OK": 7, "NotFound": 2, "InvalidArgument": 1}
    began, ended, timed, received, sent = scrape.calls("Classify")
    # grpcio itself refuses what is too large.
    seen = ended.pop("ResourceExhausted", 0)
    assert (began, ended, timed, received, sent) == (10 + seen, codes, 10 + seen, 10 + seen, 7)
    assert scrape.calls("ModelInfer") == (1, {"OK": 1}, 1, 1, 1)
    assert scrape.calls("ListModels") == (0, {}, 0, 0, 0)


def test_a_stream_is_a_call_and_each_of_its_messages_is_counted(serving: Serving) -> None:
    messages = [DIGIT, pb.ClassifyRequest(model="resnet"), THREE]
    with measured(serving) as (server, channel):
        stub = ClassifierStub(channel)
        for _ in range(2):
            assert len(list(stub.ClassifyStream(iter(messages)))) == 3
        scrape = Scrape(server.metrics_address)

    assert scrape.calls("ClassifyStream") == (2, {"OK": 2}, 2, 6, 6)
    assert scrape("featurelens_stream_message_seconds_count", grpc_method="ClassifyStream") == 6
    assert scrape("nv_inference_request_success", model="lenet") == 4


def test_a_stream_that_its_client_leaves_is_cancelled(serving: Serving) -> None:
    with measured(serving) as (server, channel):
        more = Event()

        def messages() -> Iterator[pb.ClassifyRequest]:
            yield DIGIT
            more.wait()

        answers = ClassifierStub(channel).ClassifyStream(messages())
        next(answers)
        during = Scrape(server.metrics_address)
        answers.cancel()
        more.set()
        after = scraped(server.metrics_address, "grpc_server_handled_total", 1, grpc_code="Canceled")

    assert during.calls("ClassifyStream") == (1, {}, 0, 1, 1)
    assert after.calls("ClassifyStream") == (1, {"Canceled": 1}, 1, 1, 1)


def test_requests_items_runs_and_times_of_a_model(serving: Serving) -> None:
    with measured(serving, max_batch_size=2) as (server, channel):
        stub = ClassifierStub(channel)
        for _ in range(4):
            stub.Classify(DIGIT)
        stub.Classify(THREE)  # two runs
        scrape = Scrape(server.metrics_address)

    names = ("request_success", "count", "exec_count")
    assert [scrape(f"nv_inference_{name}", model="lenet", version="1") for name in names] == [5, 7, 6]
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    times = [scrape(f"nv_inference_{part}_duration_us") for part in parts]
    assert times[0] > 0
    assert times[2] > 0
    assert sum(times) <= scrape("nv_inference_request_duration_us")
    assert scrape("featurelens_queue_seconds_count") == 5
    assert scrape("featurelens_queue_seconds_sum") == pytest.approx(times[0] / 1e6)
    assert scrape("featurelens_run_batch_size_count") == 6
    assert scrape("featurelens_run_batch_size_sum") == 7
    assert scrape.by("le", "featurelens_run_batch_size_bucket")["1.0"] == 5


def test_tap_sessions_are_counted(serving: Serving) -> None:
    with measured(serving, tap_sessions=1) as (server, channel):
        for layer in ("conv1", "conv1", "relu1"):
            ClassifierStub(channel).Classify(pb.ClassifyRequest(tensor=DIGIT.tensor, layers=[layer]))
        scrape = Scrape(server.metrics_address)

    names = ("sessions", "session_hits_total", "session_misses_total", "session_evictions_total")
    assert [scrape(f"featurelens_tap_{name}", model="lenet") for name in names] == [1, 1, 2, 1]
    assert scrape("featurelens_tap_session_bytes", model="lenet") > 4 * 63_802  # its parameters, and more


def test_the_response_cache_is_told(serving: Serving) -> None:
    with measured(serving, response_cache_mib=1) as (server, channel):
        for message in (DIGIT, DIGIT, DIGIT, THREE):
            ClassifierStub(channel).Classify(message)
        scrape = Scrape(server.metrics_address)

    assert scrape("nv_cache_num_hits_per_model", model="lenet", version="1") == 2
    assert scrape("nv_cache_num_misses_per_model", model="lenet", version="1") == 2
    assert scrape("nv_cache_hit_duration_per_model") > 0
    assert scrape("nv_cache_miss_duration_per_model") > 0
    assert scrape("featurelens_response_cache_bytes") > 0
    assert scrape("nv_inference_request_success") == 4
    assert scrape("featurelens_run_batch_size_count") == scrape("featurelens_queue_seconds_count") == 2


def test_what_waits_and_what_is_refused(held: HeldRuns, serving: Serving) -> None:
    limits = {
        "instances": 1,
        "max_queue_size": 2,
        "max_concurrent_calls": 4,
        "max_batch_size": 1,
        "max_images_per_request": 9,
    }
    with measured(serving, **limits) as (server, channel):
        stub = ClassifierStub(channel)
        first = stub.Classify.future(DIGIT)
        assert held.started.wait(20)
        waiting = [stub.Classify.future(DIGIT) for _ in range(2)]
        full = scraped(server.metrics_address, "nv_inference_pending_request_count", 2)
        refused = failure(stub.Classify, DIGIT), failure(stub.Classify, DIGIT)
        many = pb.ClassifyRequest(tensor=pack(digits(10)))
        assert failure(stub.Classify, many)[0] is Code.RESOURCE_EXHAUSTED
        held.may_run.set()
        for call in (first, *waiting):
            call.result()
        scrape = Scrape(server.metrics_address)

    assert [code for code, _ in refused] == [Code.RESOURCE_EXHAUSTED] * 2
    assert full("grpc_server_started_total", grpc_method="Classify") == 3
    assert full("grpc_server_handled_total", grpc_method="Classify") == 0
    assert scrape("nv_inference_pending_request_count") == 0
    assert scrape.by("reason", "featurelens_refusals_total") == {"queue_full": 2, "limit": 1}
    assert scrape.by("reason", "nv_inference_request_failure") == {"REJECTED": 2, "OTHER": 1}
    assert scrape.calls("Classify") == (6, {"OK": 3, "ResourceExhausted": 3}, 6, 6, 3)


def test_calls_over_the_limit_count_as_begun_and_refused(held: HeldRuns, serving: Serving) -> None:
    with measured(serving, max_concurrent_calls=1) as (server, channel):
        stub = ClassifierStub(channel)
        first = stub.Classify.future(DIGIT)
        assert held.started.wait(20)
        assert failure(stub.Classify, DIGIT)[0] is Code.RESOURCE_EXHAUSTED
        held.may_run.set()
        first.result()
        scrape = Scrape(server.metrics_address)

    assert scrape.by("reason", "featurelens_refusals_total") == {"too_many_calls": 1}
    assert scrape.calls("Classify") == (2, {"OK": 1, "ResourceExhausted": 1}, 2, 2, 1)


def test_calls_without_a_token_count_as_refused(serving: Serving) -> None:
    with measured(serving, tokens=sha256(b"secret").hexdigest()) as (server, channel):
        stub = ClassifierStub(channel)
        assert failure(stub.Classify, DIGIT)[0] is Code.UNAUTHENTICATED
        stub.Classify(DIGIT, metadata=(("authorization", "Bearer secret"),))
        scrape = Scrape(server.metrics_address)

    assert scrape.by("reason", "featurelens_refusals_total") == {"unauthenticated": 1}
    assert scrape.calls("Classify")[1] == {"OK": 1, "Unauthenticated": 1}


def test_calls_that_end_early_count_by_reason(held: HeldRuns, serving: Serving) -> None:
    with measured(serving, max_batch_size=1) as (server, channel):
        stub = ClassifierStub(channel)
        assert failure(stub.Classify, DIGIT, timeout=0.3)[0] is Code.DEADLINE_EXCEEDED
        cancelled = stub.Classify.future(DIGIT)
        scraped(server.metrics_address, "grpc_server_started_total", 2, grpc_method="Classify")
        cancelled.cancel()
        scrape = scraped(server.metrics_address, "nv_inference_request_failure", 2)
        held.may_run.set()

    assert scrape.by("reason", "nv_inference_request_failure") == {"REJECTED": 1, "CANCELED": 1}
    assert scrape.calls("Classify")[1] == {"DeadlineExceeded": 1, "Canceled": 1}


def test_every_error_of_load_is_counted_as_a_refusal() -> None:
    statuses = {Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.UNAUTHENTICATED, Code.PERMISSION_DENIED}

    assert {kind for kind, status in STATUS.items() if status in statuses} <= REFUSALS.keys()


def test_what_callers_send_never_becomes_a_label(serving: Serving) -> None:
    with measured(serving) as (server, channel):
        stub = ClassifierStub(channel)
        failure(stub.Classify, pb.ClassifyRequest(model="m"))
        before = len(Scrape(server.metrics_address).text.splitlines())
        for number in range(50):
            failure(stub.Classify, pb.ClassifyRequest(id=f"id{number}", model=f"model{number}"))
            failure(channel.unary_unary(f"/service{number}/method"), b"")
        scrape = Scrape(server.metrics_address)

    assert len(scrape.text.splitlines()) == before
    assert scrape.calls("Classify")[1] == {"NotFound": 51}


def test_idle_connections_to_the_metrics_hold_up_no_call(serving: Serving) -> None:
    with measured(serving) as (server, channel), ExitStack() as stack:
        host, _, port = server.metrics_address.rpartition(":")
        for _ in range(200):
            stack.enter_context(socket.create_connection((host, int(port)))).sendall(b"GET /met")
        for _ in range(20):
            ClassifierStub(channel).Classify(DIGIT, timeout=20)


def test_slow_requests_for_metrics_make_room(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many connections as are allowed say a little now and then, and never enough."""
    monkeypatch.setattr(metrics_port, "_LONG_S", 0.1)
    with measured(serving) as (server, _), ExitStack() as stack:
        host, _, port = server.metrics_address.rpartition(":")
        slow = [
            stack.enter_context(socket.create_connection((host, int(port))))
            for _ in range(metrics_port._MOST_CONNECTIONS)
        ]
        answer = b""
        while not answer:  # a scrape is refused only as long as all of them are young
            for each in slow:
                with suppress(OSError):
                    each.sendall(b"G")
            with suppress(OSError), urlopen(f"http://{server.metrics_address}/metrics", timeout=20) as scrape:
                answer = scrape.read()
        assert b"nv_inference" in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff" * 100 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /metrics?name[]=%ff HTTP/1.1\r\nAccept: application/openmetrics-text;version=x\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
    ],
    ids=["bytes", "HTTP/2", "long line", "many headers", "POST", "odd query", "odd URL"],
)
def test_odd_requests_for_metrics_leave_others_unharmed(serving: Serving, sent: bytes) -> None:
    with measured(serving) as (server, channel):
        host, _, port = server.metrics_address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=20) as connection,
            suppress(OSError),  # the server may close it before it has read all
        ):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        ClassifierStub(channel).Classify(DIGIT)
        scrape = Scrape(server.metrics_address)

    assert scrape("nv_inference_request_success") == 1


def test_only_the_metrics_are_there(serving: Serving) -> None:
    with measured(serving) as (server, _), pytest.raises(HTTPError) as info:
        urlopen(f"http://{server.metrics_address}/etc/passwd")

    with info.value as error:
        assert (error.code, error.headers["Server"]) == (404, "featurelens")


def test_without_an_address_there_is_no_port(serving: Serving) -> None:
    with serving(metrics_address="") as server:
        assert server.metrics_address == ""


@pytest.mark.parametrize("address", ["127.0.0.1:65536", "nonsense", "127.0.0.1:", "192.0.2.1:8002"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    settings = Settings(metrics_address=address)
    with pytest.raises(StartupError, match=r"can't serve metrics on .*another with --metrics-address"):
        metrics_served(settings, Alone()).__enter__()


def test_an_address_in_use_is_an_error_if_it_was_chosen_and_a_warning_if_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartupError, match="Address already in use"):
            metrics_served(Settings(metrics_address=address), Alone()).__enter__()
        by_default = Settings.model_construct(metrics_address=address, _fields_set=set())
        with capture_logs() as lines, metrics_served(by_default, Alone()) as told:
            assert told == ""

    assert [(line["log_level"], line["address"]) for line in lines] == [("warning", address)]


def test_an_address_without_a_host_is_every_address() -> None:
    peers = Alone()
    for question in ("counted", "present", "statistics"):
        peers.answer(question, lambda _: {})
    with metrics_served(Settings(metrics_address=":0"), peers) as told:
        assert Scrape(f"127.0.0.1{told}")("featurelens_workers", state="alive") == 1


def test_numbers_of_several_processes_are_joined() -> None:
    one = packed(
        {
            "nv_inference_count": {("a", "1"): [2.0]},
            "featurelens_queue_seconds": {("a", "1"): [1.0, 0.0, 5.0]},
            "process_max_fds": {(): [100.0]},
            "featurelens_build_info": {("1.0", "3.11"): [1.0]},
        }
    )
    other = packed(
        {
            "nv_inference_count": {("a", "1"): [3.0], ("b", "1"): [4.0]},
            "featurelens_queue_seconds": {("a", "1"): [0.0, 2.0, 7.0]},
            "process_max_fds": {(): [50.0]},
            "featurelens_build_info": {("1.0", "3.11"): [1.0]},
        }
    )

    assert merged([one, other]) == {
        "nv_inference_count": {("a", "1"): [5.0], ("b", "1"): [4.0]},
        "featurelens_queue_seconds": {("a", "1"): [1.0, 2.0, 12.0]},
        "process_max_fds": {(): [50.0]},
        "featurelens_build_info": {("1.0", "3.11"): [1.0]},
    }
