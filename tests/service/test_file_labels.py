"""Labels out of a model's file, as different exporters write them, and ImageNet's by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from service.classifier import Classifier
from service.device import Execution
from service.imagenet import imagenet_labels
from service.model import Model
from service.model_config import ModelConfig
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.service.head_models import Z, with_ml
from tests.service.onnx_models import node
from tests.service.test_repository import load


def labels(metadata: dict[str, str], **config: object) -> tuple[str, ...]:
    built = onnx_models.classifier()
    for key, text in metadata.items():
        built.metadata_props.add(key=key, value=text)
    model = Model(built.SerializeToString(), Execution())
    found = Classifier.of(model, ModelConfig.model_validate(config))
    assert isinstance(found, Classifier)
    return found.labels


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"names": "{0: 'ant', 1: \"bee's\", 2: 'cat'}"}, ("ant", "bee's", "cat")),
        ({"names": "{2: 'cat', 0: 'ant', 1: 'bee'}"}, ("ant", "bee", "cat")),
        ({"names": "['ant', 'bee', 'cat']"}, ("ant", "bee", "cat")),
        ({"id2label": '{"0": "ant", "1": "bee", "2": "cat"}'}, ("ant", "bee", "cat")),
        ({"character": "a\nb\nc"}, ("a", "b", "c")),
        ({"featurelens.labels": '["x", "y", "z"]', "names": "{0: 'a', 1: 'b', 2: 'c'}"}, ("x", "y", "z")),
        ({}, ("0", "1", "2")),
    ],
)
def test_labels_come_from_the_files_metadata(metadata: dict[str, str], expected: tuple[str, ...]) -> None:
    assert labels(metadata) == expected


@pytest.mark.parametrize("op_type", ["ArrayFeatureExtractor", "Gather"])
def test_labels_come_from_the_table_that_the_label_is_looked_up_in(op_type: str) -> None:
    domain = {"domain": "ai.onnx.ml"} if op_type == "ArrayFeatureExtractor" else {}
    nodes = [
        *(node("Softmax", "z", "y"), node("ArgMax", "y", "best", axis=1, keepdims=0)),
        node(op_type, "table best", "label", **domain),
    ]
    table = {"table": np.array(["ant", "bee", "cat", "dog"], object)}
    built = with_ml(onnx_models.model(nodes, [Z], [onnx_models.value("y", ["n", 4])], table))
    found = Classifier.of(Model(built.SerializeToString(), Execution()), ModelConfig())
    assert isinstance(found, Classifier)
    assert found.labels == ("ant", "bee", "cat", "dog")


@pytest.mark.parametrize(
    "text",
    [
        "{0: 'a', 1: 'b', 3: 'c'}",
        "{0: 'a', 1: 'b', 2: 3}",
        "{0: 'a', 1: 'b', 2: __import__('os')}",
        "[" * 10_000,
        "{0: 'a', 1: 'b', 2: 'c'}" + " " * 2**20,
        "no names",
        "3",
        "",
    ],
    ids=["gap", "no text", "code", "deep", "long", "prose", "number", "empty"],
)
def test_metadata_that_holds_no_names_is_passed_over(text: str) -> None:
    assert labels({"names": text}) == ("0", "1", "2")


@pytest.mark.parametrize("metadata", [{"names": "{0: 'ant', 1: 'bee'}"}, {"character": "a\nb"}])
def test_names_of_another_number_are_left_out_and_logged(metadata: dict[str, str]) -> None:
    with capture_logs() as lines:
        assert labels(metadata) == ("0", "1", "2")
    (line,) = [line for line in lines if line["event"] == "labels in the file ignored"]
    assert (line["source"], line["labels"], line["classes"]) == (*metadata, 2, 3)


def test_config_toml_decides_against_the_file() -> None:
    assert labels({"names": "{0: 'a', 1: 'b', 2: 'c'}"}, labels=["x", "y", "z"]) == ("x", "y", "z")


@pytest.mark.parametrize("name", ["imagenet-1k", "imagenet1k"])
def test_the_classes_of_imagenet_have_a_name(tmp_path: Path, name: str) -> None:
    add_model(tmp_path, "thousand", onnx_models.classifier(1000))
    (tmp_path / "thousand" / "config.toml").write_text(f'labels = "{name}"\n')

    found = load(tmp_path).get("thousand").classifier().labels

    assert (found[0], found[207], found[285], found[999]) == (
        *("tench", "golden retriever", "Egyptian cat", "toilet tissue"),
    )


def test_the_classes_of_imagenet_are_a_thousand() -> None:
    assert len(imagenet_labels()) == len(set(imagenet_labels())) == 1000


def test_another_name_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match='expected a list of texts, or "imagenet-1k"'):
        ModelConfig.model_validate({"labels": "imagenet-21k"})
