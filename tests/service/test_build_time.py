from __future__ import annotations

from service.build_time import BuildTime


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_builds_may_begin_until_what_was_saved_up_is_spent() -> None:
    clock = Clock()
    left = BuildTime(share=0.5, most_s=10, clock=clock)
    assert left.wait_s() == 0
    left.spend(9)
    assert left.wait_s() == 0
    left.spend(3)
    assert left.wait_s() == 4  # twice the 2 s that are owed
    clock.now_s = 3
    assert left.wait_s() == 1
    clock.now_s = 4
    assert left.wait_s() == 0


def test_no_more_than_the_most_is_saved_up() -> None:
    clock = Clock()
    left = BuildTime(share=0.5, most_s=10, clock=clock)
    clock.now_s = 1000
    assert left.wait_s() == 0
    left.spend(12)
    assert left.wait_s() == 4
