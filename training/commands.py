"""What each command does with its arguments, and what it says on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from training import checkpoint as checkpoints
from training import export as exporter
from training.data import load_mnist, read_digits
from training.evaluate import ModelFileError, count_errors, predict, predict_onnx
from training.fetch import FetchError
from training.idx import IdxError
from training.interrupt import interruptible
from training.metadata import describe
from training.report import write_report
from training.selection import append_to_record
from training.settings import Settings, change
from training.train import Run, TrainingError, start
from training.train import train as run_training

if TYPE_CHECKING:
    from pathlib import Path

    from training.data import Digits, Split

INTERRUPTED = 130  # 128 + SIGINT, as a shell has it


class CommandError(Exception):
    """The arguments don't fit together, or don't fit the files they point at."""


# What a person can do something about; anything else is a bug and keeps its traceback.
EXPECTED_ERRORS = (
    ModelFileError,
    CommandError,
    checkpoints.CheckpointError,
    exporter.ExportError,
    FetchError,
    IdxError,
    TrainingError,
    OSError,
)


def train(
    *,
    resume: bool,
    record: Path | None,
    data: Path | None,
    output: Path,
    checkpoint: Path,
    **given: Any,  # noqa: ANN401 - a value for each setting that was named
) -> int:
    """Train; then export and report, unless images were held out to compare settings."""
    run = _resume(checkpoint, given) if resume else start(_with(Settings(), given))
    digits = _load(data, "train")
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with interruptible() as stopped:
        run_training(run, digits, stopped=stopped, save=lambda run: checkpoints.save(run, checkpoint))
    if not run.finished:
        _say(f"stopped after step {run.step}, saved in {checkpoint}: --resume goes on from there")
        return INTERRUPTED
    if run.settings.held_out:
        _compare(run, record)
    else:
        _publish(run, data, output)
    return 0


def evaluate(*, model: Path, data: Path | None) -> int:
    """Count the errors of an ONNX file on the test images."""
    test = _load(data, "test")
    errors = count_errors(predict_onnx(model, test), test)
    _say(f"{errors} of {len(test)} test images wrong: {100 * errors / len(test):.2f} %")
    return 0


def export(*, checkpoint: Path, output: Path, data: Path | None) -> int:
    """Write a finished run's ONNX file and prove parity."""
    run, test = _finished(checkpoint), _load(data, "test")
    _export(run, test, _dataset(data), output)
    return 0


def report(*, checkpoint: Path, output: Path, data: Path | None) -> int:
    """Write the report on a finished run and on the ONNX file beside it."""
    run, test = _finished(checkpoint), _load(data, "test")
    parity = exporter.check_parity(run.averaged, output / "model.onnx", test)
    write_report(run, test, parity, output)
    _say(f"report written to {output}")
    return 0


def _resume(checkpoint: Path, given: dict[str, Any]) -> Run:
    run = checkpoints.load(checkpoint)
    if _with(run.settings, given) != run.settings:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise CommandError(
            f"the checkpoint was made with other values of {flags}: leave them out, or start anew"
        )
    return run


def _with(settings: Settings, given: dict[str, Any]) -> Settings:
    try:
        return change(settings, given)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _load(data: Path | None, split: Split) -> Digits:
    return load_mnist(split) if data is None else read_digits(data, split)


def _compare(run: Run, record: Path | None) -> None:
    error = run.history[-1].held_out_error_percent
    _say(f"held-out error {error:.2f} %; trained to compare settings, so neither tested nor exported")
    if record is not None and error is not None:
        append_to_record(run.settings, error, record)


def _publish(run: Run, data: Path | None, output: Path) -> None:
    test = _load(data, "test")
    parity = _export(run, test, _dataset(data), output)
    write_report(run, test, parity, output)


def _finished(checkpoint: Path) -> Run:
    run = checkpoints.load(checkpoint)
    if not run.finished:
        raise CommandError(
            f"training isn't finished, {checkpoint} is at epoch {len(run.history)}: train --resume first"
        )
    return run


def _export(run: Run, test: Digits, dataset: str, output: Path) -> dict[str, float]:
    model = run.averaged
    errors = count_errors(predict(model, test), test)
    path = output / "model.onnx"
    output.mkdir(parents=True, exist_ok=True)
    exporter.export(model, describe(run, dataset, test_images=len(test), test_errors=errors), path)
    parity = exporter.check_parity(model, path, test)
    _say(f"{path}: {errors} of {len(test)} test images wrong, the same in ONNX Runtime")
    return parity


def _dataset(data: Path | None) -> str:
    return "mnist" if data is None else data.resolve().name


def _say(message: str) -> None:
    sys.stdout.write(f"{message}\n")
