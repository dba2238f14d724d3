"""The file that a batch writes: CSV or JSON Lines, whole or not there."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from featurelens.cli.console import CommandError, as_json, finite

COLUMNS = ("path", "label", "probability", "top", "error", "warning")
Row = Mapping[str, Any]


def _csv_writer(file: IO[str]) -> Callable[[Row], object]:
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    # A missing value is an empty cell; `top` is JSON text, for CSV has no lists.
    return lambda row: writer.writerow(
        {**{key: finite(cell) for key, cell in row.items()}, "top": as_json(row["top"], ascii_only=False)}
    )


def _json_writer(file: IO[str]) -> Callable[[Row], object]:
    return lambda row: file.write(as_json(row, ascii_only=False) + "\n")


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


_WRITERS = {".csv": _csv_writer, ".jsonl": _json_writer}


class RowFile:
    """Rows of a batch, written to FILE.partial, which becomes FILE when all of them are there.

    Text is UTF-8; bytes of a path that are no UTF-8 are written as \\udcXX, which JSON reads back exactly.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in _WRITERS:
            raise CommandError(
                f"the output is {path.name}, expected a name that ends in {' or '.join(_WRITERS)}"
            )
        if path.is_dir():
            raise CommandError(f"can't write {path}: it is a folder")
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")

    def __enter__(self) -> Self:
        try:
            self._file = self.partial.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        except OSError as error:
            raise self._refusal(error) from error
        self._write = _WRITERS[self.path.suffix.lower()](self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
            if kind is None:
                self.partial.replace(self.path)
        except OSError as failure:
            raise self._refusal(failure) from failure

    def write(self, row: Row) -> None:
        """Write one row, visible to others at once.

        Raises:
            CommandError: the file can't be written.
        """
        try:
            self._write(row)
            self._file.flush()
        except OSError as error:
            raise self._refusal(error) from error

    def count(self) -> int:
        """Count the rows that are in the partial file: what interrupted a run may have come at any place."""
        with suppress(OSError):
            self._file.flush()
            with self.partial.open(encoding="utf-8", newline="") as file:
                return sum(1 for _ in (csv.DictReader(file) if _is_csv(self.path) else file))
        return 0

    def _refusal(self, error: OSError) -> CommandError:
        return CommandError(f"can't write {self.path}: {error.strerror or error}")
