"""`featurelens layers`: what is in a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from featurelens.cli.connection import connected
from featurelens.cli.console import Output, print_json, print_table, printable
from featurelens.cli.options import OutputOption, VersionOption
from featurelens.client import Client
from featurelens.results import Layer, ModelDescription, ReceptiveField

_MOST_NAMES = 20


@connected
def layers(
    client: Client,
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="Name; without it, the only one there is.")
    ] = "",
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[LAYER]...",
            help="Show these alone: names, module paths, patterns as 'layer3*', or op:Conv.",
        ),
    ] = None,
    model_version: VersionOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Describe a model: every layer that can be asked for, in graph order."""
    description = client.describe(model, model_version, layers=names or ())
    if output is Output.JSON:
        print_json(_as_json(description))
        return
    print(_headline(description))
    shown = [layer for layer in description.layers if names or not layer.auxiliary]
    columns = {title: [cell(layer) for layer in shown] for title, cell in _COLUMNS.items()}
    if all(layer.module in ("", layer.name) for layer in shown):
        del columns["module"], columns["output of"]
    print_table(list(columns), list(zip(*columns.values(), strict=True)))
    if not all(layer.follows_batch for layer in shown):
        print("*: not a row for each image; the whole tensor of a run of the image alone")
    if auxiliary := [layer.name for layer in description.layers if layer.auxiliary and layer not in shown]:
        print(f"by name only, not among all: {_some(auxiliary)}")


def _as_json(description: ModelDescription) -> dict[str, object]:
    """The description without weights, which are arrays: they are for the Python client."""
    value = asdict(description)
    for layer in value["layers"]:
        del layer["weights"]
    return value


def _headline(model: ModelDescription) -> str:
    fixed = f", runs of {model.fixed_batch} images" if model.fixed_batch else ""
    about = (
        f"{model.name}/{model.version}: {len(model.labels)} labels, {model.parameters:,} parameters, "
        f"opset {model.opset}, {model.provider}, {model.digest[:12]}{fixed}"
    )
    return "\n".join(filter(None, (about, model.preprocessing.description, _classes(model))))


def _classes(model: ModelDescription) -> str:
    """Tell how it classifies, or why it doesn't."""
    if model.head is None:
        return printable(f"No classifier: {model.not_a_classifier}.") if model.not_a_classifier else ""
    many = ", several labels at once" if model.head.multi_label else ""
    return printable(f'Classes in "{model.head.output}", {model.head.kind}{many}: {model.head.reason}.')


def _outermost(layer: Layer) -> str:
    """Name the largest module that the layer is the output of, unless that is its own module."""
    return next((path for path in layer.aliases if path != layer.module), "")


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _shape(layer: Layer) -> str:
    """Write the shape of what an image gets."""
    if layer.follows_batch:
        return times(layer.output_shape[1:])
    return f"{times(layer.output_shape) or 'scalar or unknown'} *"


def _seen(field: ReceptiveField | None) -> str:
    if field is None:
        return ""
    return f"{times(field.size)} every {times(field.jump)}" if any(field.jump) else times(field.size)


def times(sizes: Sequence[int]) -> str:
    """Write sizes as 6x28x28; a size that is not known before a run as ?."""
    return "x".join("?" if size < 0 else str(size) for size in sizes)


_COLUMNS: Mapping[str, Callable[[Layer], str]] = {
    "layer": lambda layer: layer.name,
    "module": lambda layer: layer.module,
    "output of": _outermost,
    "op": lambda layer: layer.op_type,
    "shape": lambda layer: _shape(layer),
    "parameters": lambda layer: f"{layer.parameters:,}" if layer.parameters else "",
    "kernel": lambda layer: times(layer.kernel_shape),
    "strides": lambda layer: times(layer.strides),
    "receptive field": lambda layer: _seen(layer.receptive_field),
}
