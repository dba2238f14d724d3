"""Layers by what people call them, through both services and transports, and in config.toml."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack, unpack
from service.server import RunningServer
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.service.oip.stub import InferenceStub
from tests.service.oip.stub import request as infer_request
from tests.service.torch_exports import SIDE, export
from tests.serving import serving as run_server

IMAGES = np.random.default_rng(0).random((2, 3, SIDE, SIDE), np.float32)


@pytest.fixture(scope="module")
def server(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("named")
    add_model(folder, "old", export("torchscript"))
    add_model(folder, "new", export("dynamo"))
    add_model(folder, "keras", onnx_models.channels_last())
    (folder / "new" / "config.toml").write_text('preload_taps = [["layer1", "op:Gemm"], ["layer2*"]]')
    with run_server(model_repository=folder, transport=transport, max_layers_per_request=9) as running:
        yield running


@pytest.fixture
def stub(server: RunningServer) -> Iterator[ClassifierStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield ClassifierStub(channel)


@pytest.fixture
def inference(server: RunningServer) -> Iterator[InferenceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield InferenceStub(channel)


def asking(model: str, *layers: str) -> pb.ClassifyRequest:
    return pb.ClassifyRequest(model=model, tensor=pack(IMAGES), layers=layers)


def refusal(stub: ClassifierStub, request: pb.ClassifyRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as info:
        stub.Classify(request)
    assert isinstance(info.value, grpc.Call)
    return info.value.code(), info.value.details() or ""


@pytest.mark.parametrize("model", ["old", "new"])
def test_the_answer_tells_which_layer_a_name_stands_for(stub: ClassifierStub, model: str) -> None:
    answer = stub.Classify(asking(model, "layer2", "layer?", "logits"))
    by_name = {tensor.name: unpack(tensor) for tensor in answer.feature_maps}
    (module, pattern) = answer.resolved

    assert (module.asked, pattern.asked) == ("layer2", "layer?")
    assert list(pattern.names)[1:] == list(module.names)
    assert list(by_name) == [*module.names, pattern.names[0], "logits"]
    assert by_name[module.names[0]].shape == (2, 8, 14, 14)


def test_names_of_layers_and_all_of_them_need_no_telling(stub: ClassifierStub) -> None:
    answer = stub.Classify(
        pb.ClassifyRequest(model="keras", tensor=pack(np.zeros((1, 12, 12, 3), np.float32)))
    )
    assert not answer.resolved
    assert not stub.Classify(asking("new", "logits")).resolved


def test_what_patterns_stand_for_counts(stub: ClassifierStub) -> None:
    code, message = refusal(stub, asking("new", "layer1*"))

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert message == "the request asks for 12 layers, the limit is 9; ask for fewer"


@pytest.mark.parametrize("asked", ["layer3", "layer9*", "op:Foo", "extremes", "layer1.0.conv1"])
def test_what_stands_for_no_layer_is_an_invalid_argument(stub: ClassifierStub, asked: str) -> None:
    assert refusal(stub, asking("new", asked))[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_layers_are_described_with_their_modules_aliases_and_axes(stub: ClassifierStub) -> None:
    answer = stub.DescribeModel(pb.DescribeModelRequest(model="new", layers=["layer2", "op:gemm"]))
    stage, head = answer.layers

    assert (stage.module, list(stage.aliases), stage.channel_axis) == (
        "layer2.0.relu",
        ["layer2", "layer2.0"],
        -3,
    )
    assert (head.name, head.module, head.channel_axis) == ("logits", "fc", 0)
    assert [(each.asked, list(each.names)) for each in answer.resolved] == [
        ("layer2", [stage.name]),
        ("op:gemm", ["logits"]),
    ]
    assert answer.inputs[0].channel_axis == -3
    whole = stub.DescribeModel(pb.DescribeModelRequest(model="new"))
    assert len(whole.layers) > 20
    assert not whole.resolved


def test_channels_last_is_described(stub: ClassifierStub) -> None:
    answer = stub.DescribeModel(pb.DescribeModelRequest(model="keras"))
    axes = {layer.name: layer.channel_axis for layer in answer.layers}

    assert answer.inputs[0].channel_axis == -1
    assert (axes["conv"], axes["nhwc"], axes["relu"], axes["features"]) == (-3, -1, -1, 0)


@pytest.mark.parametrize("model", ["old", "new"])
def test_an_output_comes_back_under_the_name_that_it_was_asked_for(
    inference: InferenceStub, model: str
) -> None:
    inputs = [("image", "FP32", IMAGES)]
    named = inference.ModelInfer(infer_request(model, inputs, ["layer2", "logits", "fc"]))
    again = inference.ModelInfer(infer_request(model, inputs, ["layer2", "logits", "fc"]))  # a known request
    stage, head, same = named.raw_output_contents

    assert [output.name for output in named.outputs] == ["layer2", "logits", "fc"]
    assert [list(output.shape) for output in named.outputs] == [[2, 8, 14, 14], [2, 5], [2, 5]]
    assert head == same
    assert len(stage) == 2 * 8 * 14 * 14 * 4
    assert [output.name for output in again.outputs] == ["layer2", "logits", "fc"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("layer?", 'no output or layer "layer?"; it is a pattern, which only Classify takes'),
        ("op:Conv", 'no output or layer "op:Conv"; it is a pattern, which only Classify takes'),
        ("extremes", 'the module "extremes" has 2 outputs: "mean", "amax"; ask for these'),
        ("layer22", 'no output or layer "layer22"; did you mean "layer2'),
    ],
)
def test_an_output_is_one_tensor(inference: InferenceStub, asked: str, message: str) -> None:
    with pytest.raises(grpc.RpcError) as info:
        inference.ModelInfer(infer_request("new", [("image", "FP32", IMAGES)], [asked]))
    assert isinstance(info.value, grpc.Call)
    assert info.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (info.value.details() or "").startswith(message)
