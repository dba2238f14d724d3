"""The trial itself, on small models; `make test-long` runs it on those of other tools."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.foreign import report
from tests.foreign.comparison import Differences
from tests.foreign.model import ForeignModel, normal
from tests.foreign.trial import probabilities
from tests.service import onnx_models


@pytest.fixture
def models(tmp_path: Path) -> list[ForeignModel]:
    """Time first, heads folded into the batch, and a batch of 4."""
    built = {
        "time_first": (onnx_models.time_first(), normal("x", 3, 4), "logits", 0),
        "folded": (onnx_models.folded(), normal("x", 2, 4), "softmax", 0),
        "fixed": (onnx_models.fixed_batch(4), normal("image", 3, 8, 8), "softmax", 4),
    }
    for name, (model, *_) in built.items():
        onnx.save(model, tmp_path / f"{name}.onnx")
    return [
        ForeignModel(name, "test", tmp_path / f"{name}.onnx", feed, head, fixed_batch=batch)
        for name, (_, feed, head, batch) in built.items()
    ]


@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_nothing_is_wrong_with_layers_of_every_kind(models: list[ForeignModel], transport: str) -> None:
    found = report.run(models, transport, each_layer=True)

    assert report.problems(found) == []
    assert [(row.head, row.layers > row.followers) for row in found] == [
        *(("logits", True), ("softmax", True), ("softmax", True))
    ]


def test_what_is_known_of_a_head_has_to_be_told(models: list[ForeignModel]) -> None:
    (found,) = report.run([replace(models[0], head="sigmoid")], "native", each_layer=False)

    assert any('the head is "logits"' in problem for problem in found.wrong)


def test_a_model_that_is_refused_is_wrong(models: list[ForeignModel]) -> None:
    (found, _) = report.run([replace(models[0], config="nope = 1"), models[1]], "native", each_layer=False)

    assert found.wrong[0].startswith("refused: config.toml: nope")
    assert report.table([found]).splitlines()[2].startswith("| time_first | test | ")


@pytest.mark.parametrize(
    ("served", "problem"),
    [
        ([[1.0, 2.0]], None),
        ([[1.0, 2.0002]], None),
        ([[1.0, 2.01]], "off by 0.005"),
        ([[2.0, 1.0]], "off by 0.5"),
        ([[1.0, np.nan]], "off by inf"),
        ([[1.0], [2.0]], "shape [2, 1], expected [1, 2]"),
    ],
)
def test_a_tensor_that_is_another_is_found(served: list[list[float]], problem: str | None) -> None:
    differences = Differences("float32")
    differences.add("alone", {"x": np.array(served)}, {"x": np.array([[1.0, 2.0]])})

    assert (differences.wrong == {}) is (problem is None)
    assert problem is None or problem in differences.wrong["x"]


def test_a_tensor_that_is_missing_is_found() -> None:
    differences = Differences("float32")
    differences.add("alone", {}, {"x": np.zeros(1)})

    assert differences.wrong == {"x": "alone: missing"}


def test_probabilities_are_what_a_head_says() -> None:
    scores = np.log([[0.2, 0.8]])

    assert probabilities(scores, "logits") == pytest.approx([0.2, 0.8])
    assert probabilities(scores, "log_softmax") == pytest.approx([0.2, 0.8])
    assert probabilities(np.zeros((1, 1)), "sigmoid_logits") == pytest.approx([0.5])
    assert probabilities(np.array([[0.2, 0.8]]), "softmax") == pytest.approx([0.2, 0.8])
