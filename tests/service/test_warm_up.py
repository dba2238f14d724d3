"""What is run before the first request: which batch sizes, and what stops it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx
import pytest
from onnx import TensorProto
from structlog.testing import capture_logs

from service.batching import NO_BATCH, Rows
from service.batching_limits import BatchingLimits
from service.device import Execution
from service.errors import ModelLoadError
from service.graph import Array
from service.model import Model
from service.taps import TapCounts
from service.warm_up import shortest_run_s, warm_up
from tests.service.onnx_models import (
    channels_last,
    endless,
    free_size,
    lenet,
    model,
    node,
    texts,
    two_inputs,
    value,
    without_batch,
)


def load(proto: onnx.ModelProto, max_batch_size: int = 64, rows: Rows | None = None) -> Model:
    batching = BatchingLimits(max_batch_size=max_batch_size)
    return Model(proto.SerializeToString(), Execution(), batching=batching, rows=rows)


def quotient() -> onnx.ModelProto:
    """A model that fails for zeros."""
    integers = [value(name, ["n", 2], TensorProto.INT64) for name in "xyz"]
    return model([node("Div", "x y", "z")], integers[:2], integers[2:])


SizesOf = Callable[..., list[int]]


@pytest.fixture
def sizes_of(monkeypatch: pytest.MonkeyPatch) -> SizesOf:
    """Warm a model up, and tell the size of axis 0 of every run."""
    compute = Model.compute

    def sizes(loaded: Model, layers: Sequence[str] = ()) -> list[int]:
        seen: list[int] = []

        def recorded(self: Model, feeds: dict[str, Array], *arguments: Any) -> Sequence[Array]:  # noqa: ANN401
            seen.append(len(next(iter(feeds.values()))))
            return compute(self, feeds, *arguments)

        monkeypatch.setattr(Model, "compute", recorded)
        warm_up(loaded, layers)
        return seen

    return sizes


@pytest.mark.parametrize(
    ("build", "max_batch_size", "expected"),
    [
        (lenet, 64, [1, 2, 4, 8, 16, 32, 64]),
        (lenet, 24, [1, 2, 4, 8, 16, 24]),
        (lenet, 1, [1]),
        (channels_last, 3, [1, 2, 3]),
        (texts, 2, [1, 2]),
        (two_inputs, 64, [1]),  # one input has no batch axis
        (without_batch, 64, [5]),
        (free_size, 64, []),  # no size could be guessed
    ],
)
def test_each_batch_size_is_run(
    sizes_of: SizesOf, build: Callable[[], onnx.ModelProto], max_batch_size: int, expected: Sequence[int]
) -> None:
    with capture_logs() as logs:
        assert sizes_of(load(build(), max_batch_size)) == expected
    assert logs == []


def test_batches_stop_at_a_bound_of_memory(sizes_of: SizesOf) -> None:
    """Each item takes 2 x 16 MiB, in and out."""
    shape: Sequence[int | str] = ["n", 16 * 2**20 // 4]
    negative = load(model([node("Neg", "x", "y")], [value("x", shape)], [value("y", shape)]))
    assert sizes_of(negative) == [1, 2, 4, 8]


def test_an_input_that_is_too_large_is_not_made_up(sizes_of: SizesOf) -> None:
    nodes = [node("ReduceMax", "x", "y", keepdims=0)]
    assert sizes_of(load(model(nodes, [value("x", [2**16, 2**16])], [value("y", [])]))) == []


def test_no_larger_batch_is_tried_after_a_slow_run(
    sizes_of: SizesOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.warm_up._SLOW_RUN", 0.0)
    assert sizes_of(load(lenet())) == [1]


def test_layers_are_warmed_up_with_the_outputs(sizes_of: SizesOf) -> None:
    loaded = load(lenet(), max_batch_size=2)
    assert sizes_of(loaded, ["relu1"]) == [1, 2]
    assert loaded.tap_counts == TapCounts(hits=1, misses=1, live=1)


def test_a_run_that_fails_is_no_reason_to_refuse_a_model() -> None:
    """Zeros are no divisors, and callers may never send any."""
    with capture_logs() as logs:
        warm_up(load(quotient()))
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("model not warmed up", "info")]


def test_a_model_is_given_the_time_that_its_device_needs() -> None:
    loaded = Model(endless(batch=1).SerializeToString(), Execution(trial_timeout_s=0.2), rows=NO_BATCH)
    with capture_logs(), pytest.raises(ModelLoadError, match=r"^a trial run did not end within 0\.2 s$"):
        warm_up(loaded)


def test_a_run_without_end_is_stopped_and_refused() -> None:
    with capture_logs(), pytest.raises(ModelLoadError, match=r"^a trial run did not end within 0\.2 s$"):
        warm_up(load(endless(batch=1), rows=NO_BATCH), timeout_s=0.2)


def test_so_is_one_that_finds_out_whether_rows_are_independent() -> None:
    with pytest.raises(ModelLoadError, match=r"^a trial run did not end within 0\.2 s$"):
        Model(endless().SerializeToString(), Execution(trial_timeout_s=0.2))


def test_the_shortest_of_a_few_runs_is_timed() -> None:
    assert 0 < shortest_run_s(load(lenet())) < 1


@pytest.mark.parametrize("build", [free_size, quotient], ids=["of any size", "that always fails"])
def test_a_model_that_can_not_be_run_on_blank_inputs_has_no_shortest_run(
    build: Callable[[], onnx.ModelProto],
) -> None:
    assert shortest_run_s(load(build())) == math.inf


def test_timing_ends_with_a_run_without_end() -> None:
    loaded = Model(endless(batch=1).SerializeToString(), Execution(trial_timeout_s=0.2), rows=NO_BATCH)
    with pytest.raises(ModelLoadError, match=r"^a trial run did not end within 0\.2 s$"):
        shortest_run_s(loaded)
