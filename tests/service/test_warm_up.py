"""What is run before the first request: which batch sizes, and what stops it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from structlog.testing import capture_logs

from service.batching_limits import BatchingLimits
from service.device import Execution
from service.errors import ModelLoadError
from service.graph import Array
from service.model import Model
from service.taps import TapCounts
from service.warm_up import warm_up
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


def load(proto: onnx.ModelProto, max_batch_size: int = 64) -> Model:
    batching = BatchingLimits(max_batch_size=max_batch_size)
    return Model(proto.SerializeToString(), Execution(), batching=batching)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of axis 0 of every run on blank inputs, as it is made."""
    seen: list[int] = []
    compute = Model.compute

    def recorded(self: Model, feeds: dict[str, Array], *arguments: Any) -> Sequence[Array]:  # noqa: ANN401
        if not any(np.any(feed) for feed in feeds.values()):  # others are tried while a model is loaded
            seen.append(len(next(iter(feeds.values()))))
        return compute(self, feeds, *arguments)

    monkeypatch.setattr(Model, "compute", recorded)
    return seen


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
    sizes: list[int], build: Callable[[], onnx.ModelProto], max_batch_size: int, expected: Sequence[int]
) -> None:
    with capture_logs() as logs:
        warm_up(load(build(), max_batch_size))
    assert sizes == expected
    assert logs == []


def test_batches_stop_at_a_bound_of_memory(sizes: list[int]) -> None:
    """Each item takes 2 x 16 MiB, in and out."""
    shape: Sequence[int | str] = ["n", 16 * 2**20 // 4]
    warm_up(load(model([node("Neg", "x", "y")], [value("x", shape)], [value("y", shape)])))
    assert sizes == [1, 2, 4, 8]


def test_an_input_that_is_too_large_is_not_made_up(sizes: list[int]) -> None:
    nodes = [node("ReduceMax", "x", "y", keepdims=0)]
    warm_up(load(model(nodes, [value("x", [2**16, 2**16])], [value("y", [])])))
    assert sizes == []


def test_no_larger_batch_is_tried_after_a_slow_run(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.warm_up._SLOW_RUN_S", 0.0)
    warm_up(load(lenet()))
    assert sizes == [1]


def test_layers_are_warmed_up_with_the_outputs(sizes: list[int]) -> None:
    loaded = load(lenet(), max_batch_size=2)
    warm_up(loaded, ["relu1"])
    assert sizes == [1, 2]
    assert loaded.tap_counts == TapCounts(hits=1, misses=1, live=1)


def test_a_run_that_fails_is_no_reason_to_refuse_a_model() -> None:
    """Zeros are no divisors, and callers may never send any."""
    integers = [value(name, ["n", 2], TensorProto.INT64) for name in "xyz"]
    with capture_logs() as logs:
        warm_up(load(model([node("Div", "x y", "z")], integers[:2], integers[2:])))
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("model not warmed up", "info")]


def test_a_run_without_end_is_stopped_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.batching._TRIAL_S", 0.2)
    with capture_logs(), pytest.raises(ModelLoadError, match=r"^the warm-up did not end within 0\.2 s"):
        warm_up(load(endless()), timeout_s=0.2)
