"""Start a server, classify the sample digits, draw the feature maps of one, stop the server."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scripts.serving import FEATURELENS, ServerError, server

ROOT = Path(__file__).resolve().parent.parent
PICTURES = sorted(path for path in (ROOT / "samples").glob("*/*") if path.name[0].isdigit())
SHOWN = ROOT / "samples" / "mnist" / "7_test00000.png"
CALL_S = 60


class DemoError(Exception):
    """The demo can't go on; the message says why."""


def classify(address: str, *arguments: str | Path) -> list[dict[str, Any]]:
    """Return what `featurelens classify` answers, as JSON."""
    command = [FEATURELENS, "classify", *arguments, "--server", address, "--output", "json"]
    completed = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=CALL_S, check=False)
    if completed.returncode:
        raise DemoError(f"featurelens classify ended with exit status {completed.returncode}")
    answers: list[dict[str, Any]] = json.loads(completed.stdout)
    return answers


def show(answers: list[dict[str, Any]]) -> int:
    """Print the answers and return how many are wrong."""
    table = Table("picture", "drawn", "answer", "probability", "second", "probability")
    wrong = 0
    for answer in answers:
        path = Path(answer["path"])
        right = answer["label"] == path.name[0]
        wrong += not right
        first, second = ((score["label"], f"{score['probability']:.4f}") for score in answer["top"])
        name = path.relative_to(ROOT / "samples").as_posix()
        table.add_row(name, path.name[0], *first, *second, style=None if right else "bold red")
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    return wrong


def demo(out: Path) -> None:
    """Run the demo, leaving its files in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with server(out / "server.log") as address:
        wrong = show(classify(address, *PICTURES, "--top-k", "2"))
        classify(address, SHOWN, "--layers", "all", "--save-maps", out / "maps")
    overview = next((out / "maps").rglob("*overview.png"))
    print(f"feature maps of {SHOWN.name}: {shutil.copy(overview, out / 'feature-maps.png')}")
    if wrong:
        raise DemoError(f"{wrong} of {len(PICTURES)} digits are wrong")


def main() -> None:
    """Parse the command line, run the demo, exit with its status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for what the demo writes")
    out = parser.parse_args().out
    try:
        demo(out)
    except (DemoError, ServerError, subprocess.TimeoutExpired) as error:
        sys.exit(f"demo: {error}")


if __name__ == "__main__":
    main()
