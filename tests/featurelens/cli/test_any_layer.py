"""The command takes layers of any rank, type and size, whether they follow the batch or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image

from tests.featurelens.conftest import Command
from tests.service.conftest import add_model
from tests.service.onnx_models import fixed_batch, node, value
from tests.serving import serving

RESIZE = '[preprocessing]\nkind = "resize"\nheight = 8\nwidth = 8\nchannels = 3\n'
SHAPES = {
    "conv": [5, 6, 6],
    "shape": [4],
    "channels_first": [5, 1, 6, 6],
    "pooled": [5, 1, 1],
    "flat": [5],
    "p": [5],
    "largest": [],
    "positive": [5, 6, 6],
    "nothing": [0, 5, 6, 6],
    "rows": [30, 6],
    "best": [1, 6, 6],
}


def of_all_kinds(batch: int | str) -> onnx.ModelProto:
    """A classifier with a scalar, an empty tensor, booleans, integers, found places and texts."""
    model = fixed_batch(batch)
    model.graph.node.extend(
        [
            node("ReduceMax", "conv", "largest", keepdims=0),
            node("Greater", "conv zero", "positive"),
            node("NonZero", "positive", "places"),
            node("Slice", "conv none none", "nothing"),
            node("Reshape", "conv width", "rows"),
            node("ArgMax", "conv", "best", axis=1),
            node("Cast", "pooled", "texts", to=TensorProto.STRING),
        ]
    )
    constants = {"zero": np.array(0, np.float32), "none": np.array([0]), "width": np.array([-1, 6])}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in constants.items()
    )
    model.graph.output.append(value("texts", [batch, 5, 1, 1], TensorProto.STRING))
    return model


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of that model, whose batch is free, and is one."""
    folder = tmp_path_factory.mktemp("models")
    for name, batch in (("any", "n"), ("one", 1), ("four", 4)):
        add_model(folder, name, of_all_kinds(batch))
        (folder / name / "config.toml").write_text(f'output = "p"\n{RESIZE}')
    with serving(model_repository=folder) as server:
        yield server.address


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, each in zip(paths, pixels, strict=True):
        Image.fromarray(each).save(path)
    return paths


@pytest.mark.parametrize("model", ["any", "one"])
def test_classify_shows_and_saves_layers_of_any_kind(
    command: Command, address: str, pictures: list[Path], tmp_path: Path, model: str
) -> None:
    folder = tmp_path / "maps"
    asked = ("classify", *pictures, "--server", address, "--model", model, "--layers", "*,shape")
    ended = command(*asked, "--save-maps", folder)
    assert (ended.status, ended.err) == (0, "")
    assert "largest:scalar" in ended.out
    found = json.loads(command(*asked, "--output", "json").out)
    assert len(found) == 3
    for each in found:
        places = each["layers"].pop("places")
        assert places[0] == 4
        assert each["layers"] == SHAPES
        saved = {path.stem: np.load(path) for path in (folder / Path(each["path"]).stem).glob("*.npy")}
        assert {name: list(array.shape) for name, array in saved.items()} == {**SHAPES, "places": places}
        np.testing.assert_allclose(saved["largest"], saved["conv"].max(), rtol=1e-6)
        np.testing.assert_array_equal(saved["channels_first"][:, 0], saved["conv"])
        assert int(saved["positive"].sum()) == places[1]


def test_batch_fills_up_a_fixed_batch(
    command: Command, address: str, pictures: list[Path], tmp_path: Path
) -> None:
    tops = {}
    for model in ("any", "four"):
        output = tmp_path / f"{model}.jsonl"
        ended = command("batch", *pictures, "--server", address, "--model", model, "--output", output)
        assert ended.status == 0
        tops[model] = [json.loads(line)["label"] for line in output.read_text().splitlines()]
    assert len(tops["four"]) == 3
    assert tops["any"] == tops["four"]


def test_layers_shows_true_shapes_and_marks_what_does_not_follow(command: Command, address: str) -> None:
    free, fixed = (command("layers", model, "--server", address) for model in ("any", "four"))
    assert free.status == fixed.status == 0
    rows = {row.split()[0]: row.split()[2:5] for row in free.out.splitlines() if row}
    assert rows["conv"][0] == "5x6x6"
    assert rows["channels_first"][:2] == ["5x?x6x6", "*"]
    assert rows["largest"][:2] == ["scalar", "or"]
    assert "*: not a row for each image; the whole tensor of a run of the image alone" in free.out
    assert ", runs of 4 images" in fixed.out.splitlines()[0]
    assert "runs of" not in free.out
