"""Outputs whose size isn't known before a run: refused before they are copied, and bounded in memory."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.api.oip import answers
from service.cgroups import available_memory
from service.device import Execution
from service.errors import ExecutionError
from service.model import Model
from tests.service.conftest import add_model
from tests.service.oip.stub import InferenceStub, failure, request
from tests.service.onnx_models import model, node, value
from tests.serving import Serving

MOST = 100_000


def growing() -> ModelProto:
    """A classifier with a layer as large as its input says: [n, 3, first value of the input]."""
    nodes = [
        node("ReduceMax", "x", "most", keepdims=0),
        node("Cast", "most", "count", to=TensorProto.INT64),
        node("Unsqueeze", "count zero", "size"),
        node("Concat", "one size", "shape", axis=0),
        node("Unsqueeze", "x last", "column"),
        node("Expand", "column shape", "wide"),
        node("ReduceMean", "wide last", "mean", keepdims=0),
        node("Softmax", "mean", "probabilities"),
    ]
    weights = {
        "zero": np.array([0], np.int64),
        "one": np.array([1, 1], np.int64),
        "last": np.array([2], np.int64),
    }
    return model(nodes, [value("x", ["n", 3])], [value("probabilities", ["n", 3])], weights)


def of_size(elements: float) -> np.ndarray:
    return np.array([[elements, 0, 1]], np.float32)


def test_a_layer_over_the_limit_is_refused_before_it_is_copied(
    tmp_path: Path, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_: object) -> bytes:
        pytest.fail("it is encoded")

    add_model(tmp_path, "growing", growing())
    settings = {"model_repository": tmp_path, "max_response_bytes": MOST}
    with serving(**settings) as server, grpc.insecure_channel(server.address) as channel:
        classifier, inference = ClassifierStub(channel), InferenceStub(channel)

        def ask(elements: int) -> pb.ClassifyRequest:
            return pb.ClassifyRequest(tensor=pack(of_size(elements)), layers=["wide"])

        assert classifier.Classify(ask(100)).results
        large = request("growing", [("x", "FP32", of_size(MOST))], ["wide"])
        monkeypatch.setattr(answers.Form, "encode", encode)
        for call, message in ((classifier.Classify, ask(MOST)), (inference.ModelInfer, large)):
            code, details = failure(call, message)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert f"has {12 * MOST} bytes, the limit is {MOST}" in details
        assert classifier.Classify(ask(100)).results


def test_a_run_that_wants_more_memory_than_runs_may_take_fails_alone() -> None:
    elements = available_memory() // 4  # as float32, all of it
    expand = model(
        [node("Expand", "x shape", "y")],
        [value("x", [1]), value("shape", ["rank"], TensorProto.INT64)],
        [value("y", None)],
    )
    running = Model(expand.SerializeToString(), Execution())
    with pytest.raises(ExecutionError):
        running.run({"x": np.ones(1, np.float32), "shape": np.array([elements], np.int64)}, ["y"])
    small = running.run({"x": np.ones(1, np.float32), "shape": np.array([5], np.int64)}, ["y"])
    assert small["y"].tolist() == [1.0] * 5
