"""NaN and infinity, from a model and from an answer: the command tells, and what it prints stays valid."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import featurelens.cli
from featurelens.cli.console import as_json
from featurelens.cli.rows import RowFile
from tests.featurelens.conftest import Command
from tests.service.conftest import add_model
from tests.service.onnx_models import model, node, value
from tests.serving import serving

RESIZE = '[preprocessing]\nkind = "resize"\nchannels = 3\nheight = 8\nwidth = 8\n'


@pytest.fixture(scope="module")
def nan_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of a model that answers with NaN, and of one with NaN in a layer alone."""
    folder = tmp_path_factory.mktemp("nan")
    nodes = [
        node("Sub", "image two", "negative"),
        node("Log", "negative", "logarithms"),
        node("IsNaN", "logarithms", "gaps"),
        node("Where", "gaps negative logarithms", "filled"),
        node("GlobalAveragePool", "filled", "pooled"),
        node("Flatten", "pooled", "scores"),
    ]
    broken = [*nodes[:2], node("GlobalAveragePool", "logarithms", "pooled"), nodes[-1]]
    ends = [value("image", ["n", 3, 8, 8])], [value("scores", ["n", 3])]
    for name, chosen in (("inside", nodes), ("outside", broken)):
        add_model(folder, name, model(chosen, *ends, {"two": np.array(2, np.float32)}))
        (folder / name / "config.toml").write_text(f'head = "logits"\n{RESIZE}')
    with serving(model_repository=folder) as server:
        yield server.address


def test_an_image_that_is_answered_with_nan_is_complained_of(
    command: Command, seven: Path, nan_address: str
) -> None:
    ended = command(
        *("classify", seven, "--model", "outside", "--output", "json", "--server", nan_address),
    )

    assert (ended.status, json.loads(ended.out)) == (1, [])
    assert 'it begins in layer "logarithms" (Log)' in ended.err


def test_maps_with_nan_are_saved(command: Command, seven: Path, nan_address: str, tmp_path: Path) -> None:
    ended = command(
        *("classify", seven, "--model", "inside", "--save-maps", tmp_path, "--output", "json"),
        *("--server", nan_address),
    )

    (entry,) = json.loads(ended.out)
    assert (ended.status, entry["layers"]["logarithms"]) == (0, [3, 8, 8])
    assert np.isnan(np.load(tmp_path / seven.stem / "logarithms.npy")).all()
    assert (tmp_path / seven.stem / "logarithms.png").exists()


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_batch_has_the_error_in_its_row(
    command: Command, seven: Path, nan_address: str, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"rows.{suffix}"
    ended = command("batch", seven, "--model", "outside", "--output", file, "--server", nan_address)

    lines = file.read_text().splitlines()
    row = next(csv.DictReader(lines)) if suffix == "csv" else json.loads(lines[0])
    assert ended.status == 1
    assert "begins in layer" in row["error"]
    assert not row["probability"]


def test_json_has_null_for_what_it_has_no_number_for() -> None:
    text = as_json({"a": [math.nan, 1.5, (math.inf,)], "b": {"c": -math.inf}, "d": "NaN"})

    assert json.loads(text) == {"a": [None, 1.5, [None]], "b": {"c": None}, "d": "NaN"}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_rows_with_nan_stay_valid(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    top = [{"label": "7", "probability": math.nan}]
    with RowFile(path) as file:
        file.write({"path": "a", "label": "7", "probability": math.nan, "top": top, "error": None})

    lines = path.read_text().splitlines()
    row = next(csv.DictReader(lines)) if suffix == "csv" else json.loads(lines[0])
    found = json.loads(row["top"]) if suffix == "csv" else row["top"]
    assert found == [{"label": "7", "probability": None}]
    assert not row["probability"]


def test_json_is_written_in_one_place() -> None:
    folder = Path(featurelens.cli.__file__).parent
    writers = {path.name for path in folder.glob("*.py") if "json.dump" in path.read_text()}

    assert writers == {"console.py"}
