"""Tell how a training run went: numbers as JSON, a page of Markdown, and the pictures it shows."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from training import figures
from training.data import CLASSES
from training.evaluate import predict
from training.export import PARITY_IMAGES, PARITY_TOLERANCE, read_metadata
from training.selection import difference, read_record

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from training.data import Digits
    from training.settings import Settings
    from training.train import Run

WORST = 40


def confusion_matrix(probabilities: NDArray[np.float32], test: Digits) -> NDArray[np.int64]:
    """Count images by true digit (row) and answered digit (column)."""
    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    np.add.at(matrix, (test.labels, probabilities.argmax(axis=1)), 1)
    return matrix


def worst_mistakes(
    probabilities: NDArray[np.float32], test: Digits, count: int = WORST
) -> list[dict[str, Any]]:
    """List the wrong answers, those first that gave the true digit the least probability."""
    answers = probabilities.argmax(axis=1)
    truth = probabilities[np.arange(len(test)), test.labels]
    wrong = np.flatnonzero(answers != test.labels)
    return [
        {
            "index": int(index),
            "label": int(test.labels[index]),
            "answer": int(answers[index]),
            "answer_probability": round(float(probabilities[index].max()), 4),
            "label_probability": round(float(truth[index]), 4),
        }
        for index in wrong[truth[wrong].argsort(kind="stable")][:count]
    ]


def write_report(run: Run, test: Digits, parity: dict[str, float], folder: Path) -> None:
    """Write report.json, report.md and the pictures beside the model.onnx in `folder`, which `run` became."""
    probabilities = predict(run.averaged, test)
    matrix = confusion_matrix(probabilities, test)
    mistakes = worst_mistakes(probabilities, test)
    content = {
        **read_metadata(folder / "model.onnx"),
        "settings": asdict(run.settings),
        "history": [asdict(epoch) for epoch in run.history],
        "confusion_matrix": matrix.tolist(),
        "worst_mistakes": mistakes,
        "parity": {
            "images": min(PARITY_IMAGES, len(test)),
            "tolerance": PARITY_TOLERANCE,
            "largest_difference": parity,
        },
        "selection": read_record(),
    }
    (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n")
    (folder / "report.md").write_text(_page(content, run.settings))
    figures.curve(run.history, folder / "curve.png")
    figures.confusion(matrix, folder / "confusion.png")
    figures.mistakes(test, mistakes, folder / "mistakes.png")
    figures.kernels(run.averaged, folder / "kernels.png")


def _page(content: dict[str, Any], settings: Settings) -> str:
    metrics, last = content["metrics"], content["history"][-1]
    selection = [
        (
            difference(row["settings"], settings),
            row["settings"]["epochs"],
            row["settings"]["held_out"],
            row["held_out_error_percent"],
        )
        for row in content["selection"]
    ]
    wrong = f"{metrics['test_errors']} of {metrics['test_images']} test images wrong"
    return f"""# How this model was trained
{wrong}: **{metrics["test_error_percent"]:.2f} %**,
with {metrics["parameters"]} parameters after {metrics["epochs"]} epochs. The test images decided nothing
about the training. In the last epoch, {last["error_percent"]:.2f} % of the *distorted* training images were
wrong.

    {content["command"]}

Versions: {", ".join(f"{name} {version}" for name, version in content["versions"].items())}.
All numbers are in [report.json](report.json).

![Error by epoch](curve.png)
![Confusion matrix](confusion.png)
![Worst mistakes](mistakes.png)
![Kernels of conv1 and conv2](kernels.png)

## How the settings were chosen
Each run left the last training images out, and its averaged weights then classified those. The first
column says in what it differs from what was shipped.

| settings | epochs | held-out images | held-out error |
|---|---|---|---|
{_rows(selection, "| {} | {} | {} | {:.2f} % |")}
## ONNX Runtime against PyTorch
Largest difference in each layer over the first {content["parity"]["images"]} test images; allowed:
{content["parity"]["tolerance"]} of the layer's largest value.

| layer | largest difference |
|---|---|
{_rows(content["parity"]["largest_difference"].items(), "| {} | {:.1e} |")}"""


def _rows(items: Any, row: str) -> str:  # noqa: ANN401 - rows of any width
    return "".join(row.format(*item) + "\n" for item in items)
