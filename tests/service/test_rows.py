"""Whose rows a tensor has: every caller gets what a run of its own items gives, shared, sliced or alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import onnx
import pytest
from PIL import Image

from featurelens import Client
from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as inference
from protos.tensors import pack, unpack
from service.graph import Array
from service.server import RunningServer
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.service.oip.stub import InferenceStub, arrays, failure, request
from tests.service.test_classify import encoded, maps, probabilities
from tests.service.test_feature_maps import unoptimized
from tests.serving import serving as run_server

CALLERS = 4
TIMEOUT_S = 30
MODELS: Mapping[str, onnx.ModelProto] = {
    "lenet": onnx_models.lenet(),
    "batch_1": onnx_models.fixed_batch(1),
    "batch_4": onnx_models.fixed_batch(4),
    "expanding": onnx_models.expanding(),
    "classifier": onnx_models.classifier(softmax=True),
    **{name: build() for name, build in onnx_models.FOREIGN.items()},
}
RESIZE = '[preprocessing]\nkind = "resize"\nheight = 8\nwidth = 8\nchannels = 3\n'
_DATATYPES: Mapping[int, str] = {onnx.TensorProto.FLOAT: "FP32", onnx.TensorProto.STRING: "BYTES"}


@pytest.fixture(scope="module")
def server(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of all models, in which requests wait for others to share a run, and one may hold 64 items."""
    folder = tmp_path_factory.mktemp("models")
    for name, model in MODELS.items():
        add_model(folder, name, model)
        if name.startswith("batch_"):
            (folder / name / "config.toml").write_text(RESIZE)
    with run_server(
        model_repository=folder,
        transport=transport,
        max_queue_delay_us=20_000,
        max_batch_size=32,
        max_images_per_request=64,
    ) as running:
        yield running


@pytest.fixture
def infer(server: RunningServer) -> Iterator[InferenceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield InferenceStub(channel)


@pytest.fixture
def classify(server: RunningServer) -> Iterator[ClassifierStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield ClassifierStub(channel)


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


def feeds_of(model: onnx.ModelProto, seed: int, items: int = 1, free: int = 4) -> dict[str, Array]:
    """Make one caller's inputs, unlike those of others."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in (value for value in model.graph.input if value.name not in constants):
        dims = value.type.tensor_type.shape.dim
        sizes = [
            dim.dim_value if dim.HasField("dim_value") else (items if axis == 0 else free)
            for axis, dim in enumerate(dims)
        ]
        numbers = generator.uniform(-2, 3, sizes).astype(np.float32)
        numbers = np.abs(numbers) + 1 if model is MODELS["expanding"] else numbers  # a size
        is_text = value.type.tensor_type.elem_type == onnx.TensorProto.STRING
        feeds[value.name] = numbers.astype(str).astype(object) if is_text else numbers
    return feeds


def ask(infer: InferenceStub, name: str, feeds: Mapping[str, Array], outputs: list[str]) -> dict[str, Array]:
    types = {value.name: value.type.tensor_type.elem_type for value in MODELS[name].graph.input}
    inputs = [(key, _DATATYPES[types[key]], array) for key, array in feeds.items()]
    return arrays(infer.ModelInfer(request(name, inputs, outputs), timeout=TIMEOUT_S))


def check(got: Mapping[str, Array], expected: Mapping[str, Array], context: object = "") -> None:
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].shape == array.shape, (context, name)
        if array.dtype.kind == "f":
            np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5, err_msg=f"{context} {name}")
        else:
            np.testing.assert_array_equal(got[name], array, err_msg=f"{context} {name}")


def layers_of(model: onnx.ModelProto) -> list[str]:
    """Name everything that the nodes of a graph compute from its inputs."""
    known = {value.name for value in model.graph.input} - {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if known.intersection(node.input) or any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute):
            known.update(node.output)
    return [name for node in model.graph.node for name in node.output if name in known]


@pytest.mark.parametrize("name", MODELS)
def test_each_of_four_callers_at_once_gets_its_own_layers(infer: InferenceStub, name: str) -> None:
    model = MODELS[name]
    layers = layers_of(model)
    feeds = [feeds_of(model, seed) for seed in range(CALLERS)]
    expected = [unoptimized(model, each, layers) for each in feeds]
    ask(infer, name, feeds[0], layers)  # the session for all layers is there
    with ThreadPoolExecutor(CALLERS) as pool:
        for asked in (layers, *([layer] for layer in layers)):
            answers = list(pool.map(lambda each, asked=asked: ask(infer, name, each, asked), feeds))
            for caller, answer in enumerate(answers):
                check(answer, {layer: expected[caller][layer] for layer in asked}, (caller, asked))


@pytest.mark.parametrize("name", ["time_first", "folded", "statistics", "lenet", "counting", "residual"])
@pytest.mark.parametrize("items", [40, 50])
def test_a_long_request_gets_the_layers_of_all_its_items(infer: InferenceStub, name: str, items: int) -> None:
    model = MODELS[name]
    feeds = feeds_of(model, seed=7, items=items)
    layers = layers_of(model)
    expected = unoptimized(model, feeds, layers)
    check(ask(infer, name, feeds, layers), expected)
    for layer in layers:
        check(ask(infer, name, feeds, [layer]), {layer: expected[layer]})


def test_time_first_is_each_caller_s_own(infer: InferenceStub) -> None:
    """Each sends a constant of its own: any other in the answer is another caller's."""

    def call(constant: int) -> Array:
        x = np.full((1, 2, 4), constant, np.float32)
        return ask(infer, "time_first", {"x": x}, ["t"])["t"]

    with ThreadPoolExecutor(CALLERS) as pool:
        for constant, answer in enumerate(pool.map(call, range(40))):
            assert answer.shape == (2, 1, 4)
            assert (answer == constant).all()


@pytest.mark.parametrize("items", [1, 3])
def test_classify_tells_what_each_layer_is_for_each_image_alone(
    classify: ClassifierStub, client: Client, items: int
) -> None:
    model = MODELS["folded"]
    x = feeds_of(model, seed=3, items=items)["x"]
    layers = ["heads", "back", "shape", "count"]
    alone = [unoptimized(model, {"x": x[i : i + 1]}, [*layers, "prob"]) for i in range(items)]

    asked = pb.ClassifyRequest(model="folded", tensor=pack(x), layers=layers)
    answer = classify.Classify(asked)
    assert list(maps(answer)) == ["back"]
    np.testing.assert_array_equal(maps(answer)["back"], np.concatenate([each["back"] for each in alone]))
    assert [layer.name for layer in answer.layers_alone] == ["heads", "shape", "count"]
    for layer in answer.layers_alone:
        for each, tensor in zip(alone, layer.tensors, strict=True):
            check({layer.name: unpack(tensor)}, {layer.name: each[layer.name]})
    expected = np.concatenate([each["prob"] for each in alone])
    np.testing.assert_allclose(probabilities(answer), expected, rtol=1e-5)
    (streamed,) = classify.ClassifyStream(iter([asked]))
    assert streamed.response.layers_alone == answer.layers_alone

    predictions = client.classify_tensor(x, model="folded", layers=layers)
    for prediction, each in zip(predictions, alone, strict=True):
        whole = {name: each[name] for name in ("heads", "shape", "count")}
        check(prediction.feature_maps, {"back": each["back"][0], **whole})


def test_classify_tells_every_layer_of_an_image_whatever_comes_with_it(client: Client) -> None:
    model = MODELS["statistics"]
    x = feeds_of(model, seed=5, items=6)["x"]
    x[2] *= 60  # above a threshold, at which the layers of all change
    layers = layers_of(model)
    for i, prediction in enumerate(client.classify_tensor(x, model="statistics", layers=layers)):
        alone = unoptimized(model, {"x": x[i : i + 1]}, layers)
        check(prediction.feature_maps, alone | {name: alone[name][0] for name in ("positive", "p")})


def test_a_description_tells_which_layers_follow_the_batch(client: Client) -> None:
    follow = {
        name: {layer.name for layer in client.describe(name).layers if layer.follows_batch}
        for name in ("time_first", "folded", "statistics", "counting", "branching")
    }
    assert follow == {
        "time_first": {"logits"},
        "folded": {"back", "prob"},
        "statistics": {"positive", "p"},
        "counting": {"best", "y", "mask"},
        "branching": set(),
    }
    assert all(layer.follows_batch for layer in client.describe("lenet").layers)


@pytest.mark.parametrize(("name", "size"), [("batch_1", 1), ("batch_4", 4)])
@pytest.mark.parametrize("items", [1, 3, 4, 9])
def test_a_fixed_batch_takes_any_number_of_items(
    infer: InferenceStub, classify: ClassifierStub, client: Client, name: str, size: int, items: int
) -> None:
    x = feeds_of(onnx_models.fixed_batch("n"), seed=items, items=items)["image"]
    expected = unoptimized(onnx_models.fixed_batch("n"), {"image": x}, ["conv", "p"])
    check(ask(infer, name, {"image": x}, ["conv", "p"]), expected)
    answer = classify.Classify(pb.ClassifyRequest(model=name, tensor=pack(x), layers=["conv"]))
    np.testing.assert_allclose(probabilities(answer), expected["p"], rtol=1e-4)
    check(maps(answer), {"conv": expected["conv"]})
    assert client.describe(name).fixed_batch == size


@pytest.mark.parametrize("name", ["batch_1", "batch_4"])
def test_a_fixed_batch_takes_any_number_of_pictures(
    infer: InferenceStub, classify: ClassifierStub, name: str
) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (3, 8, 8, 3), np.uint8)
    pictures = [encoded(Image.fromarray(each)) for each in pixels]
    images = pb.EncodedImages(images=pictures)
    together = classify.Classify(pb.ClassifyRequest(model=name, images=images, return_input=True))
    seen = unpack(together.input)
    assert seen.shape == (3, 3, 8, 8)
    expected = unoptimized(onnx_models.fixed_batch("n"), {"image": seen}, ["p"])["p"]
    np.testing.assert_allclose(probabilities(together), expected, rtol=1e-4)
    streamed = classify.ClassifyStream(
        pb.ClassifyRequest(model=name, id=str(i), images=pb.EncodedImages(images=[each]))
        for i, each in enumerate(pictures)
    )
    rows = {answer.id: probabilities(answer.response)[0] for answer in streamed}
    for i, row in enumerate(expected):
        np.testing.assert_allclose(rows[str(i)], row, rtol=1e-4)
    files = np.array(pictures, object)
    answer = infer.ModelInfer(request(name, [("image", "BYTES", files)]), timeout=TIMEOUT_S)
    np.testing.assert_allclose(arrays(answer)["p"], expected, rtol=1e-4)


def test_layers_without_rows_of_a_fixed_batch_are_told_as_far_as_they_can_be(
    infer: InferenceStub, classify: ClassifierStub, client: Client
) -> None:
    x = feeds_of(onnx_models.fixed_batch("n"), seed=1, items=4)["image"]
    names = ["channels_first", "shape"]
    free = onnx_models.fixed_batch("n")
    for i, prediction in enumerate(client.classify_tensor(x, model="batch_1", layers=names)):
        check(prediction.feature_maps, unoptimized(free, {"image": x[i : i + 1]}, names))
    assert client.describe("batch_4").layers[1].follows_batch is False
    asked = pb.ClassifyRequest(model="batch_4", tensor=pack(x), layers=["channels_first"])
    code, details = failure(classify.Classify, asked)
    assert (code, details) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        'the layer "channels_first" has no row for each image, and the model can\'t run on one image alone: '
        "it runs on 4 images; ask the Open Inference Protocol, which returns the layer of the whole batch",
    )
    check(ask(infer, "batch_4", {"image": x}, names), unoptimized(free, {"image": x}, names))
    code, details = failure(
        infer.ModelInfer, request("batch_4", [("image", "FP32", x[:3])], ["channels_first"])
    )
    assert (code, details) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        'the input "image" has shape [3, 3, 8, 8]; expected [4, 3, 8, 8]',
    )


def test_callers_share_the_runs_of_a_fixed_batch(infer: InferenceStub) -> None:
    free = onnx_models.fixed_batch("n")
    feeds = [feeds_of(free, seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: ask(infer, "batch_4", each, ["p"]), feeds))
    for each, answer in zip(feeds, answers, strict=True):
        check(answer, unoptimized(free, each, ["p"]))


def test_metadata_say_that_a_fixed_batch_takes_any_number(infer: InferenceStub) -> None:
    for name in ("batch_1", "batch_4"):
        answer = infer.ModelMetadata(inference.ModelMetadataRequest(name=name))
        assert [list(each.shape) for each in (*answer.inputs, *answer.outputs)] == [[-1, 3, 8, 8], [-1, 5]]


def test_a_whole_run_is_no_longer_than_a_request_may_be(infer: InferenceStub) -> None:
    x = np.zeros((65, 2, 4), np.float32)
    code, details = failure(infer.ModelInfer, request("time_first", [("x", "FP32", x)], ["t"]))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "65 items along axis 0 of its inputs" in details
