"""The model that ships: what it says of itself is complete and true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from training.__main__ import main
from training.data import load_mnist
from training.evaluate import count_errors, predict_onnx
from training.export import layer_table, read_metadata
from training.metadata import LABELS, PREPROCESSING, command
from training.settings import Settings

FOLDER = Path(__file__).parents[2] / "models" / "lenet" / "1"
MODEL = FOLDER / "model.onnx"


@pytest.fixture(scope="module")
def metadata() -> dict[str, Any]:
    return read_metadata(MODEL)


def test_the_onnx_checker_accepts_it() -> None:
    onnx.checker.check_model(MODEL, full_check=True)


def test_it_is_small_and_whole() -> None:
    proto = onnx.load(MODEL)
    assert MODEL.stat().st_size < 300_000
    weights = [item for item in proto.graph.initializer if item.name.endswith((".weight", ".bias"))]
    assert sum(onnx.numpy_helper.to_array(item).size for item in weights) == 63_802


def test_the_metadata_is_complete(metadata: dict[str, Any]) -> None:
    assert metadata["labels"] == LABELS
    assert metadata["preprocessing"] == PREPROCESSING
    assert metadata["layers"] == layer_table(onnx.load(MODEL).graph)
    assert metadata["dataset"] == {"name": "mnist", "train_images": 60_000}
    assert set(metadata["versions"]) == {"python", "torch", "numpy", "onnx", "onnxscript", "onnxruntime"}


def test_the_defaults_are_the_settings_it_was_trained_with(metadata: dict[str, Any]) -> None:
    assert metadata["command"] == command(Settings())
    assert metadata["seed"] == Settings().seed


def test_its_error_on_the_test_images_is_the_one_it_states(metadata: dict[str, Any]) -> None:
    test = load_mnist("test")
    errors = count_errors(predict_onnx(MODEL, test), test)
    assert errors == metadata["metrics"]["test_errors"]
    assert metadata["metrics"]["test_error_percent"] == errors / 100
    assert errors <= 60


def test_the_report_tells_of_this_model(metadata: dict[str, Any]) -> None:
    report = json.loads((FOLDER / "report.json").read_text())
    assert {key: report[key] for key in metadata} == metadata
    matrix = report["confusion_matrix"]
    mistakes = sum(map(sum, matrix)) - sum(matrix[digit][digit] for digit in range(10))
    assert mistakes == metadata["metrics"]["test_errors"]
    assert len(report["history"]) == Settings().epochs


def test_the_report_shows_what_it_names() -> None:
    page = (FOLDER / "report.md").read_text()
    for name in ("curve.png", "confusion.png", "mistakes.png", "kernels.png", "report.json"):
        assert f"({name})" in page
        assert (FOLDER / name).stat().st_size > 1000


def test_evaluate_says_the_same(metadata: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(MODEL)]) == 0
    assert capsys.readouterr().out.startswith(
        f"{metadata['metrics']['test_errors']} of 10000 test images wrong"
    )
