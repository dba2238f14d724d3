"""The response cache behind both services: equal answers, without a run, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos.featurelens.v1 import classifier_pb2
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as pb
from protos.tensors import pack
from tests.service.conftest import add_model
from tests.service.oip.models import same, sums
from tests.service.oip.stub import InferenceStub, arrays, request
from tests.service.onnx_models import model, node, value
from tests.service.test_classify import SAMPLES, digits, maps, of_images, probabilities
from tests.serving import Serving


@pytest.fixture
def channel(serving: Serving) -> Iterator[grpc.Channel]:
    """A channel to a server with a cache in which nothing is."""
    with serving(response_cache_mib=1) as server, grpc.insecure_channel(server.address) as channel:
        yield channel


def statistics(channel: grpc.Channel, name: str = "lenet") -> pb.ModelStatistics:
    found: pb.ModelStatistics
    (found,) = InferenceStub(channel).ModelStatistics(pb.ModelStatisticsRequest(name=name)).model_stats
    return found


def hits_and_misses(channel: grpc.Channel, name: str = "lenet") -> tuple[int, int]:
    stats = statistics(channel, name).inference_stats
    return stats.cache_hit.count, stats.cache_miss.count


def of_digits(count: int, *outputs: str, seed: int = 0) -> pb.ModelInferRequest:
    return request("lenet", [("image", "FP32", digits(count, seed))], outputs)


@pytest.mark.parametrize("outputs", [[], ["relu1", "probabilities"]])
@pytest.mark.parametrize("count", [1, 3, 40], ids=["one", "some", "more than a run takes"])
def test_an_equal_request_gets_the_same_bytes(channel: grpc.Channel, count: int, outputs: list[str]) -> None:
    stub = InferenceStub(channel)
    first, second = (stub.ModelInfer(of_digits(count, *outputs)) for _ in range(2))
    assert second.raw_output_contents == first.raw_output_contents
    assert second.outputs == first.outputs
    assert hits_and_misses(channel) == (1, 1)


def test_answers_are_those_of_a_server_without_a_cache(channel: grpc.Channel, lenet: InferenceStub) -> None:
    stub = InferenceStub(channel)
    for _ in range(2):
        for seed in range(3):
            asked = of_digits(1, "conv1", "probabilities", seed=seed)
            cached, plain = stub.ModelInfer(asked), lenet.ModelInfer(asked)
            assert cached.raw_output_contents == plain.raw_output_contents
    assert hits_and_misses(channel) == (3, 3)


def test_what_shapes_an_answer_keeps_requests_apart(channel: grpc.Channel) -> None:
    stub = InferenceStub(channel)
    for asked in (of_digits(1), of_digits(1, seed=1), of_digits(2), of_digits(1, "relu1")):
        stub.ModelInfer(asked)
    assert hits_and_misses(channel) == (0, 4)


def test_what_does_not_is_taken_from_the_request(channel: grpc.Channel) -> None:
    stub = InferenceStub(channel)
    best = pb.ModelInferRequest.InferRequestedOutputTensor(name="probabilities")
    best.parameters["classification"].int64_param = 2
    stub.ModelInfer(of_digits(1))
    named = of_digits(1)
    named.id = "second"
    named.parameters["priority"].uint64_param = 1
    ranked = request("lenet", [("image", "FP32", digits(1))], [best])
    assert stub.ModelInfer(named).id == "second"
    assert arrays(stub.ModelInfer(ranked))["probabilities"].shape == (1, 2)
    assert hits_and_misses(channel) == (2, 1)


def test_both_services_share_it(channel: grpc.Channel) -> None:
    classifier = ClassifierStub(channel)
    first = classifier.Classify(of_images(SAMPLES[0].read_bytes(), layers=["relu1"], return_input=True))
    second = classifier.Classify(of_images(SAMPLES[0].read_bytes(), layers=["relu1"], top_k=1))
    np.testing.assert_array_equal(maps(second)["relu1"], maps(first)["relu1"])
    assert probabilities(second).max() == probabilities(first).max()
    assert (first.timings.run_batch_size, second.timings.run_batch_size) == (1, 0)

    InferenceStub(channel).ModelInfer(of_digits(2))
    third = classifier.Classify(classifier_pb2.ClassifyRequest(tensor=pack(digits(2))))
    assert third.timings.run_batch_size == 0
    assert hits_and_misses(channel) == (2, 2)


def test_hits_count_as_answered_and_as_nothing_else(channel: grpc.Channel) -> None:
    stub = InferenceStub(channel)
    answers = [stub.ModelInfer(of_digits(3)) for _ in range(3)]
    found = statistics(channel)
    stats = found.inference_stats
    parts = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert (stats.success.count, found.inference_count, found.execution_count) == (3, 3, 1)
    assert [part.count for part in parts] == [1, 1, 1, 1]
    assert (stats.cache_hit.count, stats.cache_miss.count) == (2, 1)
    assert min(stats.cache_hit.ns, stats.cache_miss.ns) > 0
    assert [answer.parameters["compute_ns"].int64_param > 0 for answer in answers] == [True, False, False]


def test_every_message_of_a_stream_may_hit(channel: grpc.Channel) -> None:
    stub = InferenceStub(channel)
    for _ in range(2):
        answers = list(stub.ModelStreamInfer(iter(of_digits(1, seed=seed) for seed in range(3))))
        assert [answer.error_message for answer in answers] == ["", "", ""]
    assert hits_and_misses(channel) == (3, 3)


def test_without_the_setting_every_request_runs(serving: Serving) -> None:
    with serving() as server, grpc.insecure_channel(server.address) as channel:
        for _ in range(2):
            InferenceStub(channel).ModelInfer(of_digits(1))
        assert hits_and_misses(channel) == (0, 0)
        assert statistics(channel).execution_count == 2


@pytest.fixture
def several(serving: Serving, tmp_path: Path) -> Iterator[grpc.Channel]:
    """A server of texts, of a model with random outputs, and of one that its config.toml leaves out."""
    noise = model([node("RandomNormalLike", "x", "y")], [value("x", ["n", 2])], [value("y", ["n", 2])])
    add_model(tmp_path, "texts", same(8))
    add_model(tmp_path, "noise", noise)
    add_model(tmp_path, "sums", sums())
    (tmp_path / "sums" / "config.toml").write_text("cache = false\n")
    with (
        serving(response_cache_mib=1, model_repository=tmp_path) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield channel


def test_texts_are_held_too(several: grpc.Channel) -> None:
    stub = InferenceStub(several)
    words = np.array([["ä", ""]], object)
    answers = [stub.ModelInfer(request("texts", [("x", "BYTES", words)])) for _ in range(2)]
    assert arrays(answers[1])["y"].tolist() == [["ä", ""]]
    assert hits_and_misses(several, "texts") == (1, 1)


def test_a_model_with_random_outputs_runs_for_every_request(several: grpc.Channel) -> None:
    stub = InferenceStub(several)
    asked = request("noise", [("x", "FP32", np.zeros((1, 2), np.float32))])
    first, second = (arrays(stub.ModelInfer(asked))["y"].tolist() for _ in range(2))
    assert first != second
    assert hits_and_misses(several, "noise") == (0, 0)


def test_a_model_can_be_left_out(several: grpc.Channel) -> None:
    pair = np.ones((1, 2), np.float32)
    for _ in range(2):
        InferenceStub(several).ModelInfer(request("sums", [("a", "FP32", pair), ("b", "FP32", pair)]))
    assert hits_and_misses(several, "sums") == (0, 0)
    assert statistics(several, "sums").execution_count == 2
