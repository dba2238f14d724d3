"""`featurelens doctor`: what this machine offers a server, and what the settings make of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from featurelens.cli.console import print_json, print_table
from featurelens.cli.extras import needing

MARKS = {"good": ("✓ good", "green"), "notice": ("! notice", "yellow"), "bad": ("✗ bad", "bold red")}


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check what `featurelens serve` needs, and say what to do; takes all its flags too.

    Exit status: 1 if anything is bad.
    """

    def run() -> list[dict[str, str]]:
        from service.doctor import examine

        return [asdict(finding) for finding in examine(context.args)]

    findings = needing("server", run)
    if as_json:
        print_json(findings)
    else:
        rows = [[f["check"], f["verdict"], f["found"], f["advice"]] for f in findings]
        print_table(["check", "", "found", "what to do"], rows, MARKS)
    raise typer.Exit(int(any(finding["verdict"] == "bad" for finding in findings)))
