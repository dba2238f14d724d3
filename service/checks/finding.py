"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a finding means."""

    GOOD = "good"
    NOTICE = "notice"
    """The server runs, and not as it could."""
    BAD = "bad"
    """The server doesn't start, or doesn't do what the settings say."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        check: What was looked at.
        verdict: What that means.
        found: What is there.
        advice: What to do; "" if it is good.
    """

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


def good(check: str, found: str) -> Finding:
    """Make a finding that needs nobody's attention."""
    return Finding(check, Verdict.GOOD, found)


def notice(check: str, found: str, advice: str) -> Finding:
    """Make a finding that is worth knowing."""
    return Finding(check, Verdict.NOTICE, found, advice)


def bad(check: str, found: str, advice: str) -> Finding:
    """Make a finding that has to be changed."""
    return Finding(check, Verdict.BAD, found, advice)
