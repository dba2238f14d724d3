from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from featurelens.cli.console import CommandError
from featurelens.cli.rows import COLUMNS, RowFile

DONE = {
    "path": 'a, "b"\nc.png',
    "label": "7",
    "probability": 0.5,
    "top": [{"label": "7", "probability": 0.5}],
    "error": None,
    "warning": "no_ink",
}
FAILED: dict[str, Any] = {
    "path": "größe.png",
    "label": None,
    "probability": None,
    "top": [],
    "error": "no image",
    "warning": None,
}


def write(path: Path, *rows: dict[str, Any]) -> str:
    with RowFile(path) as file:
        for row in rows:
            file.write(row)
    return path.read_text(encoding="utf-8")


def test_csv_holds_any_path_and_top_as_json(tmp_path: Path) -> None:
    text = write(tmp_path / "rows.csv", DONE, FAILED)

    assert list(csv.reader(text.splitlines(keepends=True))) == [
        list(COLUMNS),
        [DONE["path"], "7", "0.5", '[{"label": "7", "probability": 0.5}]', "", "no_ink"],
        ["größe.png", "", "", "[]", "no image", ""],
    ]


def test_json_lines_hold_one_object_a_line(tmp_path: Path) -> None:
    text = write(tmp_path / "rows.JSONL", DONE, FAILED)

    assert [json.loads(line) for line in text.splitlines()] == [DONE, FAILED]


def test_a_path_that_is_no_utf8_leaves_the_file_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    lines = write(tmp_path / "rows.jsonl", {**FAILED, "path": name})
    table = write(tmp_path / "rows.csv", {**FAILED, "path": name})

    assert os.fsencode(json.loads(lines)["path"]) == b"\xff.png"
    assert table.splitlines()[1].startswith("\\udcff.png,")


def test_rows_show_at_once_and_the_file_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("from an earlier run")
    with RowFile(path) as file:
        file.write(DONE)
        assert json.loads(file.partial.read_text()) == DONE
        assert path.read_text() == "from an earlier run"

    assert json.loads(path.read_text()) == DONE
    assert [each.name for each in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_run_that_breaks_off_leaves_its_rows_and_no_file(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.csv")
    with pytest.raises(TypeError), file:
        file.write({"path": "a row", "top": {1j}})

    assert not file.path.exists()
    assert file.partial.read_text().startswith("path,label,probability,top,error,warning\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows.parquet", "the output is rows.parquet, expected a name that ends in .csv or .jsonl"),
        ("rows", "the output is rows, expected a name that ends in .csv or .jsonl"),
        ("folder.csv", "can't write {}/folder.csv: it is a folder"),
        ("missing/rows.csv", "can't write {}/missing/rows.csv: No such file or directory"),
        ("file/rows.csv", "can't write {}/file/rows.csv: Not a directory"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(CommandError) as raised:
        write(tmp_path / name)

    assert str(raised.value) == message.format(tmp_path)


def test_a_full_disk_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "rows.csv.partial").symlink_to("/dev/full")  # takes nothing, as a full disk does
    with pytest.raises(CommandError) as raised:
        write(tmp_path / "rows.csv", DONE)

    assert str(raised.value) == f"can't write {tmp_path}/rows.csv: No space left on device"
