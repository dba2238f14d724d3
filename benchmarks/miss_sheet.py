"""Score `featurelens batch` on drawn digits, and show what it missed.

`python -m benchmarks.miss_sheet RESULTS.csv --sheet misses.png` takes the truth from the files' names
(0007_label-3_chalk.jpg), prints totals by scene, and exits 0 if at least 90 % were right, else 1.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from service.errors import InvalidImageError
from service.framing import frame_ink
from service.images import decode

ENOUGH = 0.9
_NAME = re.compile(r"label-(?P<truth>\d)_(?P<scene>\w+)\.")
_CELL, _TEXT, _COLUMNS = 112, 28, 10


@dataclass(frozen=True)
class Row:
    """One picture, and what became of it."""

    path: Path
    scene: str
    truth: str
    guess: str
    probability: str
    error: str

    @property
    def right(self) -> bool:
        """Whether the label is the one that was drawn; an error is a miss."""
        return not self.error and self.guess == self.truth


def read(results: Path) -> list[Row]:
    """Read a CSV with the columns path, label, probability and error.

    Raises:
        ValueError: it has no rows, or a file's name doesn't tell its label.
    """
    with results.open(newline="", encoding="utf-8") as lines:
        rows = [_row(record) for record in csv.DictReader(lines)]
    if not rows:
        raise ValueError(f"{results} has no rows")
    return rows


def _row(record: dict[str, str]) -> Row:
    path = Path(record["path"])
    found = _NAME.search(path.name)
    if found is None:
        raise ValueError(f"{path.name}: expected a name such as 0007_label-3_chalk.jpg")
    truth, scene = found["truth"], found["scene"]
    return Row(path, scene, truth, record["label"], record["probability"], record.get("error") or "")


def totals(rows: list[Row]) -> str:
    """Return a table of how many were right, by scene and in all."""
    count, right = Counter(row.scene for row in rows), Counter(row.scene for row in rows if row.right)
    lines = [f"{scene:<12} {right[scene]:>4} of {count[scene]:>4}" for scene in sorted(count)]
    share = sum(right.values()) / len(rows)
    return "\n".join([*lines, f"{'all':<12} {sum(right.values()):>4} of {len(rows):>4}, {share:.1%} right"])


def sheet(misses: list[Row]) -> Image.Image:
    """Draw each miss: the picture, what preprocessing makes of it, truth, guess and probability."""
    columns, height = min(_COLUMNS, max(1, len(misses))), 2 * _CELL + _TEXT
    lines = -(-max(1, len(misses)) // columns)
    canvas = Image.new("RGB", (columns * _CELL, lines * height), "dimgray")
    for number, row in enumerate(misses):
        canvas.paste(_cell(row), (number % columns * _CELL, number // columns * height))
    return canvas


def _cell(row: Row) -> Image.Image:
    cell = Image.new("RGB", (_CELL, 2 * _CELL + _TEXT), "dimgray")
    try:
        pixels = decode(row.path.read_bytes())
    except (OSError, InvalidImageError):
        pass  # the row's error says why there is nothing to see
    else:
        thumbnail = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
        thumbnail.thumbnail((_CELL - 4, _CELL - 4))
        cell.paste(thumbnail, (2, 2))
        framed = Image.fromarray(np.uint8(frame_ink(pixels, 32, 32, 20) * 255))
        cell.paste(framed.resize((_CELL - 4, _CELL - 4), Image.Resampling.NEAREST), (2, _CELL))
    verdict = row.error[:18] or f"{row.truth} taken for {row.guess}"
    ImageDraw.Draw(cell).text(
        (2, 2 * _CELL - 2), f"{verdict}\n{row.scene} {row.probability[:5]}", fill="white"
    )
    return cell


def main(arguments: list[str] | None = None) -> int:
    """Print the totals, write the sheet, return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="CSV that featurelens batch wrote")
    parser.add_argument("--sheet", type=Path, help="PNG to write the misses to")
    options = parser.parse_args(arguments)
    rows = read(options.results)
    misses = [row for row in rows if not row.right]
    print(totals(rows))
    if options.sheet:
        sheet(misses).save(options.sheet)
        print(f"{len(misses)} misses in {options.sheet}")
    return 0 if len(rows) - len(misses) >= ENOUGH * len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
