"""`featurelens models`: what a server has, as it changes; which version a label names; a step back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Annotated, TypeVar

import typer

from featurelens.cli.connection import connected
from featurelens.cli.console import (
    CommandError,
    Output,
    complain,
    make_table,
    print_json,
    print_table,
    printable,
)
from featurelens.cli.extras import needing
from featurelens.cli.options import OutputOption
from featurelens.client import Client
from featurelens.errors import FeaturelensError
from featurelens.results import ModelSummary

T = TypeVar("T")
Models = list[ModelSummary]

_COLUMNS = ["model", "version", "state", "labels", "provider", "digest", "reason"]
_LOOK_S = 0.2

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.")]
RepositoryOption = Annotated[
    Path,
    typer.Option(
        "--model-repository",
        envvar="FEATURELENS_MODEL_REPOSITORY",
        metavar="FOLDER",
        help="The model repository that the server follows.",
    ),
]

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
@connected
def models(
    client: Client,
    context: typer.Context,
    output: OutputOption = Output.TABLE,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing them, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.01, help="Seconds between two looks.")] = 1.0,
    looks: Annotated[int, typer.Option("--looks", min=0, help="End after so many looks; 0: never.")] = 0,
) -> None:
    """List the models of a server, every version of each."""
    if context.invoked_subcommand is not None:
        return
    if watch:
        _watch(_looks(client, interval, looks))
    elif output is Output.JSON:
        print_json([asdict(summary) for summary in client.models()])
    else:
        print_table(_COLUMNS, [_row(summary) for summary in client.models()])


@app.command()
def label(
    name: NameArgument,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Such as stable or canary.")],
    version: Annotated[
        int | None,
        typer.Argument(metavar="[VERSION]", min=1, help="The version; without it, the label is removed."),
    ] = None,
    *,
    model_repository: RepositoryOption,
) -> None:
    """Give a version a label that requests may use; "stable" answers requests that name no version."""
    _edit(lambda: _set_label(model_repository, name, label, version))
    print(f'{name}: "{label}" is version {version}' if version else f'{name}: "{label}" is removed')


@app.command()
@connected
def rollback(client: Client, name: NameArgument, *, model_repository: RepositoryOption) -> None:
    """Let the version before the one that answers answer: label it stable, and wait until it is served."""
    current = client.describe(name).version
    before = _edit(lambda: _version_before(model_repository, name, int(current)))
    _edit(lambda: _set_label(model_repository, name, "stable", before))
    _wait_for(client, name, str(before), client.timeout)
    print(f"{name}: version {before} answers now, in place of {current}")


def _row(model: ModelSummary) -> list[str]:
    labels = ", ".join(model.labels)
    return [model.name, model.version, model.state, labels, model.provider, model.digest[:12], model.reason]


def _looks(client: Client, interval: float, most: int) -> Iterator[Models]:
    """Look again and again; a server that doesn't answer any more may come back."""
    yield client.models()
    done = 1
    while done != most:
        Event().wait(interval)
        done += 1
        try:
            yield client.models()
        except FeaturelensError as error:
            complain(error.message)


def _watch(looks: Iterator[Models]) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not console.is_terminal:
        _print_changes(looks)
        return
    with Live(console=console, auto_refresh=False) as live:
        for models in looks:
            live.update(make_table(_COLUMNS, [_row(model) for model in models]), refresh=True)


def _print_changes(looks: Iterator[Models]) -> None:
    """Print a line for each version that came, changed or went."""
    known: dict[str, str] = {}
    for models in looks:
        now = {f"{model.name}/{model.version}": _state(model) for model in models}
        for version, state in now.items():
            if known.get(version) != state:
                print(f"{version} {state}", flush=True)
        for version in known.keys() - now.keys():
            print(f"{version} GONE", flush=True)
        known = now


def _state(model: ModelSummary) -> str:
    labels = f" ({', '.join(model.labels)})" if model.labels else ""
    return printable(f"{model.state}{labels}{f': {model.reason}' if model.reason else ''}")


def _wait_for(client: Client, name: str, version: str, timeout: float) -> None:
    give_up_s = time.monotonic() + timeout
    while client.describe(name).version != version:
        reasons = [model.reason for model in client.models() if model.name == name and model.reason]
        if time.monotonic() > give_up_s:
            why = "; ".join(reasons) or "does it follow that folder?"
            raise CommandError(
                f"the server didn't change over to version {version} within {timeout:g} s: {why}"
            )
        Event().wait(_LOOK_S)


def _edit(edit: Callable[[], T]) -> T:
    def run() -> T:
        from service.errors import StartupError

        try:
            return edit()
        except (StartupError, OSError) as error:
            raise CommandError(str(error)) from error

    return needing("server", run)


def _set_label(folder: Path, name: str, label: str, version: int | None) -> None:
    from service.version_labels import set_label

    set_label(folder, name, label, version)


def _version_before(folder: Path, name: str, version: int) -> int:
    from service.version_labels import version_before

    return version_before(folder, name, version)
