from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from training.export import (
    PARITY_TOLERANCE,
    ExportError,
    check_parity,
    export,
    read_metadata,
)
from training.model import LAYERS, LeNet, random_start

if TYPE_CHECKING:
    from pathlib import Path

    from training.data import Digits

METADATA: dict[str, Any] = {"labels": ["0", "1"], "seed": 3}


@pytest.fixture(scope="module")
def model() -> LeNet:
    return random_start(0)


@pytest.fixture(scope="module")
def exported(model: LeNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export(model, METADATA, path)
    return path


def test_tensors_are_named_after_the_layers(exported: Path) -> None:
    graph = onnx.load(exported).graph
    assert [value.name for value in graph.input] == ["image"]
    assert [value.name for value in graph.output] == ["probabilities"]
    assert set(LAYERS) <= {output for node in graph.node for output in node.output}


def test_inner_layers_keep_their_shapes_on_record(exported: Path) -> None:
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in onnx.load(exported).graph.value_info
    }
    assert set(LAYERS[:-1]) <= set(shapes)
    assert shapes["pool1"] == ["batch", 6, 14, 14]
    assert shapes["fc1"] == ["batch", 120]


def test_initializers_are_named_after_the_parameters(exported: Path, model: LeNet) -> None:
    names = {initializer.name for initializer in onnx.load(exported).graph.initializer}
    assert {name for name, _ in model.named_parameters()} <= names


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_size_runs(exported: Path, model: LeNet, batch: int) -> None:
    image = torch.rand(batch, 1, 32, 32)
    session = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"image": image.numpy()})
    np.testing.assert_allclose(probabilities, model(image).detach().numpy(), atol=1e-6)


def test_an_image_answers_the_same_alone_and_in_a_batch(exported: Path) -> None:
    image = torch.rand(5, 1, 32, 32).numpy()
    session = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (together,) = session.run(None, {"image": image})
    alone = [session.run(None, {"image": image[index : index + 1]})[0] for index in range(5)]
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-6)


def test_metadata_is_what_was_given_and_the_layer_table(exported: Path) -> None:
    layers = [("conv1", "Conv"), ("relu1", "Relu"), ("pool1", "MaxPool")]
    layers += [("conv2", "Conv"), ("relu2", "Relu"), ("pool2", "MaxPool")]
    layers += [("fc1", "Gemm"), ("relu3", "Relu"), ("fc2", "Gemm"), ("relu4", "Relu"), ("logits", "Gemm")]
    layers += [("probabilities", "Softmax")]
    table = [{"name": name, "op": op, "module": name} for name, op in layers]
    assert read_metadata(exported) == {**METADATA, "layers": table}


def test_the_file_tells_nothing_of_the_machine_that_wrote_it(exported: Path) -> None:
    content = exported.read_bytes()
    assert b".py" not in content
    assert b"stack_trace" not in content


def test_exporting_twice_writes_the_same_bytes(exported: Path, model: LeNet, tmp_path: Path) -> None:
    export(model, METADATA, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == exported.read_bytes()
    assert list(tmp_path.iterdir()) == [tmp_path / "model.onnx"]


def test_exporting_leaves_the_network_as_it_was(exported: Path, model: LeNet) -> None:
    assert exported.exists()
    assert model.training
    assert {name for name, _ in model.state_dict().items()} == {name for name, _ in model.named_parameters()}


def test_every_layer_computes_what_pytorch_computes(
    exported: Path, model: LeNet, test_digits: Digits
) -> None:
    differences = check_parity(model, exported, test_digits)
    assert list(differences) == [*LAYERS, "probabilities (optimized)"]
    assert max(differences.values()) <= 10 * PARITY_TOLERANCE


def test_a_graph_that_computes_something_else_is_refused(
    exported: Path, model: LeNet, test_digits: Digits, tmp_path: Path
) -> None:
    other = tmp_path / "other.onnx"
    shutil.copyfile(exported, other)
    proto = onnx.load(other)
    (bias,) = (weight for weight in proto.graph.initializer if weight.name == "conv2.bias")
    bias.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.01), bias.name)
    )
    onnx.save(proto, other)
    with pytest.raises(ExportError, match=r"^conv2 differs by 0\.01, more than \d"):
        check_parity(model, other, test_digits)
