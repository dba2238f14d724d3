"""`featurelens check` and `featurelens import`: what a file would be served as, and putting it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featurelens.cli.console import CommandError, print_json, print_table, printable
from featurelens.cli.doctor import MARKS
from featurelens.cli.extras import needing

if TYPE_CHECKING:
    from service.draft_config import Choices
    from service.inspection import Inspection
    from service.loading import LoadOptions

_REFUSED, _NO_CLASSIFIER = 1, 3
_IMAGENET = "imagenet-1k"


class Preset(StrEnum):
    """Libraries whose way to prepare pictures is known."""

    TORCHVISION = "torchvision"
    TIMM = "timm"
    HUGGINGFACE = "huggingface"


FileArgument = Annotated[
    Path, typer.Argument(metavar="MODEL.ONNX", exists=True, dir_okay=False, help="The model's file.")
]
PresetOption = Annotated[
    Preset | None, typer.Option("--preset", help="Whose way it was trained with to prepare pictures.")
]
LabelsOption = Annotated[
    str,
    typer.Option(
        "--labels",
        metavar="LABELS",
        help=f"Names of the classes: {_IMAGENET}, a file with one a line, or names with commas between.",
    ),
]


def check(
    file: FileArgument,
    preset: PresetOption = None,
    labels: LabelsOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what a model file would be served as, without a server, and draft its config.toml.

    Exit status: 0 it can be served as an image classifier; 1 it can't be served; 3 it can be served, but not
    as an image classifier.
    """
    raise typer.Exit(needing("server", lambda: _check(file, preset, labels, as_json=as_json)))


def import_model(
    file: FileArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the model is to be called.")],
    repository: Annotated[
        Path,
        typer.Option(
            "--model-repository",
            envvar="FEATURELENS_MODEL_REPOSITORY",
            metavar="FOLDER",
            help="Folder of the models; it is made if it isn't there.",
        ),
    ],
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Its number; without it, the next.")
    ] = None,
    preset: PresetOption = None,
    labels: LabelsOption = "",
) -> None:
    """Put a model file into a repository, with the files of its weights and a config.toml.

    It is loaded first, as `featurelens check` does; what can't be served is refused. A running server sees
    the new version whole.
    """

    def run() -> None:
        from structlog.testing import capture_logs

        from service.errors import StartupError
        from service.importing import import_model

        choices = _choices(preset, labels)
        try:
            with capture_logs():
                options = _options()
                imported = import_model(file, name, repository, options, choices, version)
        except StartupError as error:
            raise CommandError(str(error)) from error
        _show(imported.inspection)
        place = repository / name
        print(f"\n{printable(str(place / str(imported.version)))} is there.")
        print(f"What it lacks, if anything, belongs into {printable(str(place / 'config.toml'))}.")
        print(f"To serve it: featurelens serve --model-repository {printable(str(repository))}")

    needing("server", run)


def _check(file: Path, preset: Preset | None, labels: str, *, as_json: bool) -> int:
    from structlog.testing import capture_logs

    from service.checks.finding import bad
    from service.checks.model import findings
    from service.draft_config import draft
    from service.errors import StartupError
    from service.inspection import inspect

    choices = _choices(preset, labels)
    try:
        with capture_logs():
            inspection = inspect(file, file.stem, choices.config(), _options())
    except StartupError as error:
        refused = bad("model", str(error), "correct the file, or export it again")
        _print([asdict(refused)], "", as_json=as_json)
        return _REFUSED
    found = [asdict(finding) for finding in findings(inspection)]
    _print(found, draft(inspection.served, choices), as_json=as_json)
    return 0 if inspection.served.classifier_or_none else _NO_CLASSIFIER


def _print(found: Sequence[dict[str, str]], config: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"findings": found, "config_toml": config})
        return
    rows = [[f["check"], f["verdict"], f["found"], f["advice"]] for f in found]
    print_table(["check", "", "found", "what to do"], rows, MARKS)
    if config:
        print(f"\nA config.toml for it:\n\n{config.rstrip()}")


def _show(inspection: Inspection) -> None:
    from service.checks.model import findings

    _print([asdict(finding) for finding in findings(inspection)], "", as_json=False)


def _options() -> LoadOptions:
    """Return how the server loads models, as the environment sets it."""
    from service.checks.configuration import configuration
    from service.from_settings import load_options

    settings, _ = configuration(())
    return load_options(settings)


def _choices(preset: Preset | None, labels: str) -> Choices:
    from service.draft_config import Choices

    return Choices(preset.value if preset else None, _labels(labels))


def _labels(text: str) -> Sequence[str] | str | None:
    """Read the labels: a name for all of them, a file or a list."""
    if text in ("", _IMAGENET):
        return text or None
    if "," in text and not Path(text).exists():
        return [label.strip() for label in text.split(",")]
    try:
        lines = Path(text).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(
            f"--labels {text} is no file that can be read; expected {_IMAGENET}, a file with one label a "
            "line, or labels with commas between"
        ) from error
    return [line.strip() for line in lines if line.strip()]
