"""What was measured, round by round, and what it says: medians, spreads, and ratios within a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.speed.environment import Environment

Key = tuple[str, str]
"""Workload and subject: where a row stands in the tables."""


@dataclass(frozen=True)
class Measurement:
    """One load."""

    images_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_call: float | None = None
    """Of the server and all its processes; None where nothing is called."""
    calls: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Row:
    """All rounds of one workload on one subject."""

    workload: str
    subject: str
    floor: Key | None = None
    """What its ratio is to."""
    goal: float | None = None
    """The least that the ratio should be."""
    rounds: list[Measurement] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """Where it stands."""
        return (self.workload, self.subject)

    @property
    def failed(self) -> int:
        """Calls that came back without an answer, over all rounds."""
        return sum(measured.failed for measured in self.rounds)

    @property
    def rates(self) -> list[float]:
        """Images a second, round by round."""
        return [measured.images_per_s for measured in self.rounds]

    @property
    def images_per_s(self) -> float:
        """The median."""
        return median(self.rates)

    @property
    def p50_ms(self) -> float:
        """The median of the rounds' medians."""
        return median(measured.p50_ms for measured in self.rounds)

    @property
    def p99_ms(self) -> float:
        """The median of the rounds' 99th percentiles."""
        return median(measured.p99_ms for measured in self.rounds)

    @property
    def cpu_ms_per_call(self) -> float | None:
        """The median; as many seconds for 1,000 calls."""
        times = [m.cpu_ms_per_call for m in self.rounds if m.cpu_ms_per_call is not None]
        return median(times) if times else None


@dataclass(frozen=True)
class StartUp:
    """What a server costs before its first call."""

    subject: str
    ready_s: list[float]
    """From the start of the process to its ready line, start by start."""
    rss_mb: float
    """Resident memory after the start, all processes together."""
    rss_after_mb: float
    """The same after all loads."""
    processes: int


@dataclass(frozen=True)
class Results:
    """A whole run."""

    environment: Environment
    rows: Sequence[Row]
    start_ups: Sequence[StartUp]
    checked: int
    """Answers that were compared with ONNX Runtime's."""

    @property
    def failed(self) -> int:
        """Calls that came back without an answer."""
        return sum(row.failed for row in self.rows)

    def ratios(self, row: Row) -> list[float]:
        """Return a row's rate by its floor's, round by round; nothing if the floor was not measured."""
        floor = next((other for other in self.rows if other.key == row.floor), None)
        if floor is None:
            return []
        return [own / under for own, under in zip(row.rates, floor.rates, strict=True)]
