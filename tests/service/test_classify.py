"""Classify through gRPC, against the shipped LeNet: answers, feature maps, and what bad input gets."""

from __future__ import annotations

import io
import re
from pathlib import Path

import grpc
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from PIL import Image

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack, unpack
from tests.serving import Serving

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models/lenet/1/model.onnx"
SAMPLES = sorted((ROOT / "samples/mnist").glob("*.png"))
LAYERS = [
    *("conv1", "relu1", "pool1", "conv2", "relu2", "pool2"),
    *("fc1", "relu3", "fc2", "relu4", "logits", "probabilities"),
]


def digits(count: int, seed: int = 0) -> np.ndarray:
    """Inputs that differ, float32 [count, 1, 32, 32]."""
    return np.random.default_rng(seed).random((count, 1, 32, 32), np.float32)


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def of_images(*images: bytes, **fields: object) -> pb.ClassifyRequest:
    return pb.ClassifyRequest(images=pb.EncodedImages(images=images), **fields)  # type: ignore[arg-type]


def maps(response: pb.ClassifyResponse) -> dict[str, np.ndarray]:
    return {tensor.name: unpack(tensor) for tensor in response.feature_maps}


def probabilities(response: pb.ClassifyResponse) -> np.ndarray:
    """The probabilities in the order of the labels, float32 [N, K]."""
    rows = [sorted(result.scores, key=lambda score: score.index) for result in response.results]
    return np.array([[score.probability for score in row] for row in rows], np.float32)


def failure(call: object, request: pb.ClassifyRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as info:
        call(request)  # type: ignore[operator]
    error = info.value
    assert isinstance(error, grpc.Call)
    return error.code(), error.details() or ""


def test_a_tensor_gets_the_probabilities_of_onnx_runtime(stub: ClassifierStub) -> None:
    inputs = digits(3)
    response = stub.Classify(pb.ClassifyRequest(id="mine", tensor=pack(inputs)))
    session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    expected = session.run(["probabilities"], {"image": inputs})[0]
    np.testing.assert_allclose(probabilities(response), expected, atol=1e-6)
    assert (response.id, response.model, response.version) == ("mine", "lenet", "1")
    assert len(response.digest) == 64
    assert response.timings.run_batch_size >= 3
    assert not response.feature_maps
    assert not response.HasField("input")


@pytest.mark.parametrize("of", ["tensor", "images"])
def test_an_answer_tells_the_times_of_its_stages(stub: ClassifierStub, of: str) -> None:
    tensor = pb.ClassifyRequest(tensor=pack(digits(3)))
    request = tensor if of == "tensor" else of_images(SAMPLES[0].read_bytes())
    unary, (streamed,) = stub.Classify(request), stub.ClassifyStream(iter([request]))

    for timings in (unary.timings, streamed.response.timings):
        assert min(timings.decode_ns, timings.queue_ns, timings.compute_ns) > 0


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_real_digit_is_read_right(stub: ClassifierStub, sample: Path) -> None:
    response = stub.Classify(of_images(sample.read_bytes(), top_k=1))
    assert response.results[0].scores[0].label == sample.stem[0]


def test_scores_are_ranked_and_cut_to_top_k(stub: ClassifierStub) -> None:
    inputs = pack(digits(1))
    scores = stub.Classify(pb.ClassifyRequest(tensor=inputs)).results[0].scores
    assert len(scores) == 10
    assert [s.probability for s in scores] == sorted((s.probability for s in scores), reverse=True)
    assert sum(s.probability for s in scores) == pytest.approx(1)
    top = stub.Classify(pb.ClassifyRequest(tensor=inputs, top_k=3)).results[0].scores
    assert list(top) == list(scores[:3])
    assert len(stub.Classify(pb.ClassifyRequest(tensor=inputs, top_k=1000)).results[0].scores) == 10


def test_every_feature_map_equals_onnx_runtime_without_optimization(stub: ClassifierStub) -> None:
    """The reference adds each layer to the graph's outputs by its own means and turns optimization off."""
    inputs = digits(4)
    got = maps(stub.Classify(pb.ClassifyRequest(tensor=pack(inputs), layers=["*"])))
    assert list(got) == LAYERS
    model = onnx.load(MODEL)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in LAYERS if name != "probabilities")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for name, expected in zip(LAYERS, session.run(LAYERS, {"image": inputs}), strict=True):
        np.testing.assert_allclose(got[name], expected, atol=1e-5, err_msg=name)


def test_feature_maps_agree_with_each_other(stub: ClassifierStub) -> None:
    response = stub.Classify(pb.ClassifyRequest(tensor=pack(digits(2)), layers=["*"]))
    got = maps(response)
    np.testing.assert_array_equal(np.maximum(got["conv1"], 0), got["relu1"])
    pooled = got["relu1"].reshape(2, 6, 14, 2, 14, 2).max(axis=(3, 5))
    np.testing.assert_array_equal(pooled, got["pool1"])
    exponentials = np.exp(got["logits"] - got["logits"].max(axis=1, keepdims=True))
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got["probabilities"], softmax, atol=1e-6)
    np.testing.assert_array_equal(got["probabilities"], probabilities(response))


def test_layers_come_in_the_order_asked_and_once(stub: ClassifierStub) -> None:
    request = pb.ClassifyRequest(tensor=pack(digits(2)), layers=["pool2", "conv1", "pool2"])
    shapes = [(t.name, list(t.shape)) for t in stub.Classify(request).feature_maps]
    assert shapes == [("pool2", [2, 16, 5, 5]), ("conv1", [2, 6, 28, 28])]


def test_the_input_comes_back_as_the_model_saw_it(stub: ClassifierStub) -> None:
    inputs = digits(2)
    response = stub.Classify(pb.ClassifyRequest(tensor=pack(inputs), return_input=True))
    assert response.input.name == "image"
    np.testing.assert_array_equal(unpack(response.input), inputs)


def test_preprocessing_can_be_switched_off(stub: ClassifierStub) -> None:
    picture = Image.new("L", (28, 28), 255)
    picture.paste(0, (13, 5, 15, 20))  # a bar of ink
    plain = stub.Classify(of_images(encoded(picture), preprocessing=pb.PREPROCESSING_NONE, return_input=True))
    expected = np.zeros((1, 1, 32, 32), np.float32)
    expected[0, 0, 2:30, 2:30] = 1
    expected[0, 0, 2 + 5 : 2 + 20, 2 + 13 : 2 + 15] = 0
    np.testing.assert_array_equal(unpack(plain.input), expected)
    framed = stub.Classify(of_images(encoded(picture), return_input=True))
    assert unpack(framed.input)[0, 0, 0, 0] == 0  # paper was found to be background


def test_several_images_keep_their_order(stub: ClassifierStub) -> None:
    images = [path.read_bytes() for path in SAMPLES[:5]]
    together = stub.Classify(of_images(*images, top_k=1))
    assert [r.scores[0].label for r in together.results] == [p.stem[0] for p in SAMPLES[:5]]


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (pb.ClassifyRequest(), "INVALID_ARGUMENT", "neither images nor a tensor"),
        (of_images(), "INVALID_ARGUMENT", "the request holds no images; send at least 1"),
        (of_images(b""), "INVALID_ARGUMENT", r"images\[0\]: "),
        (of_images(SAMPLES[0].read_bytes(), b"<svg/>"), "INVALID_ARGUMENT", r"images\[1\]: "),
        (
            of_images(SAMPLES[0].read_bytes()[:100]),
            "INVALID_ARGUMENT",
            r"images\[0\]: .*cut short",
        ),
        (of_images(encoded(Image.new("L", (9, 9)), "GIF")), "INVALID_ARGUMENT", "PNG, JPEG"),
        (
            of_images(encoded(Image.new("1", (6_000, 5_000)))),
            "INVALID_ARGUMENT",
            "6000x5000 pixels, at most 25000000",
        ),
        (pb.ClassifyRequest(model="resnet"), "NOT_FOUND", 'no model "resnet"; there is lenet'),
        (pb.ClassifyRequest(model="../lenet"), "NOT_FOUND", 'no model "../lenet"'),
        (pb.ClassifyRequest(version="7"), "NOT_FOUND", 'no version "7"; it has 1'),
        (
            pb.ClassifyRequest(tensor=pack(digits(1)), layers=["con1"]),
            "INVALID_ARGUMENT",
            'con1.*"conv1"',
        ),
        (
            pb.ClassifyRequest(tensor=pack(digits(1)), layers=["conv1"] * 300),
            "RESOURCE_EXHAUSTED",
            "300 layers, the limit is 256",
        ),
        (pb.ClassifyRequest(tensor=pack(digits(1).astype(np.float64))), "INVALID_ARGUMENT", "float64"),
        (pb.ClassifyRequest(tensor=pack(digits(1)[0])), "INVALID_ARGUMENT", "image"),
        (pb.ClassifyRequest(tensor=pack(np.zeros((1, 1, 28, 28), np.float32))), "INVALID_ARGUMENT", "28"),
        (
            pb.ClassifyRequest(tensor=pack(np.zeros((0, 1, 32, 32), np.float32))),
            "INVALID_ARGUMENT",
            "no items along axis 0 of the tensor; send at least 1",
        ),
        (pb.ClassifyRequest(tensor=pack(digits(1) * np.nan)), "INVALID_ARGUMENT", "NaN"),
        (
            pb.ClassifyRequest(tensor=pb.Tensor(shape=[1, 1, 32, 32], data=b"\0" * 4095)),
            "INVALID_ARGUMENT",
            "4095 bytes, expected 4096",
        ),
        (
            pb.ClassifyRequest(tensor=pb.Tensor(shape=[2**4, 2**60 + 2], data=b"\0")),
            "INVALID_ARGUMENT",
            "the tensor can't be read",
        ),
        (
            pb.ClassifyRequest(tensor=pack(digits(1), name="picture")),
            "INVALID_ARGUMENT",
            'called "picture", the model\'s input "image"',
        ),
        (
            pb.ClassifyRequest(tensor=pack(np.zeros((1025, 1, 32, 32), np.float32))),
            "RESOURCE_EXHAUSTED",
            "1025 .*the limit is 1024",
        ),
        (
            pb.ClassifyRequest(tensor=pack(digits(1)), id="i" * 257),
            "INVALID_ARGUMENT",
            "257 characters, the limit is 256",
        ),
    ],
)
def test_bad_input_gets_a_clear_error(
    stub: ClassifierStub, request_: pb.ClassifyRequest, code: str, message: str
) -> None:
    got_code, details = failure(stub.Classify, request_)
    assert got_code.name == code
    assert re.search(message, details), details
    assert str(ROOT) not in details
    assert stub.Classify(pb.ClassifyRequest(tensor=pack(digits(1)))).results  # the server lives on


def test_feature_maps_over_the_byte_cap_are_refused_before_the_run(serving: Serving) -> None:
    with serving(max_response_bytes=100_000) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        assert len(stub.Classify(pb.ClassifyRequest(tensor=pack(digits(1)), layers=["*"])).feature_maps) == 12
        code, details = failure(
            stub.Classify, pb.ClassifyRequest(tensor=pack(digits(3)), layers=["conv1", "relu1", "conv2"])
        )
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "the answer would have" in details
        assert "the limit is 100000; ask for fewer layers or send fewer images" in details


def test_a_message_over_the_limit_is_refused_and_the_next_call_answered(serving: Serving) -> None:
    with serving(max_request_bytes=50_000) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        code, _ = failure(stub.Classify, pb.ClassifyRequest(tensor=pack(digits(20))))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert stub.Classify(pb.ClassifyRequest(tensor=pack(digits(1)))).results


def test_nan_that_is_let_in_is_told_from_nan_that_the_model_makes(serving: Serving) -> None:
    inputs = digits(3)
    inputs[1] = np.nan
    with serving(refuse_non_finite=False) as server, grpc.insecure_channel(server.address) as channel:
        request = pb.ClassifyRequest(tensor=pack(inputs))
        code, details = failure(ClassifierStub(channel).Classify, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details == ("item 1 of the tensor has NaN or infinity, and so has the answer; send finite numbers")
