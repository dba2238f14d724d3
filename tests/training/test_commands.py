"""The command line from the outside: what is written, said and returned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from onnx import parser

from training import checkpoint, commands
from training.__main__ import main
from training.export import read_metadata
from training.interrupt import interruptible
from training.settings import Settings, flat
from training.train import start

if TYPE_CHECKING:
    from pathlib import Path

SHORT = ["--epochs", "6", "--batch-size", "32"]


@pytest.fixture(scope="module")
def trained(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a short run leaves behind."""
    folder = tmp_path_factory.mktemp("trained")
    assert main([*_train(idx_folder, folder), *SHORT]) == 0
    return folder


def _train(data: Path, folder: Path) -> list[str]:
    return ["train", "--data", str(data), *_places(folder)]


def _places(folder: Path) -> list[str]:
    return ["--output", str(folder / "model"), "--checkpoint", str(folder / "checkpoint")]


def test_training_leaves_model_and_report(trained: Path) -> None:
    assert sorted(path.name for path in (trained / "model").iterdir()) == [
        "confusion.png",
        "curve.png",
        "kernels.png",
        "mistakes.png",
        "model.onnx",
        "report.json",
        "report.md",
    ]


def test_the_model_says_how_it_was_made(trained: Path, idx_folder: Path) -> None:
    metadata = read_metadata(trained / "model" / "model.onnx")
    assert metadata["dataset"] == {"name": idx_folder.name, "train_images": 320}
    assert metadata["metrics"]["test_images"] == 100
    assert metadata["metrics"]["epochs"] == 6
    assert metadata["seed"] == 1
    assert metadata["command"].startswith(
        "python -m training train --seed 1 --epochs 6 --batch-size 32 --loss "
    )
    assert metadata["versions"]["torch"] == torch.__version__


def test_the_command_in_the_model_trains_the_same_model(
    trained: Path, idx_folder: Path, tmp_path: Path
) -> None:
    command = read_metadata(trained / "model" / "model.onnx")["command"].split()
    assert command[:3] == ["python", "-m", "training"]
    data = ["--data", str(idx_folder)]
    assert main([*command[3:], *data, *_places(tmp_path)]) == 0
    for name in ("model.onnx", "report.json", "report.md", "curve.png"):
        assert (tmp_path / "model" / name).read_bytes() == (trained / "model" / name).read_bytes()


def test_export_and_report_repeat_what_training_wrote(
    trained: Path, idx_folder: Path, tmp_path: Path
) -> None:
    places = [
        "--data",
        str(idx_folder),
        "--output",
        str(tmp_path),
        "--checkpoint",
        str(trained / "checkpoint"),
    ]
    assert main(["export", *places]) == 0
    assert main(["report", *places]) == 0
    for path in (trained / "model").iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_evaluate_counts_what_the_model_says_of_itself(
    trained: Path, idx_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained / "model" / "model.onnx"
    metrics = read_metadata(path)["metrics"]
    assert main(["evaluate", str(path), "--data", str(idx_folder)]) == 0
    expected = f"{metrics['test_errors']} of 100 test images wrong: {metrics['test_error_percent']:.2f} %\n"
    assert capsys.readouterr().out == expected


def test_a_comparison_records_its_settings_and_leaves_the_test_images_alone(
    idx_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (data / name).write_bytes((idx_folder / name).read_bytes())
    record = tmp_path / "record.json"
    for gain in ("0.1", "0.2"):
        flags = ["--epochs", "1", "--held-out", "100", "--gain", gain, "--record", str(record)]
        assert main([*_train(data, tmp_path), *flags]) == 0
    rows = json.loads(record.read_text())
    assert [row["settings"]["augmentation"]["gain"] for row in rows] == [0.1, 0.2]
    assert all(0 <= row["held_out_error_percent"] <= 100 for row in rows)
    assert not (tmp_path / "model").exists()


def test_ctrl_c_saves_and_resuming_ends_as_an_unbroken_run_does(idx_folder: Path, tmp_path: Path) -> None:
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    # 185 steps, enough to press Ctrl-C in between; with images held out, nothing has to be exported.
    flags = ["--epochs", "5", "--batch-size", "8", "--held-out", "20"]
    command = [sys.executable, "-m", "training", *_train(idx_folder, broken), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        shown = b""
        while b"loss" not in shown:  # the progress bar shows the first steps
            shown += os.read(process.stderr.fileno(), 4096)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    step = checkpoint.load(broken / "checkpoint").step
    assert 0 < step < 185
    assert said.decode() == (
        f"stopped after step {step}, saved in {broken / 'checkpoint'}: --resume goes on from there\n"
    )
    assert main([*_train(idx_folder, broken), "--resume"]) == 0
    assert main([*_train(idx_folder, whole), *flags]) == 0
    resumed, unbroken = (checkpoint.load(folder / "checkpoint") for folder in (broken, whole))
    assert resumed.history == unbroken.history
    torch.testing.assert_close(resumed.averaged.state_dict(), unbroken.averaged.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["train", "--epochs", "0"], "error: epochs is 0, expected 1 or more\n"),
        (["train", "--momentum", "1"], "error: momentum is 1.0, expected 0 or more and less than 1\n"),
        (["train", "--gain", "-0.5"], "error: gain is negative, expected 0 or more\n"),
        (
            ["train", "--resume"],
            "error: there is no checkpoint out/lenet.checkpoint: train without --resume first\n",
        ),
        (["evaluate", "none.onnx"], "error: none.onnx doesn't exist\n"),
    ],
)
def test_a_wrong_argument_gets_a_clear_error(
    flags: list[str],
    message: str,
    idx_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*flags, "--data", str(idx_folder)]) == 1
    assert capsys.readouterr().err == message


def test_resuming_with_other_settings_is_refused(
    trained: Path, idx_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*_train(idx_folder, trained), "--resume", "--epochs", "7"]) == 1
    expected = "error: the checkpoint was made with other values of --epochs: leave them out, or start anew\n"
    assert capsys.readouterr().err == expected


def test_an_unfinished_run_is_not_exported(
    idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(start(Settings()), tmp_path / "checkpoint")
    assert main(["export", "--data", str(idx_folder), *_places(tmp_path)]) == 1
    assert "training isn't finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"digits", "is not an ONNX model"),
        (None, "takes ['x'] to ['y'], expected image to probabilities"),
    ],
)
def test_evaluate_refuses_what_is_not_a_digit_classifier(
    content: bytes | None, message: str, idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content if content is not None else _foreign_model())
    assert main(["evaluate", str(path), "--data", str(idx_folder)]) == 1
    assert message in capsys.readouterr().err


def _foreign_model() -> bytes:
    text = '<ir_version: 8, opset_import: ["" : 17]> foreign (float[n] x) => (float[n] y) { y = Relu(x) }'
    return bytes(parser.parse_model(text).SerializeToString())


def test_a_data_folder_without_the_files_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*_train(tmp_path, tmp_path)]) == 1
    assert f"'{tmp_path / 'train-images-idx3-ubyte'}'" in capsys.readouterr().err


def test_every_setting_is_a_flag_with_its_default_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, default in flat(Settings()).items():
        assert f"--{name.replace('_', '-')} " in shown
        assert f"(default: {default})" in shown


def test_ctrl_c_outside_the_training_loop_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "evaluate", lambda **_: signal.raise_signal(signal.SIGINT))
    assert main(["evaluate", "model.onnx"]) == 130
    assert capsys.readouterr().err == ""


def test_a_second_ctrl_c_does_not_wait() -> None:
    with interruptible() as stopped:
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
