"""The unmodified tritonclient as a client of ours, in one process with our own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from queue import Queue
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from featurelens import Client
from featurelens.results import Prediction
from tests.service.oip.test_infer import VALUES, values
from tests.service.test_classify import LAYERS, SAMPLES, digits

TIMEOUT_S = 20
Outcome = tuple[Any, Any]


@pytest.fixture
def client(server_address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server_address) as client:
        yield client


def image(count: int = 1, seed: int = 0) -> list[triton.InferInput]:
    tensor = triton.InferInput("image", [count, 1, 32, 32], "FP32")
    tensor.set_data_from_numpy(digits(count, seed))
    return [tensor]


def outputs(*names: str) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name) for name in names]


def probabilities_of(predictions: list[Prediction]) -> np.ndarray:
    """Return what our own client got, in the order of the labels."""
    rows = [sorted(prediction.scores, key=lambda score: score.index) for prediction in predictions]
    return np.array([[score.probability for score in row] for row in rows])


def test_infer_with_a_layer_agrees_with_our_own_client(
    client: triton.InferenceServerClient, server_address: str
) -> None:
    result = client.infer("lenet", image(2), outputs=outputs("probabilities", "relu1"), request_id="mine")

    with Client(server_address) as ours:
        expected = ours.classify_tensor(digits(2), layers=["relu1"])
    maps = np.stack([prediction.feature_maps["relu1"] for prediction in expected])
    assert result.get_response().id == "mine"
    np.testing.assert_allclose(result.as_numpy("probabilities"), probabilities_of(expected), atol=1e-6)
    np.testing.assert_allclose(result.as_numpy("relu1"), maps, atol=1e-5)


def test_async_infer(client: triton.InferenceServerClient) -> None:
    ended: Queue[Outcome] = Queue()
    client.async_infer(
        "lenet",
        image(),
        lambda result, error: ended.put((result, error)),
        outputs=outputs("relu1"),
        priority=1,
        timeout=5_000_000,
    )

    result, error = ended.get(timeout=TIMEOUT_S)

    assert error is None
    assert result.as_numpy("relu1").shape == (1, 6, 28, 28)


async def test_aio_infer(server_address: str) -> None:
    async with triton_aio.InferenceServerClient(server_address) as client:
        result = await client.infer("lenet", image(), outputs=outputs("probabilities", "relu1"))
        assert await client.is_server_ready()

    assert result.as_numpy("probabilities").shape == (1, 10)
    assert result.as_numpy("relu1").shape == (1, 6, 28, 28)


def test_stream_infer(client: triton.InferenceServerClient) -> None:
    ended: Queue[Outcome] = Queue()
    client.start_stream(lambda result, error: ended.put((result, error)))
    for i in range(10):
        client.async_stream_infer("lenet", image(seed=i), outputs=outputs("relu1"), request_id=str(i))
    client.async_stream_infer("lenet", image(), outputs=outputs("relu9"), request_id="bad")
    outcomes = [ended.get(timeout=TIMEOUT_S) for _ in range(11)]
    client.stop_stream()

    results = {result.get_response().id: result for result, error in outcomes if error is None}
    (error,) = [error for _, error in outcomes if error is not None]
    assert results.keys() == {str(i) for i in range(10)}
    assert results["3"].as_numpy("relu1").shape == (1, 6, 28, 28)
    assert 'no output or layer "relu9"' in error.message()


def test_classification(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("probabilities", class_count=3)]

    (texts,) = client.infer("lenet", image(), outputs=wanted).as_numpy("probabilities")

    parts = [text.decode().split(":") for text in texts]
    assert len(parts) == 3
    assert [index for _, index, _ in parts] == [label for _, _, label in parts]
    assert [float(p) for p, _, _ in parts] == sorted((float(p) for p, _, _ in parts), reverse=True)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_images_as_bytes(
    client: triton.InferenceServerClient, server_address: str, shape: tuple[int, ...]
) -> None:
    files = [SAMPLES[0], SAMPLES[-1]]
    tensor = triton.InferInput("image", shape, "BYTES")
    tensor.set_data_from_numpy(np.array([file.read_bytes() for file in files], object).reshape(shape))

    result = client.infer("lenet", [tensor])

    with Client(server_address) as ours:
        expected = probabilities_of(ours.classify_many(files))
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected, atol=1e-6)


@pytest.mark.parametrize("datatype", VALUES)
def test_every_datatype(zoo_address: str, datatype: str) -> None:
    tensor = triton.InferInput("x", [2, 2], datatype)
    array = values(datatype)
    tensor.set_data_from_numpy(array.astype(ml_dtypes.bfloat16) if datatype == "BF16" else array)
    with triton.InferenceServerClient(zoo_address) as client:
        found = client.infer(f"same-{datatype}", [tensor]).as_numpy("y")

    if datatype == "BYTES":
        found = np.vectorize(bytes.decode, otypes=[object])(found)
    np.testing.assert_array_equal(found, array)


def test_several_inputs_and_outputs(zoo_address: str) -> None:
    inputs = [triton.InferInput(name, [1, 2], "FP32") for name in "ab"]
    for tensor in inputs:
        tensor.set_data_from_numpy(np.array([[1, 2]], np.float32))
    with triton.InferenceServerClient(zoo_address) as client:
        result = client.infer("sums", inputs, model_version="1")

    assert result.as_numpy("sum").tolist() == [[2, 4]]
    assert result.as_numpy("less").tolist() == [[False, False]]


def test_liveness_and_readiness(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("lenet")


def test_metadata_and_configuration(client: triton.InferenceServerClient) -> None:
    assert client.get_server_metadata(as_json=True)["name"] == "featurelens"
    metadata = client.get_model_metadata("lenet", as_json=True)
    config = client.get_model_config("lenet").config

    assert [tensor["name"] for tensor in metadata["inputs"]] == [tensor.name for tensor in config.input]
    assert [tensor["name"] for tensor in metadata["outputs"]] == ["probabilities"]
    assert config.platform == "onnxruntime_onnx"
    assert json.loads(config.parameters["featurelens_layers"].string_value) == LAYERS


def test_statistics(client: triton.InferenceServerClient) -> None:
    (before,) = client.get_inference_statistics("lenet").model_stats
    client.infer("lenet", image(4))
    (after,) = client.get_inference_statistics("lenet").model_stats

    assert after.inference_count == before.inference_count + 4
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1


def test_repository_index(client: triton.InferenceServerClient) -> None:
    (model,) = client.get_model_repository_index().models

    assert (model.name, model.version, model.state) == ("lenet", "1", "READY")


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda client: client.infer("resnet", image()), "NOT_FOUND"),
        (lambda client: client.infer("lenet", image(), outputs=outputs("relu9")), "INVALID_ARGUMENT"),
        (lambda client: client.load_model("lenet"), "UNIMPLEMENTED"),
        (lambda client: client.unload_model("lenet"), "UNIMPLEMENTED"),
        (lambda client: client.get_system_shared_memory_status(), "UNIMPLEMENTED"),
        (lambda client: client.get_trace_settings(), "UNIMPLEMENTED"),
    ],
    ids=["model", "output", "load", "unload", "memory", "trace"],
)
def test_errors_have_their_status(client: triton.InferenceServerClient, call: Any, status: str) -> None:  # noqa: ANN401 - a lambda
    with pytest.raises(InferenceServerException) as info:
        call(client)

    assert info.value.status() == f"StatusCode.{status}"
