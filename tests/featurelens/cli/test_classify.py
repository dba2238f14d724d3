from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.featurelens.conftest import DEAD_ADDRESS, SAMPLES, Command
from tests.service.conftest import add_model
from tests.service.onnx_models import channels_last_bytes
from tests.serving import serving

LAYERS = "conv1,pool1,logits"


def test_prints_aligned_columns_into_a_pipe(command: Command, seven: Path) -> None:
    ended = command("classify", seven, SAMPLES / "1_test00002.png")
    header, *rows = ended.out.splitlines()

    assert (ended.status, ended.err) == (0, "")
    assert header.split() == ["IMAGE", "LABEL", "PROBABILITY", "NEXT"]
    assert [row.split()[:2] for row in rows] == [[str(seven), "7"], [str(SAMPLES / "1_test00002.png"), "1"]]
    assert [row.index("%") > header.index("PROBABILITY") for row in rows] == [True, True]


def test_prints_json_objects(command: Command, seven: Path) -> None:
    ended = command("classify", seven, "--layers", LAYERS, "--top-k", 2, "--output", "json")
    (entry,) = json.loads(ended.out)

    assert list(entry) == ["path", "label", "probability", "top", "layers", "warnings"]
    assert (entry["path"], entry["label"], entry["warnings"]) == (str(seven), "7", [])
    assert [list(score) for score in entry["top"]] == [["label", "probability"]] * 2
    assert entry["top"][0] == {"label": "7", "probability": entry["probability"]}
    assert entry["layers"] == {"conv1": [6, 28, 28], "pool1": [6, 14, 14], "logits": [10]}


def test_a_picture_without_ink_is_told(command: Command, seven: Path, tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    Image.new("L", (60, 60), 255).save(blank)
    table = command("classify", seven, blank)
    _, entry = json.loads(command("classify", seven, blank, "--output", "json").out)

    assert (table.status, table.err) == (0, f"featurelens: {blank}: no ink was found in the picture\n")
    assert len(table.out.splitlines()) == 3
    assert entry["warnings"] == [{"code": "no_ink", "message": "no ink was found in the picture"}]


def test_all_stands_for_every_layer(command: Command, seven: Path) -> None:
    (entry,) = json.loads(command("classify", seven, "--layers", "all", "--output", "json").out)

    assert {"conv1", "relu1", "pool1", "fc1", "logits", "probabilities"} <= set(entry["layers"])


def test_the_table_names_the_layers_that_were_asked_for(command: Command, seven: Path) -> None:
    ended = command("classify", seven, "--layers", LAYERS)

    assert ended.out.splitlines()[0].endswith("LAYERS")
    assert ended.out.splitlines()[1].endswith("conv1:6x28x28 pool1:6x14x14 logits:10")


def test_saves_exact_tensors_and_pictures(command: Command, seven: Path, tmp_path: Path) -> None:
    ended = command("classify", seven, "--save-maps", tmp_path / "maps")
    folder = tmp_path / "maps" / seven.stem
    maps = {path.stem: np.load(path) for path in folder.glob("*.npy")}

    assert ended.status == 0
    assert {"conv1", "relu1", "pool1", "logits", "probabilities"} <= set(maps)
    assert {values.dtype for values in maps.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.maximum(maps["conv1"], 0), maps["relu1"])
    exp = np.exp(maps["logits"] - maps["logits"].max())
    np.testing.assert_allclose(exp / exp.sum(), maps["probabilities"], atol=1e-6)
    assert {path.stem for path in folder.glob("*.png")} == {*maps, "overview"}
    for path in folder.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 90


def test_channels_last_layers_are_drawn_as_maps(
    command: Command, seven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = add_model(tmp_path / "models", "net", channels_last_bytes())
    (file.parents[1] / "config.toml").write_text(
        '[preprocessing]\nkind = "resize"\nheight = 32\nwidth = 32\nchannels = 3\nlayout = "NHWC"\n'
    )
    with serving(model_repository=tmp_path / "models") as server:
        monkeypatch.setenv("FEATURELENS_SERVER", server.address)
        ended = command("classify", seven, "--save-maps", tmp_path / "maps")
    folder = tmp_path / "maps" / seven.stem

    def below_the_title(layer: str) -> Image.Image:
        with Image.open(folder / f"{layer}.png") as picture:
            return picture.crop((0, 80, picture.width, picture.height))

    assert (ended.status, ended.err) == (0, "")
    assert (np.load(folder / "cast.npy").shape, np.load(folder / "back.npy").shape) == (
        (32, 32, 3),
        (30, 30, 5),
    )
    assert below_the_title("cast").tobytes() == below_the_title("turned").tobytes()
    assert below_the_title("back").tobytes() == below_the_title("conv").tobytes()


def test_images_of_one_name_get_folders_of_their_own(command: Command, seven: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(seven.read_bytes())
    command(
        "classify",
        tmp_path / "a/x.png",
        tmp_path / "b/x.png",
        "--layers",
        "fc1",
        "--save-maps",
        tmp_path / "m",
    )

    assert sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "m").rglob("*.npy")) == [
        "m/x-2/fc1.npy",
        "m/x/fc1.npy",
    ]


def test_a_bad_image_is_named_and_the_others_are_classified(
    command: Command, seven: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad\n.png"
    bad.write_bytes(seven.read_bytes()[:60])
    ended = command("classify", bad, tmp_path / "missing.png", seven, "--output", "json")

    assert ended.status == 1
    assert [entry["path"] for entry in json.loads(ended.out)] == [str(seven)]
    first, second = ended.err.splitlines()
    assert first.startswith(f"featurelens: {tmp_path}/bad\\n.png: ")
    assert second == f"featurelens: {tmp_path}/missing.png: no such file"


def test_an_unknown_layer_is_answered_with_the_closest(command: Command, seven: Path) -> None:
    ended = command("classify", seven, "--layers", "relu11")

    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(f'featurelens: {seven}: no layer "relu11"; did you mean "relu1"')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server", DEAD_ADDRESS], f"no featurelens server answers at {DEAD_ADDRESS}; start one with "),
        (["--server", "localhost"], "server is 'localhost', expected host:port"),
        (["--model", "nope"], 'there is no model "nope"; there is lenet'),
        (["--save-maps", "/dev/null/maps"], "can't write feature maps to /dev/null/maps: Not a directory"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    command: Command, seven: Path, arguments: list[str], message: str
) -> None:
    ended = command("classify", seven, *arguments)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"featurelens: {message}")
    assert ended.err.count("\n") == 1
