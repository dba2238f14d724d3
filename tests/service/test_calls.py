"""What holds for every call: ids, deadlines, cancellation, limits on concurrency, faults of ours, health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from queue import Queue
from threading import Thread
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.model import Model
from tests.service.conftest import HeldRuns
from tests.service.test_classify import digits
from tests.serving import Serving

REQUEST = pb.ClassifyRequest(tensor=pack(digits(1)))
TIMEOUT_S = 20


def error_of(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as info:
        call()
    error: Any = info.value
    return error.code().name, error.details()


def test_the_callers_id_comes_back_in_answer_and_metadata(stub: ClassifierStub) -> None:
    response, call = stub.Classify.with_call(pb.ClassifyRequest(id="a b/ü", tensor=pack(digits(1))))
    assert response.id == "a b/ü"
    assert ("x-request-id", "a b%2F%C3%BC") in [tuple(entry) for entry in call.trailing_metadata()]


def test_an_id_in_the_metadata_counts_where_the_message_has_none(stub: ClassifierStub) -> None:
    response = stub.Classify(REQUEST, metadata=(("x-request-id", "from-the-proxy"),))
    assert response.id == "from-the-proxy"


@pytest.mark.parametrize("sent", ["x" * 257, "%" * 8000])
def test_an_id_in_the_metadata_that_is_too_long_is_not_taken(stub: ClassifierStub, sent: str) -> None:
    response, call = stub.Classify.with_call(REQUEST, metadata=(("x-request-id", sent),))
    assert 0 < len(response.id) <= 256
    assert dict(call.trailing_metadata())["x-request-id"] == response.id


def test_the_longest_id_in_the_metadata_comes_back(stub: ClassifierStub) -> None:
    response, call = stub.Classify.with_call(REQUEST, metadata=(("x-request-id", "%" * 256),))
    assert response.id == "%" * 256
    assert dict(call.trailing_metadata())["x-request-id"] == "%25" * 256


def test_a_call_without_an_id_gets_one_of_its_own(stub: ClassifierStub) -> None:
    first, second = stub.Classify(REQUEST).id, stub.Classify(REQUEST).id
    assert first
    assert first != second


def test_the_callers_deadline_holds(held: HeldRuns, serving: Serving) -> None:
    with serving() as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        code, _ = error_of(lambda: stub.Classify(REQUEST, timeout=0.2))
        assert code == "DEADLINE_EXCEEDED"
        held.may_run.set()
        assert stub.Classify(REQUEST).results


def test_a_call_without_a_deadline_gets_the_servers(held: HeldRuns, serving: Serving) -> None:
    with serving(default_deadline_s=0.2) as server, grpc.insecure_channel(server.address) as channel:
        code, details = error_of(lambda: ClassifierStub(channel).Classify(REQUEST))
        assert code == "DEADLINE_EXCEEDED"
        assert details == "the deadline passed before the answer was ready"
        held.may_run.set()


async def test_a_cancelled_call_in_the_queue_never_runs(held: HeldRuns, serving: Serving) -> None:
    with serving(instances=1) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: Any = ClassifierStub(channel)
            running = stub.Classify(REQUEST)
            await asyncio.to_thread(held.started.wait, TIMEOUT_S)
            queued = stub.Classify(pb.ClassifyRequest(tensor=pack(digits(1)), layers=["conv1"]))
            other: Any = ClassifierStub(channel)
            await other.ListModels(pb.ListModelsRequest())  # by now the queued call has arrived as well
            queued.cancel()
            with pytest.raises(asyncio.CancelledError):
                await queued
            await other.ListModels(pb.ListModelsRequest())
            held.may_run.set()
            assert (await running).results
            assert (await stub.Classify(REQUEST)).results
    assert held.count == 2


def test_calls_over_the_limit_are_refused_at_once(held: HeldRuns, serving: Serving) -> None:
    with serving(max_concurrent_calls=1) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        running = stub.Classify.future(REQUEST)
        assert held.started.wait(TIMEOUT_S)
        code, details = error_of(lambda: stub.Classify(REQUEST))
        assert (code, details) == (
            "RESOURCE_EXHAUSTED",
            "1 calls are already in progress; try again later",
        )
        held.may_run.set()
        assert running.result(timeout=TIMEOUT_S).results
        assert stub.Classify(REQUEST).results


def test_a_full_queue_is_resource_exhausted(held: HeldRuns, serving: Serving) -> None:
    with serving(instances=1, max_queue_size=1) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        running = stub.Classify.future(REQUEST)
        assert held.started.wait(TIMEOUT_S)
        ended: Queue[Any] = Queue()
        for _ in range(5):
            stub.Classify.future(REQUEST).add_done_callback(ended.put)
        refused = [ended.get(timeout=TIMEOUT_S) for _ in range(4)]
        assert {call.code().name for call in refused} == {"RESOURCE_EXHAUSTED"}
        assert refused[0].details() == "1 requests already wait for this model; try again later"
        held.may_run.set()
        assert ended.get(timeout=TIMEOUT_S).result().results
        assert running.result(timeout=TIMEOUT_S).results


def test_a_fault_of_ours_is_internal_and_leaks_nothing(
    monkeypatch: pytest.MonkeyPatch, serving: Serving
) -> None:
    def explode(*_: object) -> None:
        raise ValueError("secret path /models/x.onnx")

    with serving() as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        with monkeypatch.context() as patch:
            patch.setattr(Model, "check_inputs", explode)
            code, details = error_of(
                lambda: stub.Classify(pb.ClassifyRequest(id="r1", tensor=pack(digits(1))))
            )
        assert code == "INTERNAL"
        assert details == "internal error; the server's log has more under request id r1"
        assert stub.Classify(REQUEST).results


@pytest.mark.parametrize("method", ["Classify", "DescribeModel"])
def test_bytes_that_are_no_message_are_refused(channel: grpc.Channel, method: str) -> None:
    call: Any = channel.unary_unary(f"/featurelens.v1.Classifier/{method}", None, None)
    code, details = error_of(lambda: call(b"\xff\xff\xff"))
    assert code == "INVALID_ARGUMENT"
    assert "is not an encoded" in details


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    call: Any = channel.unary_unary("/featurelens.v1.Classifier/Explain", None, None)
    assert error_of(lambda: call(b""))[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize("service", ["", "featurelens.v1.Classifier"])
def test_health_check_says_serving(channel: grpc.Channel, service: str, serving: Serving) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service_is_not_found(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    assert error_of(lambda: stub.Check(health_pb2.HealthCheckRequest(service="x")))[0] == "NOT_FOUND"


def watch_health(channel: grpc.Channel, service: str = "") -> Queue[str]:
    """Watch a service on a thread of its own; the queue gets its states, then the status of the end."""
    seen: Queue[str] = Queue()
    call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service))

    def watch() -> None:
        try:
            for answer in call:
                seen.put(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
        except grpc.RpcError:
            seen.put(call.code().name)

    Thread(target=watch, daemon=True).start()
    return seen


@pytest.mark.parametrize("drain_s", [0, 0.2])
def test_open_watches_see_the_drain_and_do_not_hold_up_the_stop(serving: Serving, drain_s: float) -> None:
    """Were they waited for, the server would take the grace, which is longer than this test may."""
    names = ("", "featurelens.v1.Classifier", "")
    with ExitStack() as stack:
        with serving(drain_s=drain_s, grace_s=600) as server:
            channels = [stack.enter_context(grpc.insecure_channel(server.address)) for _ in names]
            watches = [watch_health(*watched) for watched in zip(channels, names, strict=True)]
            assert [seen.get(timeout=TIMEOUT_S) for seen in watches] == ["SERVING"] * 3
        ends = [(seen.get(timeout=TIMEOUT_S), seen.get(timeout=TIMEOUT_S)) for seen in watches]
    assert ends == [("NOT_SERVING", "UNAVAILABLE")] * 3


def test_a_watch_outlives_others_of_the_same_service(serving: Serving) -> None:
    with ExitStack() as stack:
        with serving() as server:
            first, second = (stack.enter_context(grpc.insecure_channel(server.address)) for _ in range(2))
            leaving, staying = watch_health(first), watch_health(second)
            assert [leaving.get(timeout=TIMEOUT_S), staying.get(timeout=TIMEOUT_S)] == ["SERVING"] * 2
            first.close()
            assert leaving.get(timeout=TIMEOUT_S) == "CANCELLED"
        assert staying.get(timeout=TIMEOUT_S) == "NOT_SERVING"


def test_watching_an_unknown_service_is_no_error(channel: grpc.Channel) -> None:
    assert watch_health(channel, "x").get(timeout=TIMEOUT_S) == "SERVICE_UNKNOWN"


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(iter(stub.ServerReflectionInfo(iter([request]))))
    names = {service.name for service in answer.list_services_response.service}
    assert {"featurelens.v1.Classifier", "grpc.health.v1.Health"} <= names


def test_reflection_can_be_switched_off(serving: Serving) -> None:
    with serving(reflection=False) as server, grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        assert error_of(lambda: list(stub.ServerReflectionInfo(iter([request]))))[0] == "UNIMPLEMENTED"
