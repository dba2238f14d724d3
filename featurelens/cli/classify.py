"""`featurelens classify`: labels, and feature maps, of a few images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featurelens.cli.connection import connected
from featurelens.cli.console import Output, complain, print_json, print_table, rounded
from featurelens.cli.describe import times
from featurelens.cli.maps import MapFolder
from featurelens.cli.options import ModelOption, OutputOption, TopKOption, VersionOption
from featurelens.cli.portions import classify_all
from featurelens.client import Client
from featurelens.requests import ALL_LAYERS, ClassifyOptions
from featurelens.results import Prediction


@connected
def classify(
    client: Client,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="PNG, JPEG or WebP files.")],
    model: ModelOption = "",
    model_version: VersionOption = "",
    top_k: TopKOption = 3,
    layers: Annotated[
        str,
        typer.Option(
            "--layers",
            metavar="NAMES",
            help="Layers to ask for, with commas between: conv1, layer3, 'layer3*', op:Conv; or: all.",
        ),
    ] = "",
    save_maps: Annotated[
        Path | None,
        typer.Option(
            "--save-maps", metavar="DIR", help="Folder for the feature maps; without --layers, of all."
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Classify images, and look at what the layers made of them."""
    names = _layer_names(layers or ("all" if save_maps else ""))
    options = ClassifyOptions(model=model, version=model_version, layers=names, return_input=bool(save_maps))
    folder = MapFolder(save_maps, client) if save_maps else None
    found: list[tuple[str, Prediction]] = []
    lacking = False
    outcomes = classify_all(client, images, options)
    for path, (outcome, refused) in zip(images, outcomes, strict=True):
        if not isinstance(outcome, Prediction):
            if outcome.code == "NOT_FOUND":  # the model; no other image would fare better
                raise outcome
            complain(f"{path}: {outcome.message}")
            continue
        for layer, reason in refused.items():
            complain(f"{path}: {layer}: {reason}")
        lacking = lacking or bool(refused)
        if folder:
            folder.save(path, outcome)
        found.append((path, outcome))
    if output is Output.JSON:
        print_json([_as_json(path, prediction, top_k) for path, prediction in found])
    elif found:
        _complain_of_warnings(found)
        _print_table(found, top_k, bool(layers))
        if folder:
            print(f"feature maps: {save_maps}")
    raise typer.Exit(lacking or len(found) < len(images))


def _layer_names(layers: str) -> list[str]:
    names = [name.strip() for name in layers.split(",") if name.strip()]
    return [ALL_LAYERS] if names == ["all"] else names


def _as_json(path: str, prediction: Prediction, top_k: int) -> dict[str, object]:
    return {
        "path": path,
        "label": prediction.label,
        "probability": rounded(prediction.probability),
        "top": top(prediction, top_k),
        "layers": {name: list(values.shape) for name, values in prediction.feature_maps.as_asked().items()},
        "warnings": [{"code": each.code, "message": each.message} for each in prediction.warnings],
    }


def top(prediction: Prediction, count: int) -> list[dict[str, object]]:
    """Return the most probable labels as JSON has them."""
    return [
        {"label": score.label, "probability": rounded(score.probability)}
        for score in prediction.scores[:count]
    ]


def _complain_of_warnings(found: list[tuple[str, Prediction]]) -> None:
    for path, prediction in found:
        for warning in prediction.warnings:
            complain(f"{path}: {warning.message}")


def _print_table(found: list[tuple[str, Prediction]], top_k: int, layers: bool) -> None:
    columns = ["image", "label", "probability"]
    rows = [[path, each.label, f"{each.probability:.2%}"] for path, each in found]
    if top_k > 1:
        columns.append("next")
        for row, (_, each) in zip(rows, found, strict=True):
            row.append("  ".join(f"{score.label} {score.probability:.2%}" for score in each.scores[1:top_k]))
    if layers:
        columns.append("layers")
        for row, (_, each) in zip(rows, found, strict=True):
            row.append(
                " ".join(
                    f"{name}:{times(values.shape) or 'scalar'}"
                    for name, values in each.feature_maps.as_asked().items()
                )
            )
    print_table(columns, rows)
