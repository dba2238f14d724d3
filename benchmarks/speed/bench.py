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
from benchmarks.speed.load import Load, LoadError, load
from benchmarks.speed.measures import cpu_seconds, rss_mb, tree
from benchmarks.speed.plan import Case, LoopCase, Subject
from benchmarks.speed.processes import Server, first_line, running, serving
from benchmarks.speed.results import Measurement, Results, Row, StartUp

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
    before = environment()
    with ExitStack() as stack:
        served = [case for case in cases if isinstance(case, Case)]
        servers, start_ups = _start_all(stack, served, effort.starts, logs, progress)
        targets = {case.key: _target(stack, case, servers[case.subject.name]) for case in served}
        loops = _start_loops(stack, cases, logs)

        def measure(case: Case | LoopCase) -> Measurement:
            if isinstance(case, LoopCase):
                return loop.measure(loops[: case.processes], case.batch, effort.seconds)
            return targets[case.key].measure(effort.seconds)

        for step, target in enumerate(targets.values()):
            progress(f"warm up {', '.join(target.case.key)}", step, len(targets))
            target.load(_WARM_UP_S)
        rows = _measure_in_turn(cases, measure, effort.rounds, progress)
        for target in targets.values():
            target.checker.check()
        start_ups = [replace(up, rss_after_mb=rss_mb(servers[up.subject].pid)) for up in start_ups]
        checked = sum(target.checker.checked for target in targets.values())
        return Results(before, rows, start_ups, checked)


@dataclass(frozen=True)
class _Target:
    """A case, ready to be measured."""

    case: Case
    server: Server
    checker: Checker

    def load(self, seconds: float) -> Load:
        """Load the server while its answers are checked."""
        with self.checker.checking():
            shape = self.case.workload.shape
            return load(self.server.address, self.case.protocol, self.checker.messages, shape, seconds)

    def measure(self, seconds: float) -> Measurement:
        """Load the server and tell what came of it."""
        checked = self.checker.checked
        cpu_s = cpu_seconds(self.server.pid)
        loaded = self.load(seconds)
        cpu_s = cpu_seconds(self.server.pid) - cpu_s
        calls = len(loaded.milliseconds)
        if calls == 0:
            raise LoadError(
                f"{', '.join(self.case.key)}: no call ended within {seconds} s; take more seconds"
            )
        p50, p99 = np.percentile(loaded.milliseconds, [50, 99]).tolist()
        requests = self.case.protocol.messages
        return Measurement(
            images_per_s=calls * requests * self.case.workload.images / seconds,
            p50_ms=p50,
            p99_ms=p99,
            cpu_ms_per_call=1000 * cpu_s / ((calls + self.checker.checked - checked) * requests),
            calls=calls,
            failed=loaded.failed + loaded.without_answer(self.checker.smallest_call),
        )


def _start_all(
    stack: ExitStack, served: Sequence[Case], starts: int, logs: Path, progress: Progress
) -> tuple[dict[str, Server], list[StartUp]]:
    """Start the servers one after the other, so that none slows another's start."""
    servers: dict[str, Server] = {}
    start_ups: list[StartUp] = []
    subjects = {case.subject.name: case.subject for case in served}
    for step, subject in enumerate(subjects.values()):
        progress(f"start {subject.name}", step, len(subjects))
        servers[subject.name], start_up = _start(stack, subject, starts, logs)
        start_ups.append(start_up)
    return servers, start_ups


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


def _target(stack: ExitStack, case: Case, server: Server) -> _Target:
    """Connect to a server and see that its answers are right."""
    checker = Checker(server.address, case.protocol, case.workload.images, case.workload.layers)
    stack.callback(checker.close)
    checker.check()
    return _Target(case, server, checker)


def _start_loops(stack: ExitStack, cases: Sequence[Case | LoopCase], logs: Path) -> list[Popen[str]]:
    count = max((case.processes for case in cases if isinstance(case, LoopCase)), default=0)
    loops = [stack.enter_context(running(loop.COMMAND, logs / f"loop-{i}.log")) for i in range(count)]
    for i, program in enumerate(loops):
        first_line(program, logs / f"loop-{i}.log")
    return loops


def _measure_in_turn(
    cases: Sequence[Case | LoopCase],
    measure: Callable[[Case | LoopCase], Measurement],
    rounds: int,
    progress: Progress,
) -> list[Row]:
    rows = {case.key: Row(*case.key, case.floor, case.goal) for case in cases}
    steps = rounds * len(cases)
    for number in range(rounds):
        for step, case in enumerate(_turned(cases, number), number * len(cases)):
            progress(f"round {number + 1}: {', '.join(case.key)}", step, steps)
            rows[case.key].rounds.append(measure(case))
    return list(rows.values())


def _turned(cases: Sequence[Case | LoopCase], number: int) -> Iterator[Case | LoopCase]:
    """Yield the cases workload by workload; who is first in a workload changes with the round."""
    for _, group in groupby(cases, key=lambda case: case.key[0]):
        turn = list(group)
        first = number % len(turn)
        yield from turn[first:] + turn[:first]
