"""What timm and Hugging Face leave beside a model says how its pictures are prepared, and its labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.errors import ModelLoadError
from service.files_beside import Beside, read_beside
from service.hugging_face import hugging_face_keys
from service.model_config import read_model_config
from service.model_files import ModelFiles

VIT = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
TIMM = {
    "architecture": "x",
    "label_names": ["n1", "n2"],
    "label_descriptions": {"n1": "cat", "n2": "dog"},
    "pretrained_cfg": {
        "input_size": [3, 32, 40],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "border",
    },
}


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, told in files.items():
        (folder / f"{name}.json").write_text(told if isinstance(told, str) else json.dumps(told))


def beside(folder: Path, **files: object) -> Beside:
    write(folder / "m", **files)
    return read_beside(ModelFiles.at(folder), "m")


def test_timms_file_is_read(tmp_path: Path) -> None:
    found = beside(tmp_path, config=TIMM)
    assert (found.source, found.labels) == ("config.json", ("cat", "dog"))
    keys = found.preprocessing
    assert keys is not None
    assert (keys.height, keys.width, keys.crop_pct, keys.resize) == (32, 40, 0.9, "pad")
    assert (keys.interpolation, keys.fill) == ("bicubic", (124, 116, 104))


def test_hugging_faces_file_stands_above_timms(tmp_path: Path) -> None:
    found = beside(tmp_path, config=TIMM, preprocessor_config=VIT)
    assert found.source == "preprocessor_config.json"
    assert found.preprocessing is not None
    assert found.preprocessing.mean == (0.5, 0.5, 0.5)


def test_labels_come_by_their_number(tmp_path: Path) -> None:
    assert beside(tmp_path, config={"id2label": {"1": "b", "0": "a"}}).labels == ("a", "b")
    with pytest.raises(ModelLoadError, match="id2label lacks the class 0"):
        beside(tmp_path, config={"id2label": {"1": "b"}})


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (
            {"image_processor_type": "Wav2Vec2FeatureExtractor"},
            "'Wav2Vec2FeatureExtractor' is not one of ViT",
        ),
        (VIT | {"do_thumbnail": True}, "do_thumbnail can't be done"),
        (VIT | {"do_resize": False}, "do_resize = false"),
        (VIT | {"size": {"longest_edge": 3}}, "a size of {'longest_edge': 3} can't be done"),
        (VIT | {"size": {"shortest_edge": 3}}, "without do_center_crop leaves the input's size open"),
        (VIT | {"resample": 9}, "tuple index out of range"),
        (VIT | {"image_std": [0, 0, 0]}, "std must not be 0"),
    ],
)
def test_what_can_not_be_done_is_said(tmp_path: Path, told: dict[str, object], message: str) -> None:
    found = beside(tmp_path, preprocessor_config=told)
    assert found.preprocessing is None
    assert message in found.problem


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelLoadError, match=r"preprocessor_config\.json can't be read: it is not"):
        beside(tmp_path, preprocessor_config=text)


@pytest.mark.parametrize(
    ("told", "keys"),
    [
        (
            {
                "image_processor_type": "ConvNextImageProcessor",
                "size": {"shortest_edge": 224},
                "crop_pct": 0.875,
            },
            {"resize": "shorter-side", "resize_size": 256, "height": 224},
        ),
        (
            {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 384},
            {"resize": "stretch", "resize_size": (384, 384), "height": 384},
        ),
        (
            {"image_processor_type": "CLIPImageProcessorFast", "crop_size": 32},
            {"resize": "shorter-side", "resize_size": 224, "height": 32, "interpolation": "bicubic"},
        ),
        (
            {"image_processor_type": "EfficientNetImageProcessor", "image_std": 0.5, "rescale_offset": True},
            {"mean": (1.5, 1.5, 1.5), "std": (0.25, 0.25, 0.25)},
        ),
        (
            {"image_processor_type": "MobileViTImageProcessor"},
            {"color": "BGR", "mean": (0.0, 0.0, 0.0), "resize_size": 224, "height": 256},
        ),
        (VIT | {"do_rescale": False, "do_normalize": False}, {"scale": 1.0, "std": (1.0, 1.0, 1.0)}),
    ],
)
def test_processors_are_told_apart(told: dict[str, object], keys: dict[str, object]) -> None:
    found = hugging_face_keys(told)
    assert {key: found[key] for key in keys} == keys


def test_the_files_of_a_version_stand_above_those_of_the_model(tmp_path: Path) -> None:
    write(tmp_path / "m", config={"id2label": {"0": "a"}}, preprocessor_config=VIT)
    write(tmp_path / "m" / "2", preprocessor_config=VIT | {"resample": 0})
    config = read_model_config(ModelFiles.at(tmp_path), "m")
    first, second = (config.of_version(number).described[0].preprocessing for number in (1, 2))
    assert first is not None
    assert second is not None
    assert (first.interpolation, second.interpolation) == ("bilinear", "nearest")
    assert config.of_version(2).labels == ("a",)


def test_labels_of_config_toml_stand_above_those_beside(tmp_path: Path) -> None:
    write(tmp_path / "m", config={"id2label": {"0": "a"}})
    (tmp_path / "m" / "config.toml").write_text('labels = ["mine"]')
    assert read_model_config(ModelFiles.at(tmp_path), "m").of_version(1).labels == ("mine",)


def test_config_toml_can_not_say_it(tmp_path: Path) -> None:
    write(tmp_path / "m")
    (tmp_path / "m" / "config.toml").write_text("[described]\n")
    with pytest.raises(ModelLoadError, match="described: Extra inputs"):
        read_model_config(ModelFiles.at(tmp_path), "m")
