"""Pictures for inputs of every kind, through the server; and what contradicts an input, found at load."""

from __future__ import annotations

import io
import json
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as oip
from protos.tensors import unpack
from tests.service.conftest import add_model
from tests.service.live.repositories import wait_until_true
from tests.service.oip.stub import InferenceStub, arrays
from tests.service.onnx_models import model, node, random_weights, value
from tests.serving import Serving

RESIZE = '[preprocessing]\nkind = "resize"\nheight = 32\nwidth = 32\n'
LEVELS = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def network(element: int = TensorProto.FLOAT, *, last: bool = False, side: int | str = 32) -> onnx.ModelProto:
    """A classifier of pictures in three channels, first or last."""
    shape = ["n", side, side, 3] if last else ["n", 3, side, side]
    turn = [node("Transpose", "x", "t", perm=[0, 3, 1, 2])] if last else []
    nodes = [
        node("Cast", "image", "x", to=TensorProto.FLOAT),
        *turn,
        node("Conv", "t w" if last else "x w", "c"),
        node("GlobalAveragePool", "c", "g"),
        node("Flatten", "g", "f"),
        node("Softmax", "f", "p"),
    ]
    weights = {"w": random_weights(w=(5, 3, 3, 3))["w"] / 100}
    return model(nodes, [value("image", shape, element)], [value("p", ["n", 5])], weights)


def png(levels: np.ndarray = LEVELS) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def put(folder: Path, name: str, built: onnx.ModelProto, config: str = "") -> None:
    add_model(folder, name, built)
    if config:
        (folder / name / "config.toml").write_text(config)


def seen(stub: ClassifierStub, name: str, image: bytes) -> np.ndarray:
    """Return the input that a model sees of a picture."""
    images = pb.EncodedImages(images=[image])
    answer = stub.Classify(pb.ClassifyRequest(model=name, images=images, return_input=True))
    assert sum(score.probability for score in answer.results[0].scores) == pytest.approx(1, abs=1e-5)
    return np.asarray(unpack(answer.input)[0])


def test_pictures_are_made_for_inputs_of_every_kind(serving: Serving, tmp_path: Path) -> None:
    three = f"{RESIZE}channels = 3\n"
    put(tmp_path, "uint8", network(TensorProto.UINT8), three)
    put(tmp_path, "float16", network(TensorProto.FLOAT16), three)
    put(tmp_path, "bfloat16", network(TensorProto.BFLOAT16), three)
    put(tmp_path, "float64", network(TensorProto.DOUBLE), three)
    put(tmp_path, "last", network(last=True), f'{three}layout = "NHWC"\n')
    put(tmp_path, "forgotten", network(), RESIZE)
    put(tmp_path, "bgr", network(last=True), '[preprocessing]\ncolor = "BGR"\n')
    first, part = LEVELS.transpose(2, 0, 1), LEVELS.astype(np.float32) / np.float32(255)
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        np.testing.assert_array_equal(seen(stub, "uint8", png()), first)
        for name, dtype in (("float16", np.float16), ("bfloat16", np.float32), ("float64", np.float64)):
            found = seen(stub, name, png())
            assert found.dtype == dtype
            np.testing.assert_allclose(found, part.transpose(2, 0, 1), atol=5e-4)
        np.testing.assert_allclose(seen(stub, "last", png()), part, atol=1e-6)
        np.testing.assert_allclose(seen(stub, "forgotten", png()), part.transpose(2, 0, 1), atol=1e-6)
        np.testing.assert_allclose(seen(stub, "bgr", png()), part[..., ::-1], atol=1e-6)
        described = stub.DescribeModel(pb.DescribeModelRequest(model="bgr")).preprocessing
        assert (described.channels, described.height, described.width) == (3, 32, 32)
        assert "BGR" in described.description
        request = oip.ModelInferRequest(
            model_name="uint8",
            inputs=[
                oip.ModelInferRequest.InferInputTensor(
                    name="image",
                    datatype="BYTES",
                    shape=[1],
                    contents=oip.InferTensorContents(bytes_contents=[png()]),
                )
            ],
        )
        assert arrays(InferenceStub(channel).ModelInfer(request))["p"].shape == (1, 5)


def test_a_contradiction_is_found_at_load(serving: Serving, tmp_path: Path) -> None:
    put(tmp_path, "good", network())
    put(tmp_path, "channels", network(), f"{RESIZE}channels = 1\n")
    put(tmp_path, "size", network(), RESIZE.replace("32", "224"))
    put(tmp_path, "layout", network(), f'{RESIZE}channels = 3\nlayout = "NHWC"\n')
    put(tmp_path, "audio", network())
    (tmp_path / "audio" / "preprocessor_config.json").write_text(
        '{"feature_extractor_type": "ASTFeatureExtractor"}'
    )
    mends = {
        "channels": "write channels = 3 under [preprocessing] of config.toml",
        "size": "write height = 32 and width = 32 under [preprocessing] of config.toml",
        "layout": 'write layout = "NCHW" under [preprocessing] of config.toml',
        "audio": 'or kind = "none"',
    }
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        found = {m.name: m for m in ClassifierStub(channel).ListModels(pb.ListModelsRequest()).models}
    for name, mend in mends.items():
        assert found[name].state == pb.MODEL_STATE_UNAVAILABLE
        assert found[name].reason.endswith(mend)
    assert found["good"].state == pb.MODEL_STATE_READY


def test_transparency_and_large_pictures_are_taken_as_the_libraries_take_them(
    serving: Serving, tmp_path: Path
) -> None:
    put(tmp_path, "net", network(), '[preprocessing]\nresize = "stretch"\nscale = 1.0\n')
    large = np.random.default_rng(1).integers(0, 256, (64, 2500, 4), dtype=np.uint8)
    expected = Image.fromarray(large).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        found = seen(ClassifierStub(channel), "net", png(large))
    np.testing.assert_array_equal(found, np.asarray(expected, np.float32).transpose(2, 0, 1))


def test_a_file_beside_a_version_is_followed(serving: Serving, tmp_path: Path) -> None:
    put(tmp_path, "net", network(side="side"))
    told = {"image_processor_type": "ViTImageProcessor", "size": 16}
    file = tmp_path / "net" / "1" / "preprocessor_config.json"
    file.write_text(json.dumps(told))
    (tmp_path / "net" / "config.json").write_text(json.dumps({"id2label": dict(enumerate("abcde"))}))
    with (
        serving(model_repository=tmp_path, watch_settle_s=0.1, trial_timeout_s=0) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = ClassifierStub(channel)

        def described() -> pb.DescribeModelResponse:
            return stub.DescribeModel(pb.DescribeModelRequest(model="net"))

        assert list(described().labels) == list("abcde")
        assert described().preprocessing.height == 16
        file.write_text(json.dumps(told | {"size": 24}))
        wait_until_true(lambda: described().preprocessing.height == 24)
        assert seen(stub, "net", png()).shape == (3, 24, 24)
