"""Measure featurelens against what limits it, all in one run: `python -m benchmarks.speed`.

Servers and load run on this machine, on 127.0.0.1 only. Exits 1 if calls failed, an answer was wrong, or a
server did not start.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.speed.bench import Effort, bench
from benchmarks.speed.chart import draw
from benchmarks.speed.load import LoadError, h2load
from benchmarks.speed.plan import Case, LoopCase, everything, operations, with_peers
from benchmarks.speed.processes import ProcessError
from benchmarks.speed.reference import WrongAnswerError
from benchmarks.speed.report import as_json, insert, markdown, tables
from benchmarks.speed.results import Results

_FULL = Effort(rounds=5, seconds=1.0, starts=3)
_QUICK = Effort(rounds=1, seconds=0.2, starts=1)
_TABLE_COLUMNS = 140  # where the output is no terminal


_PLANS: Mapping[str, tuple[str, Callable[[], list[Case | LoopCase]]]] = {
    "all": ("bench", everything),
    "peers": ("bench-peers", with_peers),
    "operations": ("bench-operations", operations),
}
"""What can be measured: the name of its results, and its rows."""


def selected(cases: Sequence[Case | LoopCase], only: Sequence[str]) -> list[Case | LoopCase]:
    """Return the cases whose row has all words of one of the texts in `only`; all if there are none."""
    wanted = [_words(text) for text in only] or [set()]
    return [case for case in cases if any(words <= _words(" ".join(case.key)) for words in wanted)]


def write(results: Results, out: Path) -> None:
    """Write JSON, Markdown and the chart."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(as_json(results))
    (out / "results.md").write_text(markdown(results))
    draw(results, out / "results.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write; return the exit status."""
    arguments = _parse(argv)
    name, plan = _PLANS[arguments.what]
    out = arguments.out or Path("out", name)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that servers are stopped
    console = Console(width=None if sys.stdout.isatty() else _TABLE_COLUMNS)
    try:
        h2load()
        cases = selected(plan(), arguments.only)
        results = _with_progress(cases, _effort(arguments), out, console)
    except (LoadError, ProcessError, WrongAnswerError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    write(results, out)
    if arguments.into:
        insert(arguments.into, name, markdown(results))
    console.print(*tables(results))
    console.print(f"{out}/results.json, results.md, results.png", highlight=False)
    if results.failed:
        print(f"{name}: {results.failed} calls came back without an answer", file=sys.stderr)
    return 1 if results.failed else 0


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w.]+", text.lower()))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--rounds", type=int, help=f"default {_FULL.rounds}")
    parser.add_argument("--seconds", type=float, help=f"of each load; default {_FULL.seconds}")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORDS", help='rows with all these words: "8x4 native"'
    )
    parser.add_argument(
        "--peers", dest="what", action="store_const", const="peers", help="measure other servers too"
    )
    parser.add_argument(
        "--operations",
        dest="what",
        action="store_const",
        const="operations",
        help="measure what metrics, logs and tokens cost",
    )
    parser.set_defaults(what="all")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    parser.add_argument("--out", type=Path, help="folder for results; default out/bench or out/bench-peers")
    parser.add_argument("--into", type=Path, help="document to put the tables into, between its marks")
    return parser.parse_args(argv)


def _effort(arguments: argparse.Namespace) -> Effort:
    default = _QUICK if arguments.quick else _FULL
    return Effort(arguments.rounds or default.rounds, arguments.seconds or default.seconds, default.starts)


def _with_progress(chosen: list[Case | LoopCase], effort: Effort, out: Path, console: Console) -> Results:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(what: str, step: int, steps: int) -> None:
            bar.update(task, description=what, completed=step, total=steps)

        return bench(chosen, effort, out / "logs", show)


if __name__ == "__main__":
    sys.exit(main())
