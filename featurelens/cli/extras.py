"""Sub-commands whose parts the base install lacks: they load them, or say which extra to install."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import typer

from featurelens.cli.console import CommandError

T = TypeVar("T")
_OURS = {"featurelens", "protos", "service", "training"}


def serve(context: typer.Context) -> None:
    """Serve the models of a repository; without one, the LeNet that ships."""

    def run() -> int:
        from service.__main__ import main

        return main(context.args)

    raise typer.Exit(needing("server", run))


def train(context: typer.Context) -> None:
    """Train LeNet on MNIST and export it to ONNX."""

    def run() -> int:
        from training.__main__ import main

        return main(["train", *context.args], prog="featurelens")

    raise typer.Exit(needing("training", run))


def needing(extra: str, run: Callable[[], T]) -> T:
    """Run what needs an extra.

    Raises:
        CommandError: a library of the extra is not installed.
    """
    try:
        return run()
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in _OURS:  # a fault of ours, not of the installation
            raise
        raise CommandError(
            f"this needs {library}, which is not installed: pip install 'featurelens[{extra}]'"
        ) from error
