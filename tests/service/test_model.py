from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from structlog.testing import capture_logs

from service.device import Execution, create_session
from service.errors import ExecutionError, InvalidRequestError, ModelLoadError, UnknownLayerError
from service.graph import Array, TensorSpec
from service.model import Model
from service.providers import CPU
from tests.service.onnx_models import (
    counting,
    exposed_initializer,
    free_size,
    lenet,
    model,
    node,
    texts,
    value,
)

DATA = lenet().SerializeToString()
LAYERS = [output for node in lenet().graph.node for output in node.output]
LISTED = [name for name in LAYERS if name not in ("centered", "normalized", "flat")]


@pytest.fixture(scope="module")
def loaded() -> Model:
    return Model(DATA, Execution())


def images(*shape: int) -> dict[str, Array]:
    return {"image": np.random.default_rng(0).random(shape, dtype=np.float32)}


def test_a_loaded_model_tells_what_it_is(loaded: Model) -> None:
    assert loaded.digest == hashlib.sha256(DATA).hexdigest()
    assert loaded.provider == CPU
    assert loaded.metadata["featurelens.labels"].startswith('["0"')
    assert loaded.inputs == (TensorSpec("image", np.dtype(np.float32), (None, 1, 32, 32)),)
    assert loaded.outputs == (TensorSpec("probabilities", np.dtype(np.float32), (None, 10)),)


def opset(version: int) -> bytes:
    return model(
        [node("Relu", "x", "y")], [value("x", [1])], [value("y", [1])], opset=version
    ).SerializeToString()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"the file is empty; expected an ONNX model"),
        (DATA[:5000], r"the file is not an ONNX model, or only a part of one"),
        (
            b"\x89PNG....",
            r"the file is not an ONNX model, or only a part of one",
        ),
        (
            opset(99),
            r"ONNX Runtime .* refuses the model: .* Opset 99 .* till opset \d+",
        ),
    ],
    ids=["empty", "truncated", "garbage", "opset"],
)
def test_files_that_can_not_be_loaded(data: bytes, message: str) -> None:
    with pytest.raises(ModelLoadError, match=f"^{message}") as error:
        Model(data, Execution())
    assert "onnxruntime_src" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "resolved"),
    [
        ([], []),
        (["pool1", "conv1"], ["pool1", "conv1"]),
        (["conv1", "pool1", "conv1"], ["conv1", "pool1"]),
        (["*"], LISTED),
        (["conv1", "*"], LISTED),
        (["flat", "*"], [name for name in LAYERS if name in (*LISTED, "flat")]),
    ],
)
def test_resolves_layer_names(loaded: Model, names: Sequence[str], resolved: Sequence[str]) -> None:
    assert loaded.resolve_layers(names) == tuple(resolved)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("con1", 'no layer "con1"; did you mean "conv1", "conv2", "net.conv1"?'),
        ("image", 'no layer "image": it is an input of the model'),
        ("w1", 'no layer "w1"; the model has ' + ", ".join(f'"{name}"' for name in LAYERS)),
        ("", 'no layer ""; the model has ' + ", ".join(f'"{name}"' for name in LAYERS)),
        (
            "a\nb" * 1000,
            'no layer "' + r"a\nb" * 66 + 'a\\n"; the model has ' + ", ".join(f'"{n}"' for n in LAYERS),
        ),
    ],
    ids=["typo", "input", "weight", "empty", "long"],
)
def test_unknown_layers_are_refused_with_the_closest_names(loaded: Model, name: str, message: str) -> None:
    with pytest.raises(UnknownLayerError) as error:
        loaded.resolve_layers(["conv1", name])
    assert str(error.value) == message
    with pytest.raises(UnknownLayerError, match="no layer"):
        loaded.run(images(1, 1, 32, 32), [name])


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, 'got the inputs none; expected "image"'),
        ({"picture": np.zeros(1)}, 'got the inputs "picture"; expected "image"'),
        (images(1, 1, 32, 32) | {"x": np.zeros(1)}, 'got the inputs "image", "x"; expected "image"'),
        (
            {"image": np.zeros((1, 1, 32, 32))},
            'the input "image" is float64; expected float32',
        ),
        (images(1, 32, 32), 'the input "image" has shape [1, 32, 32]; expected [any, 1, 32, 32]'),
        (images(1, 3, 32, 32), 'the input "image" has shape [1, 3, 32, 32]; expected [any, 1, 32, 32]'),
    ],
    ids=["none", "wrong name", "one too many", "type", "rank", "size"],
)
def test_inputs_that_do_not_fit_are_refused(loaded: Model, feeds: dict[str, Array], message: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        loaded.check_inputs(feeds)
    assert str(error.value) == message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_where_that_is_wanted(loaded: Model, bad: float) -> None:
    feeds = images(2, 1, 32, 32)
    loaded.check_inputs(feeds, finite=True)
    feeds["image"][1, 0, 3, 4] = bad
    loaded.check_inputs(feeds)
    with pytest.raises(InvalidRequestError) as error:
        loaded.check_inputs(feeds, finite=True)
    assert str(error.value) == 'the input "image" has NaN or infinite values; expected finite numbers'


@pytest.mark.parametrize("words", [np.array(["a", "b"]), np.array(["a", "b"], dtype=object)])
def test_texts_may_come_as_any_of_numpy_s_string_types(words: Array) -> None:
    speaker = Model(texts().SerializeToString(), Execution())
    speaker.check_inputs({"words": words})
    assert speaker.run({"words": words}, ["twice"])["twice"].tolist() == ["a!!", "b!!"]


def test_answers_are_in_the_order_asked_and_only_what_was_asked(loaded: Model) -> None:
    assert list(loaded.run(images(2, 1, 32, 32), ["fc1", "probabilities", "conv1"])) == [
        "fc1",
        "probabilities",
        "conv1",
    ]
    assert list(loaded.run(images(2, 1, 32, 32), ["probabilities"])) == ["probabilities"]


def test_asking_for_nothing_is_refused(loaded: Model) -> None:
    with pytest.raises(InvalidRequestError, match='no output was asked for; expected at least one of "prob'):
        loaded.run(images(1, 1, 32, 32), [])


def test_arrays_need_not_be_contiguous(loaded: Model) -> None:
    feeds = images(1, 1, 32, 32)
    turned = {"image": np.ascontiguousarray(feeds["image"].transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)}
    assert not turned["image"].flags.c_contiguous
    expected = loaded.run(feeds, ["conv1"])["conv1"]
    np.testing.assert_array_equal(loaded.run(turned, ["conv1"])["conv1"], expected)


@pytest.mark.parametrize("batch", [1, 7])
def test_estimated_bytes_are_those_of_the_answer(loaded: Model, batch: int) -> None:
    feeds = images(batch, 1, 32, 32)
    answer = loaded.run(feeds, LAYERS)
    estimates = {name: loaded.estimate_bytes([name], {"image": feeds["image"].shape}) for name in LAYERS}
    assert estimates == {name: array.nbytes for name, array in answer.items()}
    assert loaded.estimate_bytes(LAYERS, {"image": feeds["image"].shape}) == sum(estimates.values())


def test_estimates_follow_the_size_of_the_picture() -> None:
    free = Model(free_size().SerializeToString(), Execution())
    shapes = [(1, 1, 4, 4), (1, 1, 40, 60)]
    assert [free.estimate_bytes(["conv"], {"image": shape}) for shape in shapes] == [3 * 16 * 4, 3 * 2400 * 4]


def test_sizes_that_depend_on_values_are_estimated_as_the_largest_that_is_known() -> None:
    counter = Model(counting().SerializeToString(), Execution())
    # `places` has a column for each positive element of x; the largest else is `best`, 10 int64.
    assert counter.estimate_bytes(["places"], {"x": (10, 4)}) == 10 * 1 * 8
    assert counter.estimate_bytes(["best", "places"], {"x": (10, 4)}) == 2 * 10 * 1 * 8


def test_a_failed_run_tells_the_caller_nothing_but_the_log_everything() -> None:
    free = Model(free_size().SerializeToString(), Execution())
    with capture_logs() as logs, pytest.raises(ExecutionError) as error:
        free.run({"image": np.zeros((1, 1, 3, 3), np.float32)}, ["y"])
    assert str(error.value) == "the model's run failed; the server's log says why"
    assert [(entry["event"], entry["outputs"], entry["exc_info"]) for entry in logs] == [
        ("run failed", ("y",), True)
    ]
    assert "reshape" in str(error.value.__cause__).lower()


def test_a_tap_session_that_can_not_be_built_fails_its_run_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh = Model(DATA, Execution())
    monkeypatch.setattr("service.model.create_session", lambda *_: create_session(b"broken", Execution()))
    with capture_logs() as logs, pytest.raises(ExecutionError, match=r"^the model's run failed"):
        fresh.run(images(1, 1, 32, 32), ["conv1"])
    assert [entry["event"] for entry in logs] == ["run failed"]
    assert list(fresh.run(images(1, 1, 32, 32), ["probabilities"])) == ["probabilities"]
    monkeypatch.undo()
    assert list(fresh.run(images(1, 1, 32, 32), ["conv1"])) == ["conv1"]


def test_constants_among_the_inputs_may_be_left_out_or_overridden() -> None:
    loaded = Model(exposed_initializer().SerializeToString(), Execution())
    x = {"x": np.ones((1, 4), np.float32)}
    other = x | {"w": np.zeros((4, 3), np.float32), "b": np.full(3, 7, np.float32)}
    for feeds in (x, other):
        loaded.check_inputs(feeds)
    assert loaded.run(other, ["y"])["y"].tolist() == [[7.0, 7.0, 7.0]]
    assert loaded.run(x, ["y"])["y"].tolist() != [[7.0, 7.0, 7.0]]
    with pytest.raises(InvalidRequestError) as error:
        loaded.check_inputs({"w": other["w"]})
    assert str(error.value) == 'got the inputs "w"; expected "x" and perhaps "w", "b"'


def test_axes_may_be_empty() -> None:
    pairs = model([node("Neg", "x", "y")], [value("x", ["n", 2])], [value("y", ["n", 2])])
    loaded = Model(pairs.SerializeToString(), Execution())
    feeds = {"x": np.zeros((0, 2), np.float32)}
    loaded.check_inputs(feeds)
    assert loaded.run(feeds, ["y"])["y"].shape == (0, 2)
