"""What the response cache holds, for whom, and for how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Thread
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from service.cache import ResponseCache
from service.errors import ExecutionError, ServiceError
from service.job import Job, Result
from service.model import Model
from service.tensors import Array

KiB = 1024
X = np.arange(4, dtype=np.float32)
Y = np.array([[0.25, 0.75]], np.float32)


class Engine:
    """Answers jobs from a cache; runs what the cache can't answer."""

    def __init__(self, capacity: int = 64 * KiB) -> None:
        self.cache = ResponseCache(capacity)
        self.runs = 0

    def infer(
        self,
        feeds: Mapping[str, Array],
        outputs: tuple[str, ...] = ("y",),
        digest: str = "a",
        gives: Array | ServiceError = Y,
        *,
        cacheable: bool = True,
    ) -> Result | ServiceError:
        ended: list[Result | ServiceError] = []
        model = cast(Model, SimpleNamespace(digest=digest, cacheable=cacheable))
        job = Job(model, feeds, outputs, 1, ended.append, lambda: None)
        if not self.cache.answers(job):
            assert ended == []
            self.runs += 1
            if isinstance(gives, ServiceError):
                job.done(gives)
            else:
                job.done(Result(dict.fromkeys(outputs, gives), 1, 2, 3))
        (outcome,) = ended
        return outcome


def test_an_equal_job_gets_the_same_without_a_run() -> None:
    engine = Engine()
    first, second = engine.infer({"x": X}), engine.infer({"x": X.copy()}, gives=Y + 1)
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert (first.cached, second.cached, engine.runs) == (False, True, 1)
    assert (second.queue_ns, second.compute_ns, second.run_batch_size, second.executions) == (0, 0, 0, 0)
    assert min(first.cache_ns, second.cache_ns) > 0
    np.testing.assert_array_equal(second.outputs["y"], first.outputs["y"])
    assert second.outputs["y"].dtype == first.outputs["y"].dtype


TEXTS = np.array([["ab", "c"]], object)
OTHERS: list[tuple[Mapping[str, Array], Mapping[str, Array]]] = [
    ({"x": X}, {"x": X + 1}),
    ({"x": X}, {"x": X.reshape(2, 2)}),
    ({"x": X}, {"x": X.view(np.int32)}),
    ({"x": X}, {"z": X}),
    ({"x": X, "z": X + 1}, {"x": X + 1, "z": X}),
    ({"x": X}, {"x": X, "z": np.zeros(0, np.float32)}),
    ({"x": np.array([0.0])}, {"x": np.array([-0.0])}),
    ({"x": TEXTS}, {"x": np.array([["a", "bc"]], object)}),
    ({"x": TEXTS}, {"x": TEXTS.T}),
    ({"x": TEXTS}, {"x": np.array([["ab", "d"]], object)}),
]


@pytest.mark.parametrize(("feeds", "others"), OTHERS)
def test_other_inputs_are_other_requests(feeds: Mapping[str, Array], others: Mapping[str, Array]) -> None:
    engine = Engine()
    for sent in (feeds, others, feeds, others):
        engine.infer(sent)
    assert engine.runs == 2


@pytest.mark.parametrize(
    "array", [X[::2], np.array(1.5), np.zeros((0, 3), np.float16), TEXTS, np.array([True, False])]
)
def test_arrays_of_any_kind_are_told_apart_by_value_alone(array: Array) -> None:
    engine = Engine()
    engine.infer({"x": array})
    engine.infer({"x": array.copy(order="F")})
    assert engine.runs == 1


def test_the_order_of_inputs_does_not_matter() -> None:
    engine = Engine()
    engine.infer({"x": X, "z": X + 1})
    engine.infer({"z": X + 1, "x": X})
    assert engine.runs == 1


def test_other_outputs_and_other_models_are_other_requests() -> None:
    engine = Engine()
    for outputs, digest in [(("y",), "a"), (("y", "relu1"), "a"), (("y",), "b"), (("relu1",), "a")]:
        engine.infer({"x": X}, outputs, digest)
    assert engine.runs == 4


def test_models_that_must_not_be_cached_are_not() -> None:
    engine = Engine()
    results = [engine.infer({"x": X}, cacheable=False) for _ in range(2)]
    assert (engine.runs, engine.cache.size) == (2, 0)
    assert [result.cache_ns for result in results if isinstance(result, Result)] == [0, 0]


def test_errors_are_not_held() -> None:
    engine = Engine()
    error = ExecutionError("out of memory")
    assert engine.infer({"x": X}, gives=error) is error
    assert isinstance(engine.infer({"x": X}), Result)
    assert engine.runs == 2


def test_what_is_held_is_not_what_the_first_caller_has() -> None:
    engine = Engine()
    batch = np.array([[1, 2], [3, 4]], np.float32)
    engine.infer({"x": X}, gives=batch[:1])
    batch[:] = 0  # and the whole batch is not kept alive
    held = engine.infer({"x": X})
    assert isinstance(held, Result)
    assert held.outputs["y"].tolist() == [[1, 2]]
    assert held.outputs["y"].base is None
    with pytest.raises(ValueError, match="read-only"):
        held.outputs["y"][:] = 0


def asked(engine: Engine, *numbers: int, kib: int = 10) -> Sequence[bool]:
    """Tell which of these requests, with answers of so many KiB, were not run."""
    answer = np.zeros(kib * KiB, np.uint8)
    results = [engine.infer({"x": np.array(number)}, gives=answer) for number in numbers]
    return [result.cached for result in results if isinstance(result, Result)]


def test_the_least_recently_used_goes_first() -> None:
    engine = Engine(32 * KiB)  # room for two of 10 KiB, and their overhead
    assert asked(engine, 1, 2, 3, 1) == [False, False, False, True]
    assert asked(engine, 4, 1, 3, 2) == [False, True, True, False]


def test_its_size_is_bounded_in_bytes() -> None:
    engine = Engine(32 * KiB)
    asked(engine, *range(100))
    assert 30 * KiB < engine.cache.size <= 32 * KiB


def test_small_answers_are_counted_with_what_it_costs_to_hold_them() -> None:
    engine = Engine(32 * KiB)
    asked(engine, *range(100), kib=0)
    assert asked(engine, *range(100), kib=0).count(True) == 0
    assert engine.cache.size > 31 * KiB


def test_texts_are_counted_with_their_length() -> None:
    engine = Engine(32 * KiB)
    engine.infer({"x": X}, gives=np.array(["a" * 20 * KiB], object))
    assert engine.cache.size > 20 * KiB


def test_an_answer_larger_than_the_cache_is_not_held() -> None:
    engine = Engine(32 * KiB)
    asked(engine, 1)
    assert asked(engine, 2, 2, kib=33) == [False, False]
    assert asked(engine, 1) == [True]


def test_many_threads_may_use_it() -> None:
    engine = Engine(32 * KiB)
    wrong: list[object] = []

    def work(seed: int) -> None:
        for number in np.random.default_rng(seed).integers(0, 6, 300).tolist():
            result = engine.infer({"x": np.array(number)}, gives=np.full(8 * KiB, number, np.uint8))
            if not isinstance(result, Result) or set(result.outputs["y"].tolist()) != {number}:
                wrong.append(result)

    threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert engine.cache.size <= 32 * KiB


def test_what_was_run_item_by_item_is_held_as_such_and_not_for_a_whole_run() -> None:
    cache = ResponseCache(64 * KiB)
    model = cast(Model, SimpleNamespace(digest="a", cacheable=True))
    ended: list[Result | ServiceError] = []

    def ask(*, each_alone: bool, size: int = 2) -> Job:
        feeds = {"x": X[:size]}
        return Job(model, feeds, ("y",), size, ended.append, lambda: None, each_alone=each_alone)

    first = ask(each_alone=True)
    assert not cache.answers(first)
    first.done(Result({}, 1, 2, 1, items=({"y": Y}, {"y": Y + 1})))
    assert not cache.answers(ask(each_alone=False))
    assert cache.answers(ask(each_alone=True))
    held = ended[-1]
    assert isinstance(held, Result)
    assert held.cached
    assert [item["y"].tolist() for item in held.items] == [Y.tolist(), (Y + 1).tolist()]

    one = ask(each_alone=True, size=1)  # one item runs alone in any case
    assert not cache.answers(one)
    one.done(Result({"y": Y}, 1, 2, 1))
    assert cache.answers(ask(each_alone=False, size=1))
