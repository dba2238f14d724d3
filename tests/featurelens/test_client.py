from __future__ import annotations

import copy
import io
import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import featurelens
from featurelens import ALL_LAYERS, Client, FeaturelensError, ImageLike, Prediction
from tests.featurelens.conftest import DEAD_ADDRESS, SAMPLES
from tests.featurelens.servers import EndsEarly, Silent, Unavailable, Unimplemented, failing_server


def test_classifies_a_path_bytes_and_pixels_alike(client: Client, seven: Path) -> None:
    with Image.open(seven) as image:
        pixels = np.asarray(image)
    answers = [client.classify(each) for each in (seven, str(seven), seven.read_bytes(), pixels)]

    assert [answer.label for answer in answers] == ["7"] * 4
    assert len({answer.scores for answer in answers}) == 1
    assert len(answers[0].scores) == 10
    assert sum(score.probability for score in answers[0].scores) == pytest.approx(1, abs=1e-5)
    assert answers[0].probability == answers[0].scores[0].probability


def test_many_images_are_answered_in_order_with_maps_of_their_own(client: Client) -> None:
    paths = sorted(SAMPLES.glob("*.png"))
    answers = client.classify_many(paths, layers=["conv1"], top_k=1)

    assert len(answers) == len(paths) > 1
    for path, answer in zip(paths, answers, strict=True):
        alone = client.classify(path, layers=["conv1"])
        assert [answer.label] == [score.label for score in alone.scores[:1]]
        # a batch may be summed in another order than an image alone: float32 round-off of values up to 10
        np.testing.assert_allclose(answer.feature_maps["conv1"], alone.feature_maps["conv1"], atol=1e-4)


def test_all_layers_agree_with_each_other(client: Client, seven: Path) -> None:
    maps = client.classify(seven, layers=ALL_LAYERS).feature_maps

    described = [layer.name for layer in client.describe().layers if not layer.auxiliary]
    assert list(maps) == described  # in graph order
    assert {name: maps[name].shape for name in ("conv1", "pool1", "conv2", "fc1", "logits")} == {
        "conv1": (6, 28, 28),
        "pool1": (6, 14, 14),
        "conv2": (16, 10, 10),
        "fc1": (120,),
        "logits": (10,),
    }
    np.testing.assert_array_equal(np.maximum(maps["conv1"], 0), maps["relu1"])
    np.testing.assert_array_equal(maps["relu1"].reshape(6, 14, 2, 14, 2).max((2, 4)), maps["pool1"])
    assert not maps["conv1"].flags.writeable


def test_a_tensor_goes_to_the_model_as_it_is(client: Client, seven: Path) -> None:
    seen = client.classify(seven, return_input=True)
    assert seen.input is not None
    (again,) = client.classify_tensor(seen.input[None])

    assert seen.input.shape == (1, 32, 32)
    assert seen.input.dtype == np.float32
    assert again.label == seen.label
    assert again.probability == pytest.approx(seen.probability, abs=1e-6)
    assert again.input is None


def test_preprocessing_can_be_switched_off(client: Client, seven: Path) -> None:
    with Image.open(seven) as image:
        pixels = np.array(image.convert("L").resize((32, 32)))
    untouched = client.classify(pixels, preprocess=False, return_input=True).input
    assert untouched is not None

    np.testing.assert_allclose(untouched[0], pixels / np.float32(255), atol=1e-6)


def test_a_stream_yields_outcomes_in_order_and_survives_bad_images(client: Client, seven: Path) -> None:
    images: list[ImageLike] = [seven, b"no image", "/no/such/file", *[seven] * 100, b""]
    outcomes = list(client.classify_stream(images, in_flight=8, top_k=1))

    assert [each.label if isinstance(each, Prediction) else each.code for each in outcomes] == [
        "7",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        *["7"] * 100,
        "INVALID_ARGUMENT",
    ]


def test_a_stream_of_bad_files_alone_ends(client: Client) -> None:
    outcomes = list(client.classify_stream(["/no/such/file"] * 50, in_flight=4))

    assert [str(each) for each in outcomes] == ["INVALID_ARGUMENT: no such file"] * 50


def test_a_stream_can_be_left_early(client: Client, seven: Path) -> None:
    stream = client.classify_stream(itertools.repeat(seven), in_flight=2)
    first = next(stream)
    stream.close()

    assert isinstance(first, Prediction)
    assert client.classify(seven).label == "7"


def test_describes_the_model(client: Client) -> None:
    model = client.describe("lenet", weights=True)
    layers = {layer.name: layer for layer in model.layers}
    conv1 = layers["conv1"]

    assert (model.name, model.parameters, model.labels) == ("lenet", 63_802, tuple("0123456789"))
    assert (conv1.op_type, conv1.output_shape, conv1.kernel_shape) == ("Conv", (-1, 6, 28, 28), (5, 5))
    assert [weight.shape for weight in conv1.weights] == [(6, 1, 5, 5), (6,)]
    assert conv1.parameters == sum(weight.size for weight in conv1.weights)
    assert conv1.receptive_field is not None
    assert conv1.receptive_field.size == (5, 5)
    assert client.describe().layers[0].weights == ()


def test_lists_models_and_health(client: Client) -> None:
    (model,) = client.models()

    assert (model.name, model.state) == ("lenet", "READY")
    assert model.digest == client.describe().digest
    assert client.is_serving()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"layers": ["relu9"]}, "INVALID_ARGUMENT", 'no layer "relu9"; did you mean '),
        ({"model": "nope"}, "NOT_FOUND", 'there is no model "nope"; there is lenet'),
        ({"version": "99"}, "NOT_FOUND", "99"),
        ({"top_k": -1}, "INVALID_ARGUMENT", "top_k is -1, expected 0 (all labels) or more"),
        ({"timeout": 1e-6}, "DEADLINE_EXCEEDED", " within 1e-06 s"),
    ],
)
def test_a_refused_call_says_why(
    client: Client, seven: Path, options: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(FeaturelensError) as raised:
        client.classify(seven, **options)

    assert raised.value.code == code
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (np.zeros((1, 1, 28, 28), np.float32), "32"),
        (np.zeros((1, 1, 32, 32), np.float64), "float64"),
        (np.full((1, 1, 32, 32), np.nan, np.float32), "NaN"),
        (np.zeros((1, 1, 32, 32), np.complex64), "dtype complex64 can't be sent"),
    ],
)
def test_a_wrong_tensor_is_refused(client: Client, tensor: np.ndarray[Any, Any], message: str) -> None:
    with pytest.raises(FeaturelensError) as raised:
        client.classify_tensor(tensor)

    assert raised.value.code == "INVALID_ARGUMENT"
    assert message.lower() in raised.value.message.lower()


def test_a_request_over_the_limit_is_not_sent(client: Client) -> None:
    with pytest.raises(FeaturelensError) as raised:
        client.classify(bytes(16 * 2**20))

    assert raised.value.code == "RESOURCE_EXHAUSTED"


def test_nobody_there_is_one_clear_line(seven: Path) -> None:
    expected = f"no featurelens server answers at {DEAD_ADDRESS}; start one with `featurelens serve`"
    with Client(DEAD_ADDRESS) as client:
        for call in (client.models, client.describe, lambda: client.classify(seven)):
            with pytest.raises(FeaturelensError) as raised:
                call()
            assert (raised.value.code, raised.value.message) == ("UNAVAILABLE", expected)
        with pytest.raises(FeaturelensError, match=expected):
            list(client.classify_stream([seven]))
        assert not client.is_serving()


def test_an_address_needs_a_port() -> None:
    with pytest.raises(FeaturelensError, match="server is 'localhost', expected host:port, such as "):
        Client("localhost")


def test_unavailable_is_tried_again() -> None:
    servicer = Unavailable(failures=2)
    with failing_server(servicer) as address, Client(address) as client:
        assert [model.name for model in client.models()] == ["lenet"]

    assert servicer.calls == 3


def test_trying_again_ends() -> None:
    servicer = Unavailable(failures=100)
    with (
        failing_server(servicer) as address,
        Client(address) as client,
        pytest.raises(FeaturelensError) as raised,
    ):
        client.models()

    assert str(raised.value) == "UNAVAILABLE: the server is draining"
    assert servicer.calls == 4


def test_every_call_has_a_deadline(seven: Path) -> None:
    servicer = Silent()
    with failing_server(servicer) as address, Client(address, timeout=0.05) as client:
        for call in (
            client.models,
            client.describe,
            lambda: client.classify(seven),
            lambda: list(client.classify_stream([seven])),
        ):
            with pytest.raises(FeaturelensError, match=f"no answer from {address} within 0.05 s"):
                call()
        servicer.released.set()


def test_a_stream_that_ends_early_is_an_error(seven: Path) -> None:
    with (
        failing_server(EndsEarly()) as address,
        Client(address) as client,
        pytest.raises(FeaturelensError, match=r"INTERNAL: .* ended the stream with images unanswered"),
    ):
        list(client.classify_stream([seven]))


def test_another_kind_of_server_is_told_apart(seven: Path) -> None:
    with (
        failing_server(Unimplemented()) as address,
        Client(address) as client,
        pytest.raises(FeaturelensError, match=f"the server at {address} does not speak featurelens.v1"),
    ):
        client.classify(seven)


def test_one_client_serves_many_threads(client: Client, seven: Path) -> None:
    labels: list[str] = []
    threads = [threading.Thread(target=lambda: labels.append(client.classify(seven).label)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert labels == ["7"] * 8


def test_an_error_survives_copying() -> None:
    error = copy.copy(FeaturelensError("NOT_FOUND", "no such model"))

    assert (error.code, error.message) == ("NOT_FOUND", "no such model")
    assert str(error) == "NOT_FOUND: no such model"


def test_what_is_public_is_there() -> None:
    assert [name for name in featurelens.__all__ if not hasattr(featurelens, name)] == []
    assert sorted(featurelens.__all__) == featurelens.__all__


def test_an_image_of_another_kind_is_refused(client: Client) -> None:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "BMP")

    with pytest.raises(FeaturelensError, match=r"INVALID_ARGUMENT: .*PNG, JPEG or WebP"):
        client.classify(buffer.getvalue())
