"""Feature maps against ONNX Runtime with its optimizations off, and that asking costs others nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from service.device import Execution, create_session
from service.graph import Array
from service.model import Model
from service.taps import TapCounts
from service.warm_up import warm_up
from tests.service.onnx_models import FOREIGN, lenet, through

SHIPPED = sorted((Path(__file__).parents[2] / "models").glob("lenet/*/model.onnx"))
LENETS = {"random weights": lenet(), **{path.parent.name: onnx.load(path) for path in SHIPPED}}
# As much ink as a digit has.
IMAGES = np.random.default_rng(0).random((3, 1, 32, 32), dtype=np.float32) ** 8


@pytest.fixture(scope="module", params=LENETS)
def proto(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return LENETS[request.param]


@pytest.fixture(scope="module")
def model(proto: onnx.ModelProto) -> Model:
    return Model(proto.SerializeToString(), Execution())


def unoptimized(proto: onnx.ModelProto, feeds: dict[str, Array], names: Sequence[str]) -> dict[str, Array]:
    """Run a copy of the model that has these tensors as outputs, with all optimizations off."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names), feeds), strict=True))


@pytest.mark.parametrize("together", [True, False], ids=["all together", "each alone"])
def test_every_layer_of_lenet_is_what_the_unoptimized_graph_computes(
    proto: onnx.ModelProto, model: Model, together: bool
) -> None:
    names = model.resolve_layers(["*"])
    expected = unoptimized(proto, {"image": IMAGES}, names)
    for group in [names] if together else [[name] for name in names]:
        maps = model.run({"image": IMAGES}, group)
        assert list(maps) == list(group)
        for name in group:
            np.testing.assert_allclose(maps[name], expected[name], rtol=0, atol=1e-5, err_msg=name)


def inputs_of(name: str) -> dict[str, Array]:
    generator = np.random.default_rng(1)

    def numbers(*shape: int) -> Array:
        return generator.normal(size=shape).astype(np.float32)

    return {
        "channels_last": {"image": numbers(2, 12, 12, 3)},
        "two_inputs": {"image": numbers(2, 3, 8, 8), "gain": numbers(1)},
        "without_batch": {"vector": numbers(5)},
        "branching": {"x": numbers(3, 4)},
        "looping": {"x": numbers(3, 2)},
        "texts": {"words": np.array(["ink", "paper"], dtype=object)},
        "counting": {"x": numbers(3, 4)},
        "exposed_initializer": {"x": numbers(3, 4)},
        "residual": {"image": numbers(2, 3, 16, 16)},
        "convolutions": {"image": numbers(2, 4, 20, 20)},
        "free_size": {"image": numbers(1, 1, 6, 4)},
        "time_first": {"x": numbers(3, 5, 4)},
        "folded": {"x": numbers(3, 2, 4)},
        "statistics": {"x": numbers(4, 3)},
    }[name]


@pytest.mark.parametrize("name", FOREIGN)
def test_every_layer_of_foreign_models_is_what_the_unoptimized_graph_computes(name: str) -> None:
    foreign, feeds = FOREIGN[name](), inputs_of(name)
    loaded = Model(foreign.SerializeToString(), Execution())
    loaded.check_inputs(feeds)
    layers = loaded.resolve_layers(["*"])
    maps = loaded.run(feeds, layers)
    for layer, expected in unoptimized(foreign, feeds, layers).items():
        assert maps[layer].dtype == loaded.graph.layers[layer].spec.dtype
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(maps[layer], expected, rtol=1e-5, atol=1e-5, err_msg=layer)
        else:
            np.testing.assert_array_equal(maps[layer], expected, err_msg=layer)


@pytest.mark.parametrize(
    ("element", "numpy_type"),
    [
        (TensorProto.FLOAT16, np.float16),
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
        (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
        (TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2),
        (TensorProto.INT4, ml_dtypes.int4),
        (TensorProto.UINT4, ml_dtypes.uint4),
    ],
    ids=lambda parameter: getattr(parameter, "__name__", ""),
)
def test_types_that_numpy_lacks_are_widened(element: int, numpy_type: type) -> None:
    loaded = Model(through(element).SerializeToString(), Execution())
    x = np.array([[0, 1, 2.7, 5.3]], np.float32)
    narrowed = np.rint(x) if element in (TensorProto.INT4, TensorProto.UINT4) else x
    expected = narrowed.astype(numpy_type).astype(np.float32)
    answer = loaded.run({"x": x}, ["narrow", "out", "y"])
    assert {name: array.tolist() for name, array in answer.items()} == dict.fromkeys(
        answer, expected.tolist()
    )
    assert {a.dtype.name for a in answer.values()} <= {"float32", "float16", "int8", "uint8"}
    assert {spec.name: spec.dtype for spec in loaded.outputs} == {
        name: answer[name].dtype for name in ("y", "out")
    }


def test_layers_follow_from_each_other(model: Model) -> None:
    maps = model.run({"image": IMAGES}, model.resolve_layers(["*"]))
    np.testing.assert_array_equal(np.maximum(maps["conv1"], 0), maps["relu1"])
    np.testing.assert_array_equal(maps["relu1"].reshape(3, 6, 14, 2, 14, 2).max(axis=(3, 5)), maps["pool1"])
    exponentials = np.exp(maps["logits"])
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, maps["probabilities"], rtol=1e-6)


def test_probabilities_are_the_same_bits_with_and_without_layers(model: Model) -> None:
    alone = model.run({"image": IMAGES}, ["probabilities"])["probabilities"]
    names = model.resolve_layers(["*"])
    for layers in (names, *([name] for name in names)):
        accompanied = model.run({"image": IMAGES}, ["probabilities", *layers])["probabilities"]
        np.testing.assert_array_equal(accompanied, alone, err_msg=str(layers))


def nodes_of(path: Path, known: Collection[str]) -> list[bytes]:
    """List the nodes, with names that ONNX Runtime made up numbered by appearance: its own numbers vary."""
    numbers: dict[str, str] = {}
    nodes = onnx.load(path).graph.node
    for node in nodes:
        node.ClearField("name")
        for names in (node.input, node.output):
            names[:] = [
                name if name in known else numbers.setdefault(name, f"#{len(numbers)}") for name in names
            ]
    return [node.SerializeToString(deterministic=True) for node in nodes]


def names_of(data: bytes) -> set[str]:
    return {
        name for node in onnx.load_model_from_string(data).graph.node for name in (*node.input, *node.output)
    }


class SessionDumps:
    """Makes the sessions of a model as usual, and keeps the optimized graph of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.graphs: list[list[bytes]] = []

    def __call__(self, data: bytes, execution: Execution) -> ort.InferenceSession:
        path = self.folder / f"{len(self.graphs)}.onnx"
        session = create_session(data, execution, str(path))
        self.graphs.append(nodes_of(path, names_of(data)))
        return session


@pytest.fixture
def dumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionDumps:
    recorder = SessionDumps(tmp_path)
    monkeypatch.setattr("service.model.create_session", recorder)
    return recorder


def pristine(data: bytes, folder: Path) -> list[bytes]:
    """Tell the optimized graph of a session that ONNX Runtime makes by its own defaults."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "pristine.onnx")
    options.log_severity_level = 4  # it warns that the file is for this machine only
    ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return nodes_of(folder / "pristine.onnx", names_of(data))


def test_the_base_session_is_optimized_as_if_there_were_no_layers_to_ask_for(
    proto: onnx.ModelProto, dumps: SessionDumps, tmp_path: Path
) -> None:
    data = proto.SerializeToString()
    expected = pristine(data, tmp_path)

    asked = Model(data, Execution())
    base = asked._base
    asked.run({"image": IMAGES}, ["probabilities", *asked.resolve_layers(["*"])])
    Model(data, Execution())

    before, tapped, after = dumps.graphs
    assert before == expected
    assert after == expected
    assert tapped != expected  # fusion is what the base session keeps and a tapped one gives up
    assert asked._base is base


def test_requests_without_layers_run_the_base_session_alone(
    proto: onnx.ModelProto, dumps: SessionDumps
) -> None:
    loaded = Model(proto.SerializeToString(), Execution())
    warm_up(loaded)
    loaded.run({"image": IMAGES}, ["probabilities"])
    loaded.run({"image": IMAGES}, loaded.resolve_layers(["probabilities"]))
    assert len(dumps.graphs) == 1
    assert loaded.tap_counts == TapCounts()


def test_threads_that_ask_for_different_layers_get_their_own(model: Model) -> None:
    names = model.resolve_layers(["*"])
    asked = [[name, names[(i * 7) % len(names)]] for i, name in enumerate(names)] * 4
    expected = model.run({"image": IMAGES}, names)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda group: model.run({"image": IMAGES}, group), asked))
    for group, answer in zip(asked, answers, strict=True):
        assert list(answer) == list(dict.fromkeys(group))
        for name, array in answer.items():
            np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-5)
    assert model.tap_counts.live <= 4
