"""ModelStatistics: requests, items and runs of both services, counted once each."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread

import grpc
import pytest

from protos.featurelens.v1 import classifier_pb2
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as pb
from protos.tensors import pack
from service.statistics import Inference, Statistics
from tests.service.conftest import HeldRuns
from tests.service.oip.stub import Code, InferenceStub, failure, request
from tests.service.oip.test_infer import SUMS
from tests.service.test_classify import digits
from tests.serving import Serving


@pytest.fixture
def channel(serving: Serving) -> Iterator[grpc.Channel]:
    """A channel to a server that has done nothing yet."""
    with serving() as server, grpc.insecure_channel(server.address) as channel:
        yield channel


def statistics(stub: InferenceStub) -> pb.ModelStatistics:
    found: pb.ModelStatistics
    (found,) = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
    assert (found.name, found.version) == ("lenet", "1")
    return found


def counts(found: pb.ModelStatistics) -> tuple[int, int, int, int]:
    """Return answered and failed requests, items and runs."""
    stats = found.inference_stats
    assert stats.compute_input.count == stats.compute_infer.count == stats.compute_output.count
    assert stats.compute_infer.count == stats.queue.count == stats.success.count
    return stats.success.count, stats.fail.count, found.inference_count, found.execution_count


def of_digits(count: int) -> pb.ModelInferRequest:
    return request("lenet", [("image", "FP32", digits(count))])


def test_nothing_is_counted_before_the_first_request(channel: grpc.Channel) -> None:
    found = statistics(InferenceStub(channel))

    assert counts(found) == (0, 0, 0, 0)
    assert found.last_inference == 0


def test_requests_items_and_failures_of_both_services_are_counted(channel: grpc.Channel) -> None:
    stub = InferenceStub(channel)
    stub.ModelInfer(of_digits(3))
    list(stub.ModelStreamInfer(iter([of_digits(1)])))
    ClassifierStub(channel).Classify(classifier_pb2.ClassifyRequest(tensor=pack(digits(2))))
    failure(stub.ModelInfer, request("lenet", []))
    failure(ClassifierStub(channel).Classify, classifier_pb2.ClassifyRequest(layers=["conv9"]))

    found = statistics(stub)

    assert counts(found) == (3, 2, 6, 3)
    assert found.last_inference > 1_600_000_000_000
    stats = found.inference_stats
    parts = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert all(part.ns > 0 for part in parts)
    assert stats.success.ns > sum(part.ns for part in parts)
    assert stats.fail.ns > 0


def test_requests_that_share_a_run_count_it_once(held: HeldRuns, serving: Serving) -> None:
    with serving(instances=1) as server, grpc.insecure_channel(server.address) as channel:
        stub = InferenceStub(channel)
        running = stub.ModelInfer.future(of_digits(1))
        assert held.started.wait(20)
        answers = stub.ModelStreamInfer(iter([*(of_digits(2) for _ in range(3)), request("resnet", [])]))
        assert next(answers).error_message  # the last one's: by now those before it wait for a run
        held.may_run.set()
        assert [answer.error_message for answer in answers] == [""] * 3
        running.result(timeout=20)
        found = statistics(stub)

    assert held.count == 2
    assert counts(found) == (4, 0, 7, 2)


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("sums", "", [("sums", "1"), ("sums", "3")]),
        ("sums", "1", [("sums", "1")]),
        ("scalar", "", [("scalar", "1")]),
    ],
)
def test_statistics_of_a_model_or_version(
    zoo: InferenceStub, name: str, version: str, expected: list[tuple[str, str]]
) -> None:
    response = zoo.ModelStatistics(pb.ModelStatisticsRequest(name=name, version=version))

    assert [(found.name, found.version) for found in response.model_stats] == expected


def test_statistics_of_all_that_is_ready(zoo: InferenceStub) -> None:
    response = zoo.ModelStatistics(pb.ModelStatisticsRequest())

    names = {found.name for found in response.model_stats}
    assert {"sums", "scalar", "product"} <= names
    assert "broken" not in names


def test_each_version_counts_for_itself(zoo: InferenceStub) -> None:
    before = [found.execution_count for found in of_sums(zoo)]
    zoo.ModelInfer(request("sums", SUMS, model_version="1"))

    assert [found.execution_count for found in of_sums(zoo)] == [before[0] + 1, before[1]]


def of_sums(zoo: InferenceStub) -> list[pb.ModelStatistics]:
    return list(zoo.ModelStatistics(pb.ModelStatisticsRequest(name="sums")).model_stats)


def test_a_model_that_is_not_there_is_not_found(zoo: InferenceStub) -> None:
    assert failure(zoo.ModelStatistics, pb.ModelStatisticsRequest(name="x"))[0] is Code.NOT_FOUND


def test_counting_is_thread_safe() -> None:
    counted = Statistics()

    def count() -> None:
        for _ in range(2_000):
            counted.succeeded(Inference(2, 1, 3, 4, 5, 6), 20)
            counted.failed(7)

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    totals = counted.totals()
    assert (totals.successes, totals.failures, totals.samples, totals.executions) == (
        8_000,
        8_000,
        16_000,
        8_000,
    )
    assert (totals.input_ns, totals.queue_ns, totals.infer_ns, totals.output_ns) == (
        24_000,
        32_000,
        40_000,
        48_000,
    )
    assert (totals.success_ns, totals.failure_ns) == (160_000, 56_000)
