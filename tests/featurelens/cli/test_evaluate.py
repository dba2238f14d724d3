from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.featurelens.conftest import DEAD_ADDRESS, SAMPLES, Command
from tests.featurelens.servers import Describing, failing_server


def idx_bytes(array: npt.NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def samples() -> Iterator[tuple[npt.NDArray[np.uint8], int]]:
    for path in sorted(SAMPLES.glob("*.png")):
        with Image.open(path) as image:
            yield np.asarray(image.convert("L")), int(path.name[0])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """MNIST's two test files, cut down to the samples, the last of which is labelled wrongly."""
    images, labels = zip(*samples(), strict=True)
    wrong = np.array([*labels[:-1], (labels[-1] + 1) % 10], np.uint8)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.stack(images)))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(wrong))
    return tmp_path


def test_counts_the_errors_of_the_deployed_model(command: Command, data: Path) -> None:
    ended = command("evaluate", "--dataset", "mnist", "--data", data, "--batch-size", 7, "--output", "json")
    result = json.loads(ended.out)
    confusion = np.array(result.pop("confusion"))

    assert ended.status == 0
    assert result == {
        "dataset": "mnist",
        "model": "lenet",
        "version": "1",
        "images": 16,
        "errors": 1,
        "error_percent": 6.25,
    }
    assert (confusion.sum(), np.trace(confusion)) == (16, 15)
    assert confusion[0, 9] == 1  # the last sample is a 9, and labelled 0


def test_prints_a_table_and_the_confusion(command: Command, data: Path) -> None:
    lines = command("evaluate", "--data", data, "--confusion").out.splitlines()

    assert lines[0].split() == ["DATASET", "MODEL", "VERSION", "IMAGES", "ERRORS", "ERROR_PERCENT"]
    assert lines[1].split() == ["mnist", "lenet", "1", "16", "1", "6.25"]
    assert lines[3].split() == ["0", "3", *"00000000", "1"]
    assert len(lines) == 2 + 1 + 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server", DEAD_ADDRESS], f"no featurelens server answers at {DEAD_ADDRESS}"),
        (["--data", "/no/such/folder"], "No such file or directory"),
        (["--model", "nope"], 'there is no model "nope"'),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    command: Command, arguments: list[str], message: str
) -> None:
    ended = command("evaluate", *arguments)

    assert (ended.status, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1


def test_a_model_of_other_labels_is_refused(command: Command, data: Path) -> None:
    with failing_server(Describing(answers=0)) as address:
        ended = command("evaluate", "--data", data, "--server", address)

    assert ended.status == 2
    assert ended.err == "featurelens: the labels of lenet are cat, dog, expected the ten digits\n"
