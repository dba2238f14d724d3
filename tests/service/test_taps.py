from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.taps import TapCounts, TapSessions

EVERYTHING = frozenset("abcdefgh")


class Builder:
    """Builds sessions that are just their names, and notes what was built."""

    def __init__(self, *, unbuildable: str = "") -> None:
        self.built: list[str] = []
        self.unbuildable = unbuildable
        self.wait: Callable[[], None] = lambda: None

    def __call__(self, layers: frozenset[str]) -> str:
        name = "".join(sorted(layers))
        self.built.append(name)
        self.wait()
        if self.unbuildable and self.unbuildable in layers:
            raise ValueError(f"can't build {name}")
        return name


def test_a_set_is_built_once_and_then_found() -> None:
    build = Builder()
    taps = TapSessions(build, EVERYTHING)
    assert [taps.get(frozenset("ab")), taps.get(frozenset("ba")), taps.get(frozenset("c"))] == [
        "ab",
        "ab",
        "c",
    ]
    assert build.built == ["ab", "c"]
    assert taps.counts() == TapCounts(hits=1, misses=2, evictions=0, live=2)


def test_the_least_recently_used_is_dropped() -> None:
    build = Builder()
    taps = TapSessions(build, EVERYTHING, capacity=2)
    for layers in ("a", "b", "a", "c", "a", "b"):
        taps.get(frozenset(layers))
    assert build.built == ["a", "b", "c", "b"]
    assert taps.counts() == TapCounts(hits=2, misses=4, evictions=2, live=2)


def wait_for_hits(taps: TapSessions[str], hits: int) -> Callable[[], None]:
    """Keep a build going until this many threads wait for it."""

    def wait() -> None:
        while taps.counts().hits < hits:
            os.sched_yield()

    return wait


def test_threads_that_ask_together_share_one_build() -> None:
    build = Builder()
    taps = TapSessions(build, EVERYTHING)
    build.wait = wait_for_hits(taps, 7)
    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(taps.get, [frozenset("ab")] * 8))
    assert sessions == ["ab"] * 8
    assert build.built == ["ab"]
    assert taps.counts() == TapCounts(hits=7, misses=1, evictions=0, live=1)


def test_threads_that_ask_together_share_a_failure_which_is_not_kept() -> None:
    build = Builder(unbuildable="b")
    taps = TapSessions(build, EVERYTHING)
    build.wait = wait_for_hits(taps, 3)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(taps.get, frozenset("ab")) for _ in range(4)]
    assert [str(future.exception()) for future in asked] == ["can't build ab"] * 4
    assert taps.counts() == TapCounts(hits=3, misses=1, evictions=0, live=0)
    build.unbuildable = ""
    assert taps.get(frozenset("ab")) == "ab"
    assert build.built == ["ab", "ab"]


def test_after_many_builds_one_session_for_all_layers_serves_new_sets() -> None:
    build = Builder()
    taps = TapSessions(build, EVERYTHING, capacity=4, max_builds=2)
    assert [taps.get(frozenset(s)) for s in ("a", "b", "c", "d", "a")] == [
        "a",
        "b",
        "abcdefgh",
        "abcdefgh",
        "a",
    ]
    assert build.built == ["a", "b", "abcdefgh"]


def test_failed_builds_do_not_bring_on_the_session_for_all_layers() -> None:
    build = Builder(unbuildable="b")
    taps = TapSessions(build, EVERYTHING, max_builds=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="can't build b"):
            taps.get(frozenset("b"))
    assert taps.get(frozenset("a")) == "a"


def test_goes_back_to_single_sets_if_all_layers_together_can_not_be_built() -> None:
    build = Builder(unbuildable="h")
    taps = TapSessions(build, EVERYTHING, max_builds=1)
    taps.get(frozenset("a"))
    with pytest.raises(ValueError, match="can't build abcdefgh"):
        taps.get(frozenset("c"))
    assert taps.get(frozenset("c")) == "c"
