"""`featurelens evaluate`: measure the model that is deployed, through the same call that everybody uses."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from featurelens.cli.connection import connected
from featurelens.cli.console import CommandError, Output, print_json, print_table, progress
from featurelens.cli.extras import needing
from featurelens.cli.options import ModelOption, OutputOption, VersionOption
from featurelens.client import Client
from featurelens.requests import ClassifyOptions
from featurelens.results import ModelDescription

CLASSES = 10
_DIGITS = tuple(str(digit) for digit in range(CLASSES))


class Dataset(StrEnum):
    """A data set with labels to measure on."""

    MNIST = "mnist"


@connected
def evaluate(
    client: Client,
    dataset: Annotated[Dataset, typer.Option("--dataset", help="What to measure on.")] = Dataset.MNIST,
    model: ModelOption = "",
    model_version: VersionOption = "",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images in one call.")] = 100,
    confusion: Annotated[bool, typer.Option("--confusion", help="Show what was taken for what.")] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Folder with its files; else fetched."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Count the errors of a deployed model on the test images of a data set."""
    description = client.describe(model, model_version)
    _check_labels(description)
    images, truth = needing("training", lambda: _mnist(data))
    options = ClassifyOptions(model=model, version=description.version, top_k=1)
    counts = _confusion(client, images, truth, batch_size, options)
    result = _summary(dataset, description, counts)
    if output is Output.JSON:
        print_json({**result, "confusion": counts.tolist()})
        return
    print_table(list(result), [[str(value) for value in result.values()]])
    if confusion:
        print_table(
            ["is", *(f"as {digit}" for digit in _DIGITS)],
            [[digit, *map(str, row)] for digit, row in zip(_DIGITS, counts.tolist(), strict=True)],
        )


def _check_labels(model: ModelDescription) -> None:
    if set(model.labels) != set(_DIGITS):
        raise CommandError(
            f"the labels of {model.name} are {', '.join(model.labels[:12])}, expected the ten digits"
        )


def _mnist(folder: Path | None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the test images as LeNet takes them, float32 [10000, 1, 32, 32] with ink 1, and their digits."""
    from training.data import load_mnist, read_digits
    from training.fetch import FetchError
    from training.idx import IdxError

    try:
        digits = read_digits(folder, "test") if folder else load_mnist("test")
    except (FetchError, IdxError, OSError) as error:
        raise CommandError(str(error)) from error
    images = digits.images[:, None].astype(np.float32)
    images /= 255
    return images, digits.labels


def _confusion(
    client: Client,
    images: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int64],
    batch_size: int,
    options: ClassifyOptions,
) -> npt.NDArray[np.int64]:
    """Return how often each digit (row) was taken for each digit (column)."""
    counts = np.zeros((CLASSES, CLASSES), np.int64)
    with progress("images") as bar:
        task = bar.add_task("", total=len(images), note="")
        for start in range(0, len(images), batch_size):
            some = slice(start, start + batch_size)
            taken_for = [
                int(prediction.label) for prediction in client.classify_tensor(images[some], **options)
            ]
            for digit, other in zip(truth[some], taken_for, strict=True):
                counts[digit, other] += 1
            bar.update(task, advance=len(taken_for))
    return counts


def _summary(dataset: Dataset, model: ModelDescription, counts: npt.NDArray[np.int64]) -> dict[str, object]:
    images = int(counts.sum())
    errors = images - int(np.trace(counts))
    return {
        "dataset": str(dataset),
        "model": model.name,
        "version": model.version,
        "images": images,
        "errors": errors,
        "error_percent": round(100 * errors / images, 4),
    }
