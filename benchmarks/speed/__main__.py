"""Measure featurelens against what limits it, all in one run: `python -m benchmarks.speed`.

Servers and load run on this machine, on 127.0.0.1 only. Exits 1 if calls failed, an answer was wrong, or a
server did not start.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.speed.bench import Effort, bench
from benchmarks.speed.chart import draw
from benchmarks.speed.load import LoadError, h2load
from benchmarks.speed.plan import BARE, LOOPS, OURS, Case, LoopCase, cases
from benchmarks.speed.processes import ProcessError
from benchmarks.speed.reference import WrongAnswerError
from benchmarks.speed.report import as_json, insert, markdown, tables
from benchmarks.speed.results import Results

_FULL = Effort(rounds=5, seconds=1.0, starts=3)
_QUICK = Effort(rounds=1, seconds=0.2, starts=1)
_TABLE_COLUMNS = 140  # where the output is no terminal


def selected(only: Sequence[str]) -> list[Case | LoopCase]:
    """Return the cases whose row has all words of one of the texts in `only`; all if there are none."""
    everything: list[Case | LoopCase] = [*LOOPS, *cases([*BARE, *OURS])]
    if not only:
        return everything
    return [
        case
        for case in everything
        if any(all(word in " ".join(case.key) for word in text.split()) for text in only)
    ]


def write(results: Results, out: Path, into: Path | None) -> None:
    """Write JSON, Markdown and the chart, and the Markdown into a document."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(as_json(results))
    (out / "results.md").write_text(markdown(results))
    draw(results, out / "results.png")
    if into:
        insert(into, "make bench", markdown(results))


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write; return the exit status."""
    arguments = _parse(argv)
    default = _QUICK if arguments.quick else _FULL
    effort = Effort(arguments.rounds or default.rounds, arguments.seconds or default.seconds, default.starts)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that servers are stopped
    console = Console(width=None if sys.stdout.isatty() else _TABLE_COLUMNS)
    try:
        h2load()
        results = _with_progress(selected(arguments.only), effort, arguments.out, console)
    except (LoadError, ProcessError, WrongAnswerError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    write(results, arguments.out, arguments.into)
    console.print(*tables(results))
    console.print(f"{arguments.out}/results.json, results.md, results.png", highlight=False)
    if results.failed:
        print(f"bench: {results.failed} calls came back without an answer", file=sys.stderr)
    return 1 if results.failed else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--rounds", type=int, help=f"default {_FULL.rounds}")
    parser.add_argument("--seconds", type=float, help=f"of each load; default {_FULL.seconds}")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORDS", help='rows with all these words: "8x4 native"'
    )
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder; default %(default)s")
    parser.add_argument("--into", type=Path, help="document to put the tables into, between its marks")
    return parser.parse_args(argv)


def _with_progress(chosen: list[Case | LoopCase], effort: Effort, out: Path, console: Console) -> Results:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(what: str, step: int, steps: int) -> None:
            bar.update(task, description=what, completed=step, total=steps)

        return bench(chosen, effort, out / "logs", show)


if __name__ == "__main__":
    sys.exit(main())
