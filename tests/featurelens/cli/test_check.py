from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from featurelens import Client
from service.model_config import parsed_config
from tests.featurelens.conftest import SAMPLES, Command
from tests.service import head_models, onnx_models
from tests.service.external import DATA, split
from tests.serving import serving


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATURELENS_DEVICE", "cpu")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A classifier of 32x32 pictures into 3 classes, as an exporter leaves it."""
    path = tmp_path / "net.onnx"
    onnx.save(picture_classifier(), path)
    return path


def picture_classifier(batch: int | str = "n") -> onnx.ModelProto:
    nodes = [
        onnx_models.node("Conv", "image w", "conv", kernel_shape=[3, 3]),
        onnx_models.node("GlobalAveragePool", "conv", "pooled"),
        onnx_models.node("Flatten", "pooled", "scores"),
    ]
    return onnx_models.model(
        nodes,
        [onnx_models.value("image", [batch, 3, 32, 32])],
        [onnx_models.value("scores", [batch, 3])],
        onnx_models.random_weights(w=(3, 3, 3, 3)),
    )


def by_check(out: str) -> Mapping[str, tuple[str, str]]:
    findings = json.loads(out)["findings"]
    return {
        each["check"]: (each["verdict"], f"{each['found']} {each['advice']}".strip()) for each in findings
    }


def test_a_classifier_is_told_with_what_is_known_and_what_is_missing(command: Command, file: Path) -> None:
    ended = command("check", file, "--json")

    assert (ended.status, ended.err) == (0, "")
    found = by_check(ended.out)
    assert found["inputs"] == ("good", '"image" float32 [any, 3, 32, 32]')
    assert found["outputs"] == ("good", '"scores" float32 [any, 3]')
    assert found["batch"] == ("good", "any number of items; requests share runs")
    assert found["layers"] == ("good", "3, of which 3 follow the batch")
    assert re.match(r"about 0\.\d MiB, and as much for each set of layers that is held", found["memory"][1])
    assert found["classes"][1].startswith('classes in "scores", logits: the values of a trial run go from')
    assert found["labels"] == (
        "notice",
        'not known: the 3 classes are numbered labels_file = "labels.txt" in config.toml',
    )
    assert found["pictures"][0] == "notice"
    assert "3 channels of 32x32, NCHW" in found["pictures"][1]
    assert f"net.onnx, {file.stat().st_size} bytes; 81 parameters, opset 21" in found["file"][1]


def test_the_only_value_of_a_head_has_a_name_of_its_own(command: Command, tmp_path: Path) -> None:
    binary = onnx_models.model(
        [onnx_models.node("Sigmoid", "x", "p")],
        [onnx_models.value("x", ["n", 1])],
        [onnx_models.value("p", ["n", 1])],
    )
    onnx.save(binary, tmp_path / "net.onnx")
    found = by_check(command("check", tmp_path / "net.onnx", "--json").out)
    assert 'not known: the only value is called "positive"' in found["labels"][1]


def test_the_draft_without_its_marks_is_a_config_that_the_server_takes(command: Command, file: Path) -> None:
    draft = json.loads(command("check", file, "--json").out)["config_toml"]
    _introduction, *proposals = draft.split("\n\n")
    lines = [line.removeprefix("# ") for line in "\n".join(proposals).splitlines()]

    config = parsed_config("\n".join(lines))

    assert tomllib.loads(draft) == {}
    assert config.labels_file == "labels.txt"
    assert config.head == "logits"
    assert config.preprocessing is not None
    assert config.preprocessing.preset == "torchvision"


def test_a_table_and_the_draft_are_printed(command: Command, file: Path) -> None:
    ended = command("check", file)

    lines = ended.out.splitlines()
    assert lines[0].split() == ["CHECK", "FOUND", "WHAT", "TO", "DO"]
    assert '# labels_file = "labels.txt"   # beside this file: 3 lines, a label each' in lines


@pytest.mark.parametrize(
    ("batch", "told"),
    [(1, "always 1: requests are cut into so many, the last filled up"), ("n", "any number of items")],
)
def test_a_fixed_batch_is_told(command: Command, tmp_path: Path, batch: int | str, told: str) -> None:
    onnx.save(picture_classifier(batch), tmp_path / "net.onnx")

    assert by_check(command("check", tmp_path / "net.onnx", "--json").out)["batch"][1].startswith(told)


def test_layers_that_do_not_follow_the_batch_are_counted(command: Command, tmp_path: Path) -> None:
    onnx.save(onnx_models.time_first(), tmp_path / "net.onnx")

    told = by_check(command("check", tmp_path / "net.onnx", "--json").out)["layers"][1]

    assert told == "2, of which 1 follow the batch"


def test_what_is_no_classifier_is_served_and_status_3(command: Command, tmp_path: Path) -> None:
    onnx.save(onnx_models.two_inputs(), tmp_path / "net.onnx")

    ended = command("check", tmp_path / "net.onnx", "--json")

    assert ended.status == 3
    verdict, told = by_check(ended.out)["classes"]
    assert verdict == "notice"
    assert told.startswith("no image classifier: ")


def test_what_is_no_model_is_refused_with_status_1(command: Command, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("no model")

    ended = command("check", tmp_path / "net.onnx", "--json")

    assert ended.status == 1
    assert by_check(ended.out)["model"][0] == "bad"


def test_files_with_weights_are_told_and_one_that_is_missing_refuses_the_model(
    command: Command, tmp_path: Path
) -> None:
    file = split(tmp_path, picture_classifier())

    told = by_check(command("check", file, "--json").out)["file"][1]
    file.with_name(DATA).unlink()
    ended = command("check", file, "--json")

    assert f"{DATA}, 324 bytes" in told
    assert ended.status == 1
    assert "which is missing; put it beside the model's file" in by_check(ended.out)["model"][1]


def test_a_preset_says_how_pictures_become_the_input(command: Command, file: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    arguments = ("--preset", "torchvision", "--labels", "cat,dog,cow")

    checked = command("check", file, "--json", *arguments)
    imported = command("import", file, "net", "--model-repository", repository, *arguments)

    verdict, told = by_check(checked.out)["pictures"]
    assert verdict == "good"
    assert "cropped to 32x32 around its center" in told
    assert imported.status == 0
    with serving(model_repository=repository) as server, Client(server.address) as client:
        assert client.classify(SAMPLES / "7_test00000.png").label in {"cat", "dog", "cow"}


def test_a_preset_that_contradicts_the_input_is_refused(command: Command, tmp_path: Path) -> None:
    onnx.save(onnx_models.lenet(), tmp_path / "net.onnx")

    ended = command("check", tmp_path / "net.onnx", "--json", "--preset", "torchvision")

    assert ended.status == 1
    assert "mean must have 1 value or 1, one for each channel, not 3" in by_check(ended.out)["model"][1]


def test_what_lies_beside_a_file_comes_along(command: Command, file: Path, tmp_path: Path) -> None:
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    repository = tmp_path / "models"

    checked = command("check", file, "--json")
    imported = command("import", file, "net", "--model-repository", repository)

    assert by_check(checked.out)["pictures"][0] == "good"
    assert imported.status == 0
    assert (repository / "net" / "1" / "preprocessor_config.json").is_file()
    with serving(model_repository=repository) as server, Client(server.address) as client:
        assert client.classify(SAMPLES / "7_test00000.png").scores


def test_another_kind_of_input_needs_no_preprocessing(command: Command, tmp_path: Path) -> None:
    onnx.save(head_models.binary(), tmp_path / "net.onnx")

    ended = command("check", tmp_path / "net.onnx", "--json", "--labels", "no,yes")

    assert by_check(ended.out)["labels"] == ("good", '2: "no", "yes"')
    assert by_check(ended.out)["pictures"][0] == "good"


def test_an_import_is_served_under_its_labels(command: Command, tmp_path: Path) -> None:
    file = split(tmp_path / "source", picture_classifier())
    repository = tmp_path / "new" / "models"

    ended = command("import", file, "net", "--model-repository", repository, "--labels", "cat,dog,cow")

    assert (ended.status, ended.err) == (0, "")
    assert f"To serve it: featurelens serve --model-repository {repository}" in ended.out
    assert {str(path.relative_to(repository)) for path in repository.rglob("*")} == {
        *("net", "net/config.toml", "net/1", "net/1/model.onnx", f"net/1/{DATA}")
    }
    image = np.zeros((1, 3, 32, 32), np.float32)
    with serving(model_repository=repository) as server, Client(server.address) as client:
        assert {score.label for score in client.classify_tensor(image)[0].scores} == {"cat", "dog", "cow"}


def test_the_next_version_takes_the_next_number_and_leaves_the_rest(
    command: Command, file: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "models"
    arguments = ("import", file, "net", "--model-repository", repository)
    command(*arguments, "--version", 7)
    config = repository / "net" / "config.toml"
    config.write_text('labels = ["a", "b", "c"]\n')

    ended = command(*arguments)

    assert ended.status == 0
    assert sorted(path.name for path in (repository / "net").iterdir()) == ["7", "8", "config.toml"]
    assert config.read_text() == 'labels = ["a", "b", "c"]\n'
    assert '3: "a", "b", "c"' in ended.out


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (("--version", 1), "net has a version 1; give another one, or none for the next"),
        (("--labels", "a,b,c"), "net has a config.toml, which holds for all its versions: say it there"),
    ],
)
def test_nothing_is_overwritten(
    command: Command, file: Path, tmp_path: Path, more: tuple[object, ...], reason: str
) -> None:
    repository = tmp_path / "models"
    arguments = ("import", file, "net", "--model-repository", repository)
    command(*arguments)

    ended = command(*arguments, *more)

    assert (ended.status, ended.out, ended.err) == (2, "", f"featurelens: {reason}\n")
    assert sorted(path.name for path in (repository / "net").iterdir()) == ["1", "config.toml"]


@pytest.mark.parametrize(
    ("name", "labels", "reason"),
    [
        ("net", "a,b", "there are 2 labels for 3 classes; give one for each"),
        ("net", "nowhere.txt", "--labels nowhere.txt is no file that can be read; expected imagenet-1k"),
        ("../net", "", '"../net" is no name of a model'),
    ],
)
def test_what_can_not_be_served_leaves_nothing_behind(
    command: Command, file: Path, tmp_path: Path, name: str, labels: str, reason: str
) -> None:
    repository = tmp_path / "models"

    ended = command("import", file, name, "--model-repository", repository, "--labels", labels)

    assert (ended.status, ended.out) == (2, "")
    assert reason in ended.err
    assert not repository.exists() or list(repository.iterdir()) == []


def test_labels_come_from_a_file(command: Command, file: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\ufeffa\nb, or not\n\nc\n")

    ended = command("check", file, "--json", "--labels", tmp_path / "labels.txt")

    assert by_check(ended.out)["labels"] == ("good", '3: "a", "b, or not", "c"')


def test_doctor_tells_what_a_model_lacks(command: Command, file: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    command("import", file, "net", "--model-repository", repository)

    ended = command(*("doctor", "--json", "--grpc-address", "127.0.0.1:0", "--model-repository", repository))

    found = {each["check"]: each["advice"] for each in json.loads(ended.out) if each["verdict"] == "notice"}
    assert found["model net/1: labels"] == 'labels_file = "labels.txt" in config.toml'
    assert found["model net/1: pictures"] == "[preprocessing] in config.toml"
