from __future__ import annotations

import pytest

from service.model_files import Stamp
from service.settling import Picture, Settling

FILE, OTHER = ("tiny", "1", "model.onnx"), ("tiny", "config.toml")


def stamp(size: int) -> Stamp:
    return Stamp(1, 2, size, 3, 4)


@pytest.mark.parametrize(
    ("looks", "settled"),
    [
        ([(0.0, {FILE: stamp(1)})], {}),
        ([(0.0, {FILE: stamp(1)}), (0.9, {FILE: stamp(1)})], {}),
        ([(0.0, {FILE: stamp(1)}), (1.0, {FILE: stamp(1)})], {FILE: stamp(1)}),
        ([(0.0, {FILE: stamp(1)}), (0.75, {FILE: stamp(2)}), (1.5, {FILE: stamp(2)})], {}),
        ([(0.0, {FILE: stamp(1)}), (0.75, {FILE: stamp(2)}), (1.75, {FILE: stamp(2)})], {FILE: stamp(2)}),
        ([(0.0, {FILE: stamp(1)}), (0.5, {}), (2.0, {})], {}),
        ([(0.0, {FILE: None}), (1.0, {FILE: None})], {FILE: None}),
    ],
    ids=[
        "first seen",
        "too soon",
        "left alone",
        "being written",
        "done",
        "gone before it counted",
        "missing",
    ],
)
def test_a_file_counts_once_it_is_left_alone(looks: list[tuple[float, Picture]], settled: Picture) -> None:
    settling = Settling({}, 1.0)
    for now_s, seen in looks:
        settling.look(seen, now_s)
    assert dict(settling.picture) == settled


def test_files_settle_apart_from_each_other() -> None:
    settling = Settling({FILE: stamp(1), OTHER: stamp(1)}, 1.0)
    waits = [
        settling.look({FILE: stamp(size), OTHER: stamp(2)}, now_s)
        for now_s, size in ((0.0, 1), (0.5, 2), (1.0, 3))
    ]
    assert settling.picture == {FILE: stamp(1), OTHER: stamp(2)}
    assert waits == [1.0, 0.5, 1.0]


def test_a_removed_file_settles_too() -> None:
    settling = Settling({FILE: stamp(1)}, 1.0)
    assert [settling.look({}, 0.0), settling.look({}, 0.75)] == [1.0, 0.25]
    assert settling.picture == {FILE: stamp(1)}
    assert settling.look({}, 1.0) is None
    assert settling.picture == {}


def test_what_is_put_back_in_time_never_changed() -> None:
    settling = Settling({FILE: stamp(1)}, 1.0)
    settling.look({}, 0.0)
    assert settling.look({FILE: stamp(1)}, 0.5) is None
    assert settling.picture == {FILE: stamp(1)}


def test_files_may_be_taken_as_they_are() -> None:
    settling = Settling({OTHER: stamp(1)}, 1.0)
    settling.look({FILE: stamp(1)}, 0.0)
    settling.settle({FILE: stamp(2)}, [FILE, OTHER])
    assert settling.picture == {FILE: stamp(2)}
