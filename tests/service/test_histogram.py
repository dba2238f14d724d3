"""Histograms: which bucket a value is counted in, and that none is lost."""

from __future__ import annotations

from threading import Thread

import pytest

from service.histogram import Histogram


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([], [0, 0, 0]),
        ([1], [1, 0, 0]),
        ([10], [1, 0, 0]),
        ([11, 20], [0, 2, 0]),
        ([21, 10**12], [0, 0, 2]),
        ([5, 15, 25, 5], [2, 1, 1]),
    ],
)
def test_a_bucket_holds_what_is_at_most_its_bound(values: list[int], counts: list[int]) -> None:
    one_by_one, at_once = Histogram((10, 20)), Histogram((10, 20))
    for value in values:
        one_by_one.add(value)
    at_once.extend(values)

    assert one_by_one.counts() == at_once.counts() == (counts, sum(values))


def test_values_of_many_threads_are_all_counted() -> None:
    histogram = Histogram((10,))

    def add() -> None:
        for _ in range(5000):
            histogram.add(7)

    threads = [Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        histogram.counts()

    assert histogram.counts() == ([20_000, 0], 140_000)
