"""Runs a plan: all servers up, loaded in turn, round after round, their answers checked all along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from subprocess import Popen

import numpy as np

from benchmarks.speed import loop
from benchmarks.speed.checks import Checker, answers
from benchmarks.speed.environment import environment
from benchmarks.speed.load import LoadError, load
from benchmarks.speed.measures import cpu_seconds, rss_mb, tree
from benchmarks.speed.plan import Case, LoopCase, Subject
from benchmarks.speed.processes import Server, first_line, running, serving
from benchmarks.speed.results import Measurement, Results, Row, StartUp

Measure = Callable[[Case | LoopCase, float], Measurement]
"""Loads for so many seconds."""
Progress = Callable[[str, int, int], None]
"""Is told what comes next, how many steps are done and how many there are."""

_WARM_UP_S = 0.2


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float
    """Of each load."""
    starts: int
    """Of each server; the last one is measured on."""


def bench(cases: Sequence[Case | LoopCase], effort: Effort, logs: Path, progress: Progress) -> Results:
    """Measure all cases.

    Raises:
        ProcessError: a server does not start.
        LoadError: h2load can't make its load.
        WrongAnswerError: a server's answer is wrong.
    """
    with ExitStack() as stack:
        served = [case for case in cases if isinstance(case, Case)]
        subjects = list({case.subject.name: case.subject for case in served}.values())
        servers: dict[str, Server] = {}
        start_ups: list[StartUp] = []
        for step, subject in enumerate(subjects):
            progress(f"start {subject.name}", step, len(subjects))
            servers[subject.name], start_up = _start(stack, subject, effort.starts, logs)
            start_ups.append(start_up)
        checkers = {case.key: _checker(stack, case, servers[case.subject.name]) for case in served}
        loops = _start_loops(stack, cases, logs)

        def measure(case: Case | LoopCase, seconds: float) -> Measurement:
            if isinstance(case, LoopCase):
                return loop.measure(loops[: case.processes], case.batch, seconds)
            return _measure(case, servers[case.subject.name], checkers[case.key], seconds)

        _warm_up(cases, measure, progress)
        rows = _measure_in_turn(cases, measure, effort, progress)
        for checker in checkers.values():
            checker.check()
        start_ups = [replace(up, rss_after_mb=rss_mb(servers[up.subject].pid)) for up in start_ups]
        return Results(environment(), rows, start_ups, sum(checker.checked for checker in checkers.values()))


def _start(stack: ExitStack, subject: Subject, starts: int, logs: Path) -> tuple[Server, StartUp]:
    """Start a server so many times; the last one stays."""
    start = partial(
        serving,
        subject.command,
        logs / f"{subject.name.replace(' ', '-')}.log",
        partial(answers, subject.unary[0]),
    )
    ready_s = []
    for _ in range(starts - 1):
        with start() as server:
            ready_s.append(server.ready_s)
    server = stack.enter_context(start())
    rss = rss_mb(server.pid)
    return server, StartUp(subject.name, [*ready_s, server.ready_s], rss, rss, len(tree(server.pid)))


def _checker(stack: ExitStack, case: Case, server: Server) -> Checker:
    """Connect to a server and see that its answers are right."""
    checker = Checker(server.address, case.protocol, case.workload.images, case.workload.layers)
    stack.callback(checker.close)
    checker.check()
    return checker


def _start_loops(stack: ExitStack, cases: Sequence[Case | LoopCase], logs: Path) -> list[Popen[str]]:
    count = max((case.processes for case in cases if isinstance(case, LoopCase)), default=0)
    loops = [stack.enter_context(running(loop.COMMAND, logs / f"loop-{i}.log")) for i in range(count)]
    for i, program in enumerate(loops):
        first_line(program, logs / f"loop-{i}.log")
    return loops


def _warm_up(
    cases: Sequence[Case | LoopCase],
    measure: Measure,
    progress: Progress,
) -> None:
    for step, case in enumerate(cases):
        progress(f"warm up {', '.join(case.key)}", step, len(cases))
        measure(case, _WARM_UP_S)


def _measure_in_turn(
    cases: Sequence[Case | LoopCase],
    measure: Measure,
    effort: Effort,
    progress: Progress,
) -> list[Row]:
    rows = {case.key: Row(*case.key, case.floor, case.goal) for case in cases}
    steps = effort.rounds * len(cases)
    for number in range(effort.rounds):
        for step, case in enumerate(_turned(cases, number), number * len(cases)):
            progress(f"round {number + 1}: {', '.join(case.key)}", step, steps)
            rows[case.key].rounds.append(measure(case, effort.seconds))
    return list(rows.values())


def _turned(cases: Sequence[Case | LoopCase], number: int) -> Iterator[Case | LoopCase]:
    """Yield the cases workload by workload; who is first in a workload changes with the round."""
    for _, group in groupby(cases, key=lambda case: case.key[0]):
        turn = list(group)
        first = number % len(turn)
        yield from turn[first:] + turn[:first]


def _measure(case: Case, server: Server, checker: Checker, seconds: float) -> Measurement:
    """Load a server while its answers are checked."""
    checked = checker.checked
    cpu_s = cpu_seconds(server.pid)
    with checker.checking():
        loaded = load(server.address, case.protocol, checker.messages, case.workload.shape, seconds)
    cpu_s = cpu_seconds(server.pid) - cpu_s
    calls = len(loaded.milliseconds)
    if calls == 0:
        raise LoadError(f"{', '.join(case.key)}: no call ended within {seconds} s")
    p50, p99 = np.percentile(loaded.milliseconds, [50, 99]).tolist()
    requests = case.protocol.messages
    smallest = checker.smallest_answer + case.protocol.frame_bytes
    return Measurement(
        images_per_s=calls * requests * case.workload.images / seconds,
        p50_ms=p50,
        p99_ms=p99,
        cpu_ms_per_call=1000 * cpu_s / ((calls + checker.checked - checked) * requests),
        calls=calls,
        failed=loaded.failed + loaded.without_answer(smallest * requests),
    )
