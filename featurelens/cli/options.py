"""Options that several sub-commands share, each defined once."""

from __future__ import annotations

from typing import Annotated

import typer

from featurelens.channel import DEFAULT_TIMEOUT_S
from featurelens.cli.console import Output

TIMEOUT_S = DEFAULT_TIMEOUT_S

ModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME", help="Name of the model; without it, the only one there is.")
]
VersionOption = Annotated[
    str,
    typer.Option(
        "--model-version",
        metavar="VERSION",
        help="Its version or a label of it; without it, the one labelled stable or the newest.",
    ),
]
TopKOption = Annotated[int, typer.Option("--top-k", min=1, help="How many labels to show for each image.")]
OutputOption = Annotated[Output, typer.Option("--output", help="What to print.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds to wait for an answer.")]
