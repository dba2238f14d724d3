"""NaN and infinity out of a model: no answer, and the layer where they begin; over both transports."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import onnx
import pytest

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.non_finite import OriginSearch
from tests.service.conftest import add_model
from tests.service.head_models import head
from tests.service.oip.stub import InferenceStub, request
from tests.service.onnx_models import model, node, value
from tests.service.test_classify import encoded, failure, of_images, probabilities
from tests.serving import serving as run_server

NAN = [[1, -1, 2, 3]]


def masked() -> onnx.ModelProto:
    """Minus infinities that a softmax takes away; a logarithm that makes NaN; layers that keep it."""
    nodes = [
        node("Where", "mask z never", "masked"),
        node("Softmax", "masked", "attention"),
        node("Log", "z", "logarithm"),
        node("Add", "attention logarithm", "sum"),
        node("Neg", "sum", "y"),
    ]
    weights = {"mask": np.array([True, True, True, False]), "never": np.array(-np.inf, np.float32)}
    return head(nodes, weights)


def picture() -> onnx.ModelProto:
    """Logarithms of the means of pictures minus a half, in three channels: NaN for dark ones."""
    nodes = [
        node("GlobalAveragePool", "image", "g"),
        node("Flatten", "g", "f"),
        node("Sub", "f half", "d"),
        node("Log", "d", "y"),
    ]
    return model(
        nodes,
        [value("image", ["n", 3, 8, 8])],
        [value("y", ["n", 3])],
        {"half": np.array(0.5, np.float32)},
    )


MODELS = {
    "log": head([node("Log", "z", "y")]),
    "masked": masked(),
    "minus_infinity": head(
        [node("Where", "mask z never", "y")],
        {"mask": np.array([True, True, True, False]), "never": np.array(-np.inf, np.float32)},
    ),
    "overflow": head([node("Mul", "z huge", "y")], {"huge": np.array(1e38, np.float32)}),
    "picture": picture(),
}


@pytest.fixture(scope="module")
def channel(transport: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """A server of these models."""
    folder = tmp_path_factory.mktemp("nan")
    for name, built in MODELS.items():
        add_model(folder, name, built)
    (folder / "picture" / "config.toml").write_text(
        '[preprocessing]\nkind = "resize"\nchannels = 3\nheight = 8\nwidth = 8\n'
    )
    (folder / "minus_infinity" / "config.toml").write_text('head = "logits"\n')
    (folder / "overflow" / "config.toml").write_text('head = "logits"\n')
    with (
        run_server(model_repository=folder, transport=transport) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield channel


@pytest.mark.parametrize(
    ("name", "rows", "layer"),
    [
        ("log", NAN, '"y" (Log)'),
        ("masked", NAN, '"logarithm" (Log)'),
        ("overflow", [[100, 1, 1, 1]], '"y" (Mul)'),
    ],
)
def test_an_answer_that_is_not_finite_names_the_layer(
    channel: grpc.Channel, name: str, rows: list[list[float]], layer: str
) -> None:
    tensor = pack(np.array(rows, np.float32))
    code, details = failure(ClassifierStub(channel).Classify, pb.ClassifyRequest(model=name, tensor=tensor))

    assert code is grpc.StatusCode.INTERNAL
    assert details.startswith(
        'the model answers with NaN or infinity in "y" for item 0 of the tensor, '
        f"of which no probabilities can be made; it begins in layer {layer}"
    )


def test_the_picture_that_is_answered_with_nan_is_named(channel: grpc.Channel) -> None:
    from PIL import Image

    dark, light = (encoded(Image.new("RGB", (8, 8), (level,) * 3)) for level in (10, 250))
    stub = ClassifierStub(channel)
    _, details = failure(stub.Classify, of_images(light, light, dark, dark, model="picture"))

    assert "for images[2] and 1 more, of which" in details
    assert stub.Classify(of_images(light, model="picture")).results


def test_in_a_stream_it_is_answered_in_band(channel: grpc.Channel) -> None:
    requests = [
        pb.ClassifyRequest(id=str(i), model="log", tensor=pack(np.array(rows, np.float32)))
        for i, rows in enumerate((NAN, [[1, 2, 3, 4]]))
    ]
    answers = {answer.id: answer for answer in ClassifierStub(channel).ClassifyStream(iter(requests))}

    assert answers["0"].error.code == grpc.StatusCode.INTERNAL.value[0]
    assert 'layer "y" (Log)' in answers["0"].error.message
    assert answers["1"].response.results


def test_a_class_whose_logit_is_minus_infinity_has_probability_0(channel: grpc.Channel) -> None:
    tensor = pack(np.zeros((1, 4), np.float32))
    answer = ClassifierStub(channel).Classify(pb.ClassifyRequest(model="minus_infinity", tensor=tensor))

    np.testing.assert_allclose(probabilities(answer), [[1 / 3, 1 / 3, 1 / 3, 0]], rtol=1e-6)


def test_the_open_inference_protocol_returns_what_the_layers_hold(channel: grpc.Channel) -> None:
    z = np.array(NAN, np.float32)
    asked = request("masked", [("z", "FP32", z)], ["attention", "logarithm", "y"])
    answer = InferenceStub(channel).ModelInfer(asked)

    attention, logarithm, _ = (np.frombuffer(raw, np.float32) for raw in answer.raw_output_contents)
    assert np.isfinite(attention).all()
    np.testing.assert_array_equal(np.isnan(logarithm), [False, True, False, False])


def test_searches_are_not_made_again_and_again() -> None:
    from service.device import Execution
    from service.model import Model

    loaded, search = Model(MODELS["log"].SerializeToString(), Execution()), OriginSearch()
    feeds = {"z": np.array(NAN, np.float32)}

    first = search.explain(loaded, feeds, "y")
    built = loaded.tap_counts
    assert search.explain(loaded, feeds, "y") == f"{first}, as found for an earlier item"
    assert loaded.tap_counts == built
