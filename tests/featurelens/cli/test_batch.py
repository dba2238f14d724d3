from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.featurelens.conftest import DEAD_ADDRESS, SAMPLES, Command
from tests.featurelens.servers import Describing, failing_server


@pytest.fixture
def folder(tmp_path: Path, seven: Path) -> Path:
    """Good images, bad ones, and names that are hard to write down."""
    folder = tmp_path / "images"
    folder.mkdir()
    image = seven.read_bytes()
    for name, data in {
        b"a.png": image,
        b'b, "c"\nd.png': image,
        b"cut.png": image[:60],
        b"empty.jpg": b"",
        b"text.webp": b"not an image",
        b"z\xff.png": image,
    }.items():
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(data)
    (folder / "gone.png").symlink_to("nowhere")
    return folder


def test_one_row_for_each_image_in_order(command: Command, folder: Path, tmp_path: Path) -> None:
    ended = command("batch", folder, "--output", tmp_path / "rows.jsonl", "--top-k", 2)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]

    assert [(Path(row["path"]).name, row["label"], row["error"] is None) for row in rows] == [
        ("a.png", "7", True),
        ('b, "c"\nd.png', "7", True),
        ("cut.png", None, False),
        ("empty.jpg", None, False),
        ("gone.png", None, False),
        ("text.webp", None, False),
        ("z\udcff.png", "7", True),
    ]
    assert [len(row["top"]) for row in rows] == [2, 2, 0, 0, 0, 0, 2]
    assert rows[0]["top"][0] == {"label": "7", "probability": rows[0]["probability"]}
    assert rows[4]["error"] == "no such file"
    assert (ended.status, ended.out) == (1, f"7 images, 4 with errors: {tmp_path}/rows.jsonl\n")


def test_csv_has_the_same_columns(command: Command, tmp_path: Path) -> None:
    ended = command("batch", SAMPLES, "--output", tmp_path / "rows.csv", "--top-k", 1)
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert ended.status == 0
    assert list(rows[0]) == ["path", "label", "probability", "top", "error", "warning"]
    assert [row["path"] for row in rows] == sorted(map(str, SAMPLES.glob("*.png")))
    assert [row["label"] for row in rows] == [Path(row["path"]).name[0] for row in rows]
    assert [json.loads(row["top"])[0]["label"] for row in rows] == [row["label"] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["{}", "--output", "{}/r.xlsx"],
            "the output is r.xlsx, expected a name that ends in .csv or .jsonl",
        ),
        (
            ["{}/empty", "--output", "{}/r.csv"],
            "no images (.png, .jpg, .jpeg, .webp) in the folder {}/empty",
        ),
        (["{}/*.gif", "--output", "{}/r.csv"], "nothing matches {}/*.gif"),
        (
            ["{}", "--output", "{}/missing/r.csv"],
            "can't write {}/missing/r.csv: No such file or directory",
        ),
        (
            ["{}", "--output", "{}/r.csv", "--server", DEAD_ADDRESS],
            f"no featurelens server answers at {DEAD_ADDRESS}; start one with `featurelens serve`",
        ),
        (["{}", "--output", "{}/r.csv", "--model", "nope"], 'there is no model "nope"; there is lenet'),
    ],
)
def test_what_cannot_be_done_is_one_line_status_2_and_no_file(
    command: Command, folder: Path, arguments: list[str], message: str
) -> None:
    (folder / "empty").mkdir()
    before = sorted(folder.rglob("*"))
    ended = command("batch", *(argument.format(folder) for argument in arguments))

    assert (ended.status, ended.out) == (2, "")
    assert ended.err == f"featurelens: {message.format(folder)}\n"
    assert sorted(folder.rglob("*")) == before


def test_a_server_that_goes_away_leaves_rows(command: Command, folder: Path, tmp_path: Path) -> None:
    servicer = Describing(answers=2)
    with failing_server(servicer) as address:
        ended = command("batch", folder, "--output", tmp_path / "rows.jsonl", "--server", address)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        f"featurelens: stopped after 2 of 7 images; their rows are in {tmp_path}/rows.jsonl.partial",
        "featurelens: the server is draining",
    ]
    assert len((tmp_path / "rows.jsonl.partial").read_text().splitlines()) == 2
    assert not (tmp_path / "rows.jsonl").exists()


def test_ctrl_c_ends_the_run_cleanly(folder: Path, tmp_path: Path) -> None:
    output, partial = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.partial"
    program = "from featurelens.cli import main; main()"
    arguments = ["batch", str(folder), "--output", str(output), "--server"]
    servicer = Describing(answers=2, then_wait=True)
    with failing_server(servicer) as address:
        command = [sys.executable, "-c", program, *arguments, address]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            servicer.waiting.wait(timeout=30)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        servicer.released.set()

    count = len(partial.read_text().splitlines())
    assert process.returncode == 130
    assert errors == f"featurelens: stopped after {count} of 7 images; their rows are in {partial}\n"
    assert not output.exists()
