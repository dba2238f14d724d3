from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from training.data import Digits
from training.report import confusion_matrix, worst_mistakes
from training.selection import append_to_record, difference, read_record
from training.settings import Settings, change

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def digits() -> Digits:
    return Digits(np.zeros((4, 32, 32), np.uint8), np.array([0, 1, 1, 2]))


@pytest.fixture
def probabilities() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Image 0 is right; 1 is taken for 3, barely; 2 for 0, surely; 3 is right."""
    table = np.zeros((4, 10), np.float32)
    table[0, 0] = table[3, 2] = 1
    table[1, [1, 3]] = 0.4, 0.6
    table[2, [1, 0]] = 0.125, 0.875
    return table


def test_the_confusion_matrix_has_the_truth_in_its_rows(
    probabilities: np.ndarray[Any, np.dtype[np.float32]], digits: Digits
) -> None:
    counted = {tuple(where): 1 for where in np.argwhere(confusion_matrix(probabilities, digits)).tolist()}
    assert counted == {(0, 0): 1, (1, 3): 1, (1, 0): 1, (2, 2): 1}


def test_the_worst_mistakes_come_first(
    probabilities: np.ndarray[Any, np.dtype[np.float32]], digits: Digits
) -> None:
    worst = worst_mistakes(probabilities, digits)
    assert [mistake["index"] for mistake in worst] == [2, 1]
    assert worst[0] == {
        "index": 2,
        "label": 1,
        "answer": 0,
        "answer_probability": 0.875,
        "label_probability": 0.125,
    }
    assert worst_mistakes(probabilities, digits, count=1) == worst[:1]


def test_the_record_keeps_every_run(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert read_record(path) == []
    append_to_record(Settings(), 1.5, path)
    append_to_record(change(Settings(), {"gain": 0.0}), 2.5, path)
    assert [row["held_out_error_percent"] for row in read_record(path)] == [1.5, 2.5]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "as shipped"),
        ({"epochs": 3, "held_out": 10_000}, "as shipped"),
        ({"learning_rate": 0.5, "gain": 0.0}, "learning rate 0.5, gain 0"),
        ({"loss": "squared-error"}, "loss squared-error"),
    ],
)
def test_a_row_says_how_it_differs(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    append_to_record(change(Settings(), changes), 1.0, tmp_path / "record.json")
    (row,) = read_record(tmp_path / "record.json")
    assert difference(row["settings"], Settings()) == said
