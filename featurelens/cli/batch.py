"""`featurelens batch`: many images into one file, a row each, whatever becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featurelens.cli.classify import top
from featurelens.cli.connection import connected
from featurelens.cli.console import complain, progress, rounded
from featurelens.cli.files import find_images
from featurelens.cli.options import ModelOption, TopKOption, VersionOption
from featurelens.cli.rows import Row, RowFile
from featurelens.client import Client
from featurelens.requests import ClassifyOptions
from featurelens.results import Outcome, Prediction

if TYPE_CHECKING:
    from rich.progress import Progress


@connected
def batch(
    client: Client,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Folders, files and glob patterns.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="File to write: .csv or .jsonl.")],
    model: ModelOption = "",
    model_version: VersionOption = "",
    top_k: TopKOption = 3,
) -> None:
    """Classify folders of images into a file, a row for each image.

    An image that can't be classified gets a row with its error; then the exit status is 1.
    """
    rows = RowFile(output)
    paths = find_images(inputs)
    options = ClassifyOptions(model=model, version=model_version, top_k=top_k)
    client.describe(model, model_version)  # no server or no such model: before the output is touched
    with progress("images") as bar, rows:
        errors = _run(client, paths, options, rows, bar)
    print(f"{len(paths)} images, {errors} with errors: {output}")
    raise typer.Exit(errors > 0)


def _run(client: Client, paths: list[str], options: ClassifyOptions, rows: RowFile, bar: Progress) -> int:
    """Write a row for each path, in order; return how many have errors."""
    errors = 0
    task = bar.add_task("", total=len(paths), note="")
    try:
        for path, outcome in zip(paths, client.classify_stream(paths, **options), strict=True):
            rows.write(_row(path, outcome))
            errors += not isinstance(outcome, Prediction)
            bar.update(task, advance=1, note=f"{errors} with errors" if errors else "")
    except BaseException:
        complain(f"stopped after {rows.count()} of {len(paths)} images; their rows are in {rows.partial}")
        raise
    return errors


def _row(path: str, outcome: Outcome) -> Row:
    if isinstance(outcome, Prediction):
        return {
            "path": path,
            "label": outcome.label,
            "probability": rounded(outcome.probability),
            "top": top(outcome, len(outcome.scores)),
            "warning": ", ".join(each.code for each in outcome.warnings) or None,
            "error": None,
        }
    nothing = dict.fromkeys(("label", "probability", "warning"))
    return {"path": path, "top": [], "error": outcome.message} | nothing
