"""Puts the sub-commands together, and turns what stops one into a line on stderr and an exit status."""

from __future__ import annotations

import sys

import typer

from featurelens import __version__
from featurelens.cli import batch, check, classify, describe, doctor, evaluate, extras, models, token, top
from featurelens.cli.console import CommandError, complain
from featurelens.errors import FeaturelensError

# For commands that hand on what they don't know; and for those that hand on everything, --help included.
_HAND_ON_UNKNOWN = {"allow_extra_args": True, "ignore_unknown_options": True}
_HAND_ON = {**_HAND_ON_UNKNOWN, "help_option_names": []}

app = typer.Typer(
    help="Classify images with an ONNX model that is being served, and look inside it.",
    epilog="Exit status: 0 done; 1 done, but some images failed; 2 could not be done; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(context_settings=_HAND_ON, add_help_option=False)(extras.serve)
app.command(context_settings=_HAND_ON_UNKNOWN)(doctor.doctor)
app.command()(check.check)
app.command(name="import")(check.import_model)
app.command()(classify.classify)
app.add_typer(models.app, name="models")
app.command()(describe.layers)
app.command()(top.top)
app.command()(batch.batch)
app.command(context_settings=_HAND_ON, add_help_option=False)(extras.train)
app.command()(evaluate.evaluate)
app.command()(token.token)


@app.command()
def version() -> None:
    """Print the version of this installation."""
    print(__version__)


def main() -> None:
    """Run the command; what it can't do becomes one line on stderr and exit status 2."""
    try:
        app(prog_name="featurelens")
    except FeaturelensError as error:
        complain(error.message)
    except CommandError as error:
        complain(str(error))
    sys.exit(2)
