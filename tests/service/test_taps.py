from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.build_time import BuildTime
from service.errors import OverloadedError
from service.tap_memory import TapMemory
from service.taps import TapCounts, TapSessions
from tests.service.test_build_time import Clock


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


def ask(taps: TapSessions[str], *sets: str, preload: bool = False) -> list[str]:
    return [taps.get(frozenset(layers), preload=preload) for layers in sets]


def test_a_set_is_built_once_and_then_found() -> None:
    build = Builder()
    taps = TapSessions(build)
    assert ask(taps, "ab", "ba", "c") == ["ab", "ab", "c"]
    assert build.built == ["ab", "c"]
    assert taps.counts() == TapCounts(hits=1, misses=2, evictions=0, live=2)


def test_a_set_is_served_by_its_own_session_however_many_there_were() -> None:
    build = Builder()
    taps = TapSessions(build)
    sets = [f"{a}{b}" for a in "abcdefgh" for b in "ijklmnop"]
    assert ask(taps, *sets, *sets) == sets * 2


def test_the_least_recently_used_is_dropped() -> None:
    build = Builder()
    taps = TapSessions(build, capacity=2)
    ask(taps, "a", "b", "a", "c", "a", "b")
    assert build.built == ["a", "b", "c", "b"]
    assert taps.counts() == TapCounts(hits=2, misses=4, evictions=2, live=2)


def test_of_all_models_together_the_least_recently_used_is_dropped() -> None:
    memory = TapMemory(25)
    one, other = Builder(), Builder()
    small, large = TapSessions(one, 5, memory=memory), TapSessions(other, 10, memory=memory)
    ask(small, "a")
    ask(large, "x")
    ask(small, "b", "a")
    assert small.counts().bytes + large.counts().bytes == 20
    ask(large, "y")  # the sixth 5 is one too many: "x" is the oldest
    assert [small.counts().live, large.counts().live, large.counts().evictions] == [2, 1, 1]
    ask(small, "c", "a", "b")
    ask(large, "y", "x")
    assert one.built == ["a", "b", "c"]
    assert other.built == ["x", "y", "x"]
    assert small.counts().bytes + large.counts().bytes <= 25


def test_what_many_models_hold_is_bounded() -> None:
    memory = TapMemory(100)
    models = [TapSessions(Builder(), 7, memory=memory) for _ in range(50)]
    for taps in models:
        ask(taps, "a", "b", "c")
        assert sum(any_taps.counts().bytes for any_taps in models) <= 100
    assert sum(taps.counts().live for taps in models) == 14


def test_models_that_are_gone_leave_their_room_to_others() -> None:
    memory = TapMemory(10)
    gone = TapSessions(Builder(), 10, memory=memory)
    ask(gone, "a")
    del gone
    stays = TapSessions(Builder(), 10, memory=memory)
    ask(stays, "a")
    assert stays.counts() == TapCounts(misses=1, live=1)


def test_a_session_over_the_bound_is_used_and_let_go_and_displaces_nobody() -> None:
    memory = TapMemory(10)
    small, large = (
        TapSessions(Builder(), 10, memory=memory),
        TapSessions(build := Builder(), 11, memory=memory),
    )
    ask(small, "a")
    assert ask(large, "x", "x") == ["x", "x"]
    assert build.built == ["x", "x"]
    assert [small.counts().live, large.counts().live] == [1, 0]


def test_threads_that_ask_together_share_one_build_over_the_bound() -> None:
    build = Builder()
    taps = TapSessions(build, 2, memory=TapMemory(1))
    build.wait = wait_for_hits(taps, 3)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(taps.get, [frozenset("ab")] * 4)) == ["ab"] * 4
    assert build.built == ["ab"]


def test_preloaded_sets_outlive_what_callers_ask_for() -> None:
    build = Builder()
    taps = TapSessions(build, 1, capacity=2, memory=TapMemory(2))
    ask(taps, "p", preload=True)
    ask(taps, "a", "b", "c", "p")
    assert build.built == ["p", "a", "b", "c"]
    ask(taps, "q", preload=True)
    assert ask(taps, "a", "b", "p", "q") == ["a", "b", "p", "q"]
    assert build.built == ["p", "a", "b", "c", "q", "a", "b"]
    assert taps.counts().live == 2


def test_builds_for_ever_new_sets_are_bounded_in_time() -> None:
    clock, build = Clock(), Builder()
    taps = TapSessions(build, capacity=1, build_time=BuildTime(share=0.25, most_s=2, clock=clock))

    def take() -> None:
        clock.now_s += 4

    build.wait = take
    assert ask(taps, "a") == ["a"]  # 4 s of 2, and 1 s came in meanwhile
    with pytest.raises(OverloadedError, match=r"^too many different sets of layers .* or again in 4 s$"):
        ask(taps, "b")
    assert ask(taps, "a") == ["a"]
    assert taps.counts() == TapCounts(hits=1, misses=1, live=1)
    clock.now_s += 4
    assert ask(taps, "b") == ["b"]


def test_builds_for_preloaded_sets_take_their_time() -> None:
    clock, build = Clock(), Builder()
    taps = TapSessions(build, build_time=BuildTime(share=0.5, most_s=1, clock=clock))

    def take() -> None:
        clock.now_s += 100

    build.wait = take
    ask(taps, "a", "b", preload=True)
    assert ask(taps, "c") == ["c"]


def wait_for_hits(taps: TapSessions[str], hits: int) -> Callable[[], None]:
    """Keep a build going until this many threads wait for it."""

    def wait() -> None:
        while taps.counts().hits < hits:
            os.sched_yield()

    return wait


def test_threads_that_ask_together_share_one_build() -> None:
    build = Builder()
    taps = TapSessions(build)
    build.wait = wait_for_hits(taps, 7)
    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(taps.get, [frozenset("ab")] * 8))
    assert sessions == ["ab"] * 8
    assert build.built == ["ab"]
    assert taps.counts() == TapCounts(hits=7, misses=1, evictions=0, live=1)


def test_threads_that_ask_together_share_a_failure_which_is_not_kept() -> None:
    build = Builder(unbuildable="b")
    taps = TapSessions(build)
    build.wait = wait_for_hits(taps, 3)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(taps.get, frozenset("ab")) for _ in range(4)]
    assert [str(future.exception()) for future in asked] == ["can't build ab"] * 4
    assert taps.counts() == TapCounts(hits=3, misses=1, evictions=0, live=0)
    build.unbuildable = ""
    assert ask(taps, "ab") == ["ab"]
    assert build.built == ["ab", "ab"]


def test_a_session_that_is_displaced_while_it_is_built_is_handed_to_who_waits_for_it() -> None:
    build = Builder()
    taps = TapSessions(build, capacity=1)
    with ThreadPoolExecutor(2) as pool:

        def wait_for_next() -> None:
            build.wait = lambda: None
            assert pool.submit(ask, taps, "b").result(30) == ["b"]

        build.wait = wait_for_next
        assert pool.submit(ask, taps, "a").result(30) == ["a"]
    assert taps.counts() == TapCounts(misses=2, evictions=1, live=1)
