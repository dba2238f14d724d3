"""What a run of the suite found, against the exceptions that are known."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.onnx_suite import direct, served
from tests.onnx_suite.cases import Case
from tests.onnx_suite.served import Outcome

EXCEPTIONS = Path(__file__).with_name("exceptions.toml")


@dataclass(frozen=True)
class Reason:
    """Why some cases can't pass: in our words, as a pattern of the server's, and which they are."""

    reason: str
    message: str
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """The figures of a run; `wrong` lists what contradicts the known exceptions."""

    cases: int
    passed_alone: int
    passed_served: int
    exceptions: dict[str, int]
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.cases:6} cases",
                f"{self.passed_alone:6} passed in ONNX Runtime alone",
                f"{self.passed_served:6} of these passed through gRPC",
                f"{sum(self.exceptions.values()):6} exceptions",
                *(f"{count:12} {reason}" for reason, count in self.exceptions.items()),
                *(f"WRONG {line}" for line in self.wrong),
            ]
        )


def known_exceptions() -> list[Reason]:
    """Read the exceptions that are committed."""
    table: dict[str, Any] = tomllib.loads(EXCEPTIONS.read_text())
    return [Reason(entry["reason"], entry["message"], tuple(entry["cases"])) for entry in table["exception"]]


def run(cases: Sequence[Case], transport: str = "auto") -> Report:
    """Run cases in ONNX Runtime, and those that pass through the server too."""
    passed = [case for case in cases if direct.passes(case)]
    return judge(cases, list(served.run(passed, transport)), known_exceptions())


def judge(cases: Sequence[Case], outcomes: Sequence[Outcome], known: Sequence[Reason]) -> Report:
    """Set what came out against what is known; a known exception that isn't one any more is wrong too."""
    reasons = {case: reason for reason in known for case in reason.cases}
    failed = {outcome.case.id: outcome.problem for outcome in outcomes if outcome.problem}
    counts = {reason.reason: sum(case in failed for case in reason.cases) for reason in known}
    wrong = [
        f"{case}: {problem}"
        for case, problem in failed.items()
        if case not in reasons or not re.search(reasons[case].message, problem)
    ]
    ran = {case.id for case in cases}
    wrong += [
        f"{case} is a known exception and is none" for case in reasons if case in ran and case not in failed
    ]
    return Report(
        cases=len(cases),
        passed_alone=len(outcomes),
        passed_served=len(outcomes) - len(failed),
        exceptions={reason: count for reason, count in counts.items() if count},
        wrong=tuple(wrong),
    )
