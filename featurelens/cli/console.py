"""How the command talks: tables, progress and complaints, for people on a terminal and for pipes.

rich is loaded when something is drawn with it: `featurelens serve` lives long and needs none of it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table


class CommandError(Exception):
    """The command can't be done as it was given; the message says why and is for the one who typed it."""


class Output(StrEnum):
    """What a command prints."""

    TABLE = "table"
    JSON = "json"


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    marks: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> None:
    """Print rows as a table; in a pipe as plain columns, parted by two spaces or more.

    Args:
        columns: Their headings.
        rows: Their cells.
        marks: Cells that look different on a terminal, and how: a text and its style.
    """
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        lines = [[printable(cell) for cell in row] for row in rows]
        return _print_plain([[name.upper() for name in columns], *lines])
    return console.print(make_table(columns, rows, marks))


def make_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    marks: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> Table:
    """Make a table for a terminal; see `print_table`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    for row in rows:
        cells = [printable(cell) for cell in row]
        table.add_row(*(Text(*marks.get(cell, (cell, ""))) for cell in cells))
    return table


_NUMBERS = {
    *("probability", "parameters"),
    *("calls/s", "p50", "p99", "in progress"),
    *("requests/s", "items/s", "items/run", "queue p50", "queue p99", "waiting"),
}


def _print_plain(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_json(value: object) -> None:
    """Print a value as JSON in ASCII, which any terminal and any file name survives."""
    print(as_json(value, indent=2))


def as_json(value: object, *, indent: int | None = None, ascii_only: bool = True) -> str:
    """Write a value as JSON; NaN and infinities, which JSON has no numbers for, as null."""
    return json.dumps(finite(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def finite(value: object) -> object:
    """Return the value with None in place of every NaN and infinity in it."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: finite(each) for key, each in value.items()}
        case list() | tuple():
            return [finite(each) for each in value]
        case _:
            return value


def printable(text: str) -> str:
    """Return the text on one line and without control codes, bytes that are no UTF-8 as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def complain(message: str) -> None:
    """Say on stderr what went wrong."""
    print(f"featurelens: {printable(message)}", file=sys.stderr)


def progress(unit: str) -> Progress:
    """Return a progress bar on stderr, for terminals only: done of all, a free `note`, the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def rounded(probability: float) -> float:
    """Return a float32 probability with the digits that it has, for JSON and CSV."""
    return float(f"{probability:.7g}")
