"""ListModels and DescribeModel of the shipped LeNet."""

from __future__ import annotations

import hashlib
import json

import grpc
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import unpack
from service.errors import StartupError
from service.graph import Graph
from tests.service.test_classify import LAYERS, MODEL
from tests.serving import Serving


def described(stub: ClassifierStub, **fields: bool) -> dict[str, pb.Layer]:
    response = stub.DescribeModel(
        pb.DescribeModelRequest(model="lenet", include_weights=fields.get("weights", False))
    )
    return {layer.name: layer for layer in response.layers}


def test_list_models(stub: ClassifierStub) -> None:
    (model,) = stub.ListModels(pb.ListModelsRequest()).models
    assert model == pb.ModelSummary(
        name="lenet",
        version="1",
        state=pb.MODEL_STATE_READY,
        digest=hashlib.sha256(MODEL.read_bytes()).hexdigest(),
        provider="CPUExecutionProvider",
    )


@pytest.mark.parametrize(
    ("device", "reason"), [("cpu", ""), ("auto", "this ONNX Runtime has no CUDAExecutionProvider, only ")]
)
def test_a_fallback_to_the_cpu_is_told_with_its_reason(serving: Serving, device: str, reason: str) -> None:
    with serving(device=device) as server, grpc.insecure_channel(server.address) as channel:
        response = ClassifierStub(channel).DescribeModel(pb.DescribeModelRequest())
    assert response.provider == "CPUExecutionProvider"
    assert response.fallback_reason.partition(" only ")[0] == reason.removesuffix(" only ")


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_server_does_not_start_without_the_device_that_it_was_told_to_use(
    serving: Serving, device: str
) -> None:
    missing = pytest.raises(StartupError, match=f"^device {device}: this ONNX Runtime has no ")
    with missing, serving(device=device):
        pass


def test_the_model_explains_itself(stub: ClassifierStub) -> None:
    response = stub.DescribeModel(pb.DescribeModelRequest())
    assert (response.name, response.version, response.parameters) == ("lenet", "1", 63_802)
    assert list(response.labels) == list("0123456789")
    assert response.preprocessing.kind == "ink"
    assert (response.preprocessing.height, response.preprocessing.width) == (32, 32)
    assert [(t.name, list(t.shape)) for t in response.inputs] == [("image", [-1, 1, 32, 32])]
    assert [(t.name, list(t.shape)) for t in response.outputs] == [("probabilities", [-1, 10])]
    assert json.loads(response.metadata["featurelens.metrics"])["test_images"] == 10_000
    assert response.producer.startswith("pytorch")


def test_the_layers_are_those_of_the_article(stub: ClassifierStub) -> None:
    layers = described(stub)
    named = [layer.name for layer in layers.values() if not layer.auxiliary]
    assert named == LAYERS
    ops = [
        "Conv",
        "Relu",
        "MaxPool",
        "Conv",
        "Relu",
        "MaxPool",
        "Gemm",
        "Relu",
        "Gemm",
        "Relu",
        "Gemm",
        "Softmax",
    ]
    assert [layers[name].op_type for name in LAYERS] == ops
    parameters = {name: layers[name].parameters for name in LAYERS if layers[name].parameters}
    assert parameters == {"conv1": 156, "conv2": 2_416, "fc1": 48_120, "fc2": 12_100, "logits": 1_010}


def test_convolutions_and_poolings_tell_their_geometry(stub: ClassifierStub) -> None:
    layers = described(stub)
    conv2, pool2 = layers["conv2"], layers["pool2"]
    assert (list(conv2.kernel_shape), list(conv2.strides), conv2.group) == ([5, 5], [1, 1], 1)
    assert (list(conv2.pads), list(conv2.dilations)) == ([0, 0, 0, 0], [1, 1])
    assert list(conv2.inputs) == ["pool1"]
    assert list(conv2.output_shape) == [-1, 16, 10, 10]
    assert (list(pool2.kernel_shape), list(pool2.strides)) == ([2, 2], [2, 2])


@pytest.mark.parametrize(
    ("layer", "size", "jump"),
    [("conv1", 5, 1), ("relu1", 5, 1), ("pool1", 6, 2), ("conv2", 14, 2), ("pool2", 16, 4)],
)
def test_receptive_fields(stub: ClassifierStub, layer: str, size: int, jump: int) -> None:
    field = described(stub)[layer].receptive_field
    assert (list(field.size), list(field.jump), list(field.start)) == ([size] * 2, [jump] * 2, [0, 0])


def test_the_order_of_axes_and_colors_is_told(stub: ClassifierStub) -> None:
    preprocessing = stub.DescribeModel(pb.DescribeModelRequest()).preprocessing
    assert (preprocessing.layout, preprocessing.color) == ("NCHW", "RGB")


def test_weights_come_when_asked_and_are_those_of_the_file(stub: ClassifierStub) -> None:
    assert not any(layer.weights for layer in described(stub).values())
    weights = {t.name: unpack(t) for layer in described(stub, weights=True).values() for t in layer.weights}
    initializers = {t.name: numpy_helper.to_array(t) for t in onnx.load(MODEL).graph.initializer}
    assert sum(weight.size for weight in weights.values()) == 63_802
    for name, weight in weights.items():
        np.testing.assert_array_equal(weight, initializers[name])


def test_weights_over_the_limit_are_refused(serving: Serving) -> None:
    with serving(max_response_bytes=100_000) as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as info:
            ClassifierStub(channel).DescribeModel(pb.DescribeModelRequest(include_weights=True))
        assert isinstance(info.value, grpc.Call)
        assert info.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the limit is 100000; ask without the weights" in (info.value.details() or "")


def test_weights_over_the_limit_are_not_even_read(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: Graph) -> None:
        pytest.fail("it reads what it can't send")

    with (
        serving(max_response_bytes=250_000) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        monkeypatch.setattr(Graph, "weights", read)
        with pytest.raises(grpc.RpcError) as info:
            ClassifierStub(channel).DescribeModel(pb.DescribeModelRequest(include_weights=True))
        assert isinstance(info.value, grpc.Call)
        assert info.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_unknown_model_is_not_found(stub: ClassifierStub) -> None:
    with pytest.raises(grpc.RpcError) as info:
        stub.DescribeModel(pb.DescribeModelRequest(model="resnet"))
    assert isinstance(info.value, grpc.Call)
    assert info.value.code() is grpc.StatusCode.NOT_FOUND
