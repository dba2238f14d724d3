"""The record of settings that were compared on held-out training images, kept beside this module."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.settings import flat, flatten

if TYPE_CHECKING:
    from training.settings import Settings

RECORD = Path(__file__).with_name("selection.json")


def read_record(path: Path = RECORD) -> list[dict[str, Any]]:
    """Return a row for each run: its `settings` and its `held_out_error_percent` after the last epoch."""
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return rows


def append_to_record(settings: Settings, held_out_error_percent: float, path: Path) -> None:
    """Add one row."""
    row = {"settings": asdict(settings), "held_out_error_percent": held_out_error_percent}
    lines = [json.dumps(row) for row in [*read_record(path), row]]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def difference(settings: dict[str, Any], base: Settings) -> str:
    """Say in which settings a row differs from `base`, leaving out what all comparisons have in common."""
    ours, theirs = flat(base), flatten(settings)
    changed = [
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float | int) else f"{name} {value}"
        for name, value in theirs.items()
        if value != ours[name] and name not in ("epochs", "held_out")
    ]
    return ", ".join(changed) or "as shipped"
