"""Many swaps in a row leave nothing behind. `make test-long` does a thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import swaps
from tests.e2e.footprint import Footprint


@pytest.mark.parametrize("workers", ["1", "2"])
def test_swaps_leave_nothing_behind(tmp_path: Path, workers: str) -> None:
    before, after = swaps.run(tmp_path, 20, "--trial-timeout-s", "0", "--workers", workers)
    assert swaps.leaks(before, after) == ""


def test_what_trials_take_is_given_back(tmp_path: Path) -> None:
    before, after = swaps.run(tmp_path, 5)
    assert swaps.leaks(before, after) == ""


@pytest.mark.parametrize(
    ("after", "grown"),
    [
        (Footprint(100.0, 10, 5), ""),
        (Footprint(180.0, 10, 5), "memory"),
        (Footprint(100.0, 11, 5), "descriptors"),
        (Footprint(100.0, 10, 14), "threads"),
    ],
)
def test_a_leak_is_noticed(after: Footprint, grown: str) -> None:
    assert swaps.leaks(Footprint(100.0, 10, 5), after) == grown
