"""Results as a table on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from statistics import median

from rich.table import Table

from benchmarks.speed.results import Results, Row, StartUp

_BEGIN, _END = "<!-- begin {name} -->\n", "<!-- end {name} -->"
_LOAD_COLUMNS = ("", "images/s", "from .. to", "p50 ms", "p99 ms", "CPU ms a call", "ratio", "goal", "failed")
_START_COLUMNS = ("", "ready after s", "MB after the start", "MB after the loads", "processes")


def tables(results: Results) -> list[Table]:
    """Return the tables for a terminal."""
    loads = Table(*_LOAD_COLUMNS, title=_title(results))
    for workload, rows in _by_workload(results):
        loads.add_row(f"[bold]{workload}")
        for row in rows:
            style = "bold red" if row.failed else "yellow" if _misses(results, row) else None
            loads.add_row(*_load_cells(results, row), style=style)
        loads.add_section()
    starts = Table(*_START_COLUMNS)
    for start_up in results.start_ups:
        starts.add_row(*_start_cells(start_up))
    return [loads, starts]


def markdown(results: Results) -> str:
    """Return the same tables for a document."""
    lines = [_title(results), ""]
    for workload, rows in _by_workload(results):
        lines += [f"**{workload}**", "", *_header(_LOAD_COLUMNS[:-1])]
        lines += [_line(_load_cells(results, row)[:-1]) for row in rows]
        lines.append("")
    lines += [*_header(_START_COLUMNS), *(_line(_start_cells(start_up)) for start_up in results.start_ups)]
    return "\n".join(lines) + "\n"


def as_json(results: Results) -> str:
    """Return everything that was measured, with each round and the medians."""
    document = asdict(results)
    for entry, row in zip(document["rows"], results.rows, strict=True):
        ratios = results.ratios(row)
        entry["median"] = {
            "images_per_s": row.images_per_s,
            "p50_ms": row.p50_ms,
            "p99_ms": row.p99_ms,
            "cpu_ms_per_call": row.cpu_ms_per_call,
            "ratio": median(ratios) if ratios else None,
        }
    return json.dumps(document, indent=1)


def insert(document: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of that name in a document.

    Raises:
        ValueError: it has no such marks.
    """
    begin, end = _BEGIN.format(name=name), _END.format(name=name)
    before, found_begin, rest = document.read_text().partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{document} has no {begin.strip()} followed by {end}")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _title(results: Results) -> str:
    machine = results.environment
    return (
        f"{machine['date']}, {machine['cpus']} CPUs ({machine['cpu']}) shared by servers and load, "
        f"Python {machine['python']}, ONNX Runtime {machine['onnxruntime']}, grpcio {machine['grpcio']}, "
        f"load average before {machine['load_average']}, "
        f"{max((len(row.rounds) for row in results.rows), default=0)} rounds, "
        f"{results.checked:,} answers checked"
    )


def _by_workload(results: Results) -> Iterator[tuple[str, list[Row]]]:
    for workload, rows in groupby(results.rows, key=lambda row: row.workload):
        yield workload, list(rows)


def _load_cells(results: Results, row: Row) -> tuple[str, ...]:
    cpu = row.cpu_ms_per_call
    ratios = results.ratios(row)
    return (
        row.subject,
        f"{row.images_per_s:,.0f}",
        f"{min(row.rates):,.0f} .. {max(row.rates):,.0f}",
        f"{row.p50_ms:.2f}",
        f"{row.p99_ms:.2f}",
        "" if cpu is None else f"{cpu:.3f}",
        f"{median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})" if ratios else "",
        "" if row.goal is None else f"{row.goal}",
        f"{row.failed or ''}",
    )


def _misses(results: Results, row: Row) -> bool:
    ratios = results.ratios(row)
    return bool(row.goal and ratios and median(ratios) < row.goal)


def _start_cells(start_up: StartUp) -> tuple[str, ...]:
    return (
        start_up.subject,
        f"{median(start_up.ready_s):.2f}",
        f"{start_up.rss_mb:.0f}",
        f"{start_up.rss_after_mb:.0f}",
        f"{start_up.processes}",
    )


def _header(columns: Sequence[str]) -> list[str]:
    return [_line(columns), "|---" + "|---:" * (len(columns) - 1) + "|"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
