"""Which of many names somebody may have meant."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Sequence

_LONGEST = 200  # of a name, in the search
_MOST_PAIRS = 40
_MOST_COMPARED = 30


def containing(part: str, names: Sequence[str]) -> list[str]:
    """Return the names that contain a text, whatever the case, the shortest first."""
    part = part[:_LONGEST].casefold()
    found = [name for name in names if part in name.casefold()] if part else []
    return sorted(found, key=len)


def similar(name: str, names: Sequence[str], most: int = 3) -> list[str]:
    """Return the names that are most like a name, the best first.

    difflib compares two long names in milliseconds; so it is asked only about those names that share the most
    pairs of characters with it.
    """
    name = name[:_LONGEST]
    pairs = list(dict.fromkeys(name[at : at + 2] for at in range(len(name) - 1)))[:_MOST_PAIRS]

    def shared(other: str) -> float:
        return sum(pair in other for pair in pairs) / max(len(other), len(name))

    short = dict.fromkeys(other for other in names if len(other) <= _LONGEST)
    candidates = heapq.nlargest(_MOST_COMPARED, short, key=shared)
    return difflib.get_close_matches(name, candidates, n=most)
