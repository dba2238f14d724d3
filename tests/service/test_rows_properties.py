"""Generated graphs, shared by callers, sliced and alone: each gets what ONNX Runtime computes of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto
from structlog.testing import capture_logs

from service.api.per_image import must_run_alone, per_image
from service.batching_limits import BatchingLimits
from service.device import RUNTIME_ERRORS, Execution
from service.errors import ModelLoadError, ServiceError
from service.graph import Array
from service.job import Job, Result, run_key
from service.model import Model
from service.scheduler import Scheduler
from tests.service.onnx_models import model, node, value
from tests.service.test_feature_maps import unoptimized

MOST = 4
"""Items of a run."""
FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Made(NamedTuple):
    """An operator of a generated graph: from a tensor `t` to `o`; names that end in _ are its own."""

    nodes: tuple[tuple[str, str, str], ...]
    rank: int
    """Least rank of t; -1: a tensor of floats of any rank."""
    result: int | None
    """Rank of o; None: that of t."""
    attributes: Mapping[str, int] = {}


CONSTANTS = {
    "axis": np.array(0),
    "half": np.array(0.5, np.float32),
    "all": np.array([-1]),
    "fold": np.array([-1, 3]),
    "items": np.array([0, -1]),
    "none": np.array([0]),
    "one": np.array([1]),
}
OPERATORS: Mapping[str, Made] = {
    "relu": Made((("Relu", "t", "o"),), 0, None),
    "shifted": Made((("Sub", "t half", "o"),), 0, None),
    "dead": Made((("Abs", "t", "a_"), ("Neg", "a_", "n_"), ("Relu", "n_", "o")), 0, None),
    "turned": Made((("Transpose", "t", "o"),), 1, None),
    "flat": Made((("Flatten", "t", "o"),), 1, 2),
    "vector": Made((("Reshape", "t all", "o"),), 0, 1),
    "heads": Made((("Reshape", "t fold", "o"),), 1, 2),
    "by item": Made((("Reshape", "t items", "o"),), 1, 2),
    "largest": Made((("ReduceMax", "t", "o"),), 0, 0, {"keepdims": 0}),
    "against the largest": Made((("ReduceMax", "t", "m_"), ("Sub", "t m_", "o")), 0, None),
    "decided": Made(
        (("ReduceMax", "t", "m_"), ("Greater", "m_ half", "g_"), ("Where", "g_ t half", "o")), 0, None
    ),
    "mean of the batch": Made((("ReduceMean", "t none", "o"),), 1, None),
    "sum": Made((("CumSum", "t axis", "o"),), 1, None),
    "shares": Made((("Softmax", "t", "o"),), 1, None, {"axis": 0}),
    "shape": Made((("Shape", "t", "s_"), ("Cast", "s_", "o")), 0, 1, {"to": TensorProto.FLOAT}),
    "blank": Made((("Shape", "t", "s_"), ("ConstantOfShape", "s_", "o")), 0, None),
    "found": Made(
        (("NonZero", "t", "f_"), ("Transpose", "f_", "r_"), ("Cast", "r_", "o")),
        1,
        2,
        {"to": TensorProto.FLOAT},
    ),
    "empty": Made((("Slice", "t none none", "o"),), 1, None),
    "first": Made((("Slice", "t none one", "o"),), 1, None),
    "twice": Made((("Concat", "t t", "o"),), 1, None, {"axis": 0}),
    "coarse": Made(
        (("DynamicQuantizeLinear", "t", "q_ c_ z_"), ("DequantizeLinear", "q_ c_ z_", "o")), 1, None
    ),
}


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Draw a graph from x [n, 2, 3] on, of which y [n, 2, 3] is declared and all else are layers."""
    ranks = {"x": 3}
    nodes: list[NodeProto] = [node("Relu", "x", "y")]
    for number in range(draw(st.integers(1, 6))):
        kind = OPERATORS[draw(st.sampled_from(sorted(OPERATORS)))]
        source = draw(st.sampled_from([name for name, rank in ranks.items() if rank >= kind.rank]))
        own = {"t": source, "o": f"l{number}"}

        def name(each: str, own: Mapping[str, str] = own, number: int = number) -> str:
            return own.get(each, each if each in CONSTANTS else f"l{number}{each}")

        for op_type, inputs, outputs in kind.nodes:
            takes = {key: v for key, v in kind.attributes.items() if _takes(op_type, key)}
            taken, made = (" ".join(map(name, part.split())) for part in (inputs, outputs))
            nodes.append(node(op_type, taken, made, **takes))
        ranks[own["o"]] = ranks[source] if kind.result is None else kind.result
    used = {each for made in nodes for each in made.input}
    constants = {key: array for key, array in CONSTANTS.items() if key in used}
    return model(nodes, [value("x", ["n", 2, 3])], [value("y", ["n", 2, 3])], constants)


def _takes(op_type: str, attribute: str) -> bool:
    return attribute in onnx.defs.get_schema(op_type).attributes


def items(generator: np.random.Generator, count: int) -> Array:
    drawn: Array = generator.uniform(-1, 1, (count, 2, 3)) * generator.choice([1, 3])
    return drawn.astype(np.float32)


def reference(proto: onnx.ModelProto, x: Array, names: Sequence[str]) -> dict[str, Array] | None:
    """Run ONNX Runtime itself; None if it refuses these items, as some operators do empty tensors."""
    try:
        return unoptimized(proto, {"x": x}, names)
    except RUNTIME_ERRORS:
        return None


class Engine:
    """Runs jobs that came at once, on this thread."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        try:
            self.model = Model(proto.SerializeToString(), Execution(), batching=BatchingLimits(MOST))
        except ModelLoadError:  # shapes that can't be, as ONNX Runtime finds out
            reject()
        self._scheduler = Scheduler()

    def run(
        self, asked: Sequence[tuple[Array, Sequence[str]]], *, alone: bool = False
    ) -> list[Result | ServiceError]:
        ended: list[SimpleQueue[Result | ServiceError]] = [SimpleQueue() for _ in asked]
        with capture_logs(), self._scheduler.trip():
            for queue, (x, names) in zip(ended, asked, strict=True):
                key = run_key(self.model, {"x": x}, names, len(x))
                job = Job(
                    self.model,
                    {"x": x},
                    tuple(names),
                    len(x),
                    queue.put,
                    lambda: None,
                    run_key=key,
                    each_alone=alone,
                )
                self._scheduler.submit(job)
        return [queue.get(timeout=20) for queue in ended]


def check(got: Result | ServiceError, expected: Mapping[str, Array] | None, names: Sequence[str]) -> None:
    if expected is None:
        assert isinstance(got, ServiceError)
        return
    assert isinstance(got, Result), got
    for name in names:
        assert got.outputs[name].shape == expected[name].shape, name
        np.testing.assert_allclose(got.outputs[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.filterwarnings("ignore:overflow")
@given(proto=graphs(), seed=st.integers(0, 2**16))
@FEW
def test_callers_at_once_get_their_own(proto: onnx.ModelProto, seed: int) -> None:
    generator = np.random.default_rng(seed)
    engine = Engine(proto)
    names = list(engine.model.graph.layers)
    batches = [items(generator, count) for count in (1, 2, 1, 3)]
    expected = [reference(proto, x, names) for x in batches]
    for asked in (names, *([name] for name in names)):
        answers = engine.run([(x, asked) for x in batches])
        for answer, whole, x in zip(answers, expected, batches, strict=True):
            check(answer, whole if asked is names else reference(proto, x, asked), asked)


@given(proto=graphs(), seed=st.integers(0, 2**16), count=st.integers(MOST + 1, 3 * MOST))
@FEW
def test_a_long_request_gets_its_own_whole(proto: onnx.ModelProto, seed: int, count: int) -> None:
    engine = Engine(proto)
    x = items(np.random.default_rng(seed), count)
    for name in engine.model.graph.layers:
        (answer,) = engine.run([(x, [name])])
        check(answer, reference(proto, x, [name]), [name])


@given(proto=graphs(), seed=st.integers(0, 2**16))
@FEW
def test_each_image_gets_what_it_has_alone(proto: onnx.ModelProto, seed: int) -> None:
    engine = Engine(proto)
    x = items(np.random.default_rng(seed), 6)
    following = engine.model.rows.following
    for layer in engine.model.graph.layers:
        alone = must_run_alone(engine.model, "y", [layer], len(x))
        (answer,) = engine.run([(x, ["y", layer])], alone=alone)
        expected = [reference(proto, x[i : i + 1], ["y", layer]) for i in range(len(x))]
        if not all(expected):
            assert isinstance(answer, ServiceError)
            continue
        assert isinstance(answer, Result), answer
        told = per_image(answer, len(x), "y", [layer], following)
        for i, each in enumerate(expected):
            assert each is not None
            np.testing.assert_array_equal(told.rows["y"][i], each["y"][0])
            got = told.rows[layer][i : i + 1] if layer in following else told.alone[layer][i]
            assert got.shape == each[layer].shape
            np.testing.assert_allclose(got, each[layer], rtol=1e-4, atol=1e-5)
