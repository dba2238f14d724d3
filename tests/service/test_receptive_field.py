"""Receptive fields against the model itself: pixels outside of a box change nothing, its corners do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.device import Execution
from service.graph import Array, Graph, Layer, ReceptiveField
from service.model import Model
from tests.service.onnx_models import channels_last, convolutions, lenet, model, node, residual, value

WHOLE = ReceptiveField((32, 32), (0, 0), (0, 0))
LENET = {
    "centered": ReceptiveField((1, 1), (1, 1), (0, 0)),
    "normalized": ReceptiveField((1, 1), (1, 1), (0, 0)),
    "conv1": ReceptiveField((5, 5), (1, 1), (0, 0)),
    "relu1": ReceptiveField((5, 5), (1, 1), (0, 0)),
    "pool1": ReceptiveField((6, 6), (2, 2), (0, 0)),
    "conv2": ReceptiveField((14, 14), (2, 2), (0, 0)),
    "relu2": ReceptiveField((14, 14), (2, 2), (0, 0)),
    "pool2": ReceptiveField((16, 16), (4, 4), (0, 0)),
    "flat": None,  # each of its elements sees another window
    **dict.fromkeys(("fc1", "relu3", "fc2", "relu4", "logits", "probabilities"), WHOLE),
}


def fields(proto: onnx.ModelProto) -> dict[str, ReceptiveField | None]:
    return {
        name: layer.receptive_field for name, layer in Graph.parse(proto.SerializeToString()).layers.items()
    }


def square(size: int, jump: int, start: int) -> ReceptiveField:
    return ReceptiveField((size, size), (jump, jump), (start, start))


def test_lenet_has_the_fields_of_its_kernels() -> None:
    assert fields(lenet()) == LENET


def test_branches_see_what_both_see() -> None:
    assert fields(residual()) == {
        "stem": square(3, 1, -1),
        "block": square(5, 1, -2),
        "sum": square(5, 1, -2),
        "shortcut": square(1, 2, 0),
        "down": square(7, 2, -3),
        "uneven": square(7, 2, -3),
        "squeezed": square(21, 0, -3),
        "gate": square(21, 0, -3),
        "excited": square(21, 0, -3),
        "flat": square(21, 0, -3),
        "logits": square(21, 0, -3),
    }


def test_padding_dilation_groups_and_transposition_count() -> None:
    assert fields(convolutions()) == {
        "transposed": square(3, 1, -1),
        "dilated": ReceptiveField((7, 9), (1, 1), (-1, -1)),
        "grouped": ReceptiveField((9, 11), (1, 1), (-1, -1)),
        "same_upper": ReceptiveField((11, 13), (2, 2), (-1, -1)),
        "same_lower": ReceptiveField((13, 15), (2, 2), (-3, -3)),
        "upsampled": None,  # its windows don't move by whole pixels
    }


def test_channels_may_come_last() -> None:
    assert fields(channels_last()) == {
        "nchw": square(1, 1, 0),
        "conv": square(3, 2, -1),
        "nhwc": square(3, 2, -1),
        "relu": square(3, 2, -1),
        "pooled": square(13, 0, -1),
        "features": square(13, 0, -1),
    }


def mixing() -> onnx.ModelProto:
    """One convolution, and behind it operators that mix its elements along some axes, or move them."""
    nodes = [
        node("Pad", "image margins", "padded"),
        node("Conv", "padded w", "conv", strides=[2, 2]),
        node("Split", "conv", "left right", axis=1, num_outputs=2),
        node("Concat", "right left", "swapped", axis=1),
        node("Concat", "conv conv", "stacked", axis=2),
        node("InstanceNormalization", "conv scale bias", "normalized"),
        node("LayerNormalization", "conv gain", "layer_normalized", axis=1),
        node("Softmax", "conv", "over_channels", axis=1),
        node("Softmax", "conv", "over_columns", axis=3),
        node("ReduceMax", "conv rows", "highest", keepdims=0),
        node("Reshape", "conv grouped", "groups"),
        node("Reshape", "conv joined", "pixels"),
        node("ReduceSum", "pixels last", "scattered_sum"),
        node("GlobalMaxPool", "conv", "maxima"),
        node("Squeeze", "maxima spatial", "features"),
        node("Mul", "conv maxima", "gated"),
        node("Resize", "conv  scales", "resized"),
    ]
    integers = {
        "margins": [0, 0, 1, 2, 0, 0, 1, 1],
        "rows": [2],
        "grouped": [-1, 2, 2, 6, 6],
        "joined": [-1, 4, 36],
    }
    constants: dict[str, Array] = {name: np.array(v, np.int64) for name, v in integers.items()}
    constants |= {"last": np.array([-1], np.int64), "spatial": np.array([2, 3], np.int64)}
    constants |= {
        "scale": np.ones(4, np.float32),
        "bias": np.zeros(4, np.float32),
        "gain": random_images((4, 6, 6)),
    }
    constants |= {
        "w": random_images((4, 2, 3, 3)) - np.float32(0.5),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    outputs = [value("resized", None), value("gated", None)]
    return model(nodes, [value("image", ["n", 2, 12, 10])], outputs, constants)


def test_mixing_along_an_axis_ends_its_motion() -> None:
    conv = ReceptiveField((3, 3), (2, 2), (-1, -2))
    whole = ReceptiveField((13, 13), (0, 0), (-1, -2))
    expected = {
        "padded": ReceptiveField((1, 1), (1, 1), (-1, -2)),
        **dict.fromkeys(("conv", "left", "right", "swapped"), conv),
        "stacked": None,
        **dict.fromkeys(("normalized", "layer_normalized"), whole),
        "over_channels": conv,
        "over_columns": ReceptiveField((3, 13), (2, 0), (-1, -2)),
        "highest": ReceptiveField((13, 3), (0, 2), (-1, -2)),
        "groups": conv,
        "pixels": None,
        "scattered_sum": None,
        **dict.fromkeys(("maxima", "features", "gated"), whole),
        "resized": None,
    }
    assert fields(mixing()) == expected


def test_two_images_have_no_one_field() -> None:
    images = [value(name, ["n", 1, 8, 8]) for name in ("left", "right")]
    both = model([node("Add", "left right", "sum")], images, [value("sum", ["n", 1, 8, 8])])
    assert fields(both) == {"sum": None}


def test_unknown_operators_have_no_field() -> None:
    image, flipped = value("image", ["n", 1, 4, 4]), value("y", ["n", 1, 4, 4])
    cumulated = model(
        [node("CumSum", "image axis", "sums"), node("Relu", "sums", "y")],
        [image],
        [flipped],
        {"axis": np.array(3, np.int64)},
    )
    assert fields(cumulated) == {"sums": None, "y": None}


def elements(layer: Layer) -> set[tuple[int, int]]:
    """Pick the first, the last and another element of a feature map."""
    rows, columns = (size or 1 for size in (layer.spec.shape or ())[2:] or (1, 1))
    return {(0, 0), (rows // 2, columns // 3), (rows - 1, columns - 1)}


def assert_sees_exactly(loaded: Model, layer: Layer, image: Array, change: float) -> None:
    """Compare the box with what changed pixels do; `image` is [N, C, H, W], and any of its items may tell."""
    (name,) = [spec.name for spec in loaded.inputs]
    field, (height, width) = layer.receptive_field, image.shape[2:]
    assert field is not None

    def seen(pixels: Array, element: tuple[int, int]) -> Array:
        array = loaded.run({name: pixels}, [layer.name])[layer.name]
        return array[:, :, *element] if array.ndim == 4 else array

    for element in elements(layer):
        before = seen(image, element)
        top, left = (s + i * j for s, i, j in zip(field.start, element, field.jump, strict=True))
        bottom, right = top + field.size[0], left + field.size[1]
        box = np.s_[:, :, max(top, 0) : bottom, max(left, 0) : right]
        outside = image + np.float32(change)
        outside[box] = image[box]
        np.testing.assert_allclose(seen(outside, element), before, rtol=1e-6, atol=1e-6)
        for row, column in product({top, bottom - 1}, {left, right - 1}):
            if row in range(height) and column in range(width):
                corner = image.copy()
                corner[:, :, row, column] += np.float32(change)
                assert not np.array_equal(seen(corner, element), before), (layer.name, element, row, column)


def random_images(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize("name", [name for name, field in LENET.items() if field])
def test_lenet_sees_what_its_fields_say(name: str) -> None:
    loaded = Model(lenet().SerializeToString(), Execution())
    assert_sees_exactly(loaded, loaded.graph.layers[name], random_images((4, 1, 32, 32)), change=5)


@pytest.mark.parametrize(
    ("build", "shape"),
    [(residual, (4, 3, 16, 16)), (convolutions, (4, 4, 20, 20))],
    ids=["residual", "convolutions"],
)
def test_foreign_models_see_what_their_fields_say(
    build: Callable[[], onnx.ModelProto], shape: tuple[int, ...]
) -> None:
    loaded = Model(build().SerializeToString(), Execution())
    for layer in loaded.graph.layers.values():
        if layer.receptive_field and len(layer.spec.shape or ()) in (2, 4):
            assert_sees_exactly(loaded, layer, random_images(shape), change=5)


Pair = tuple[int, int]


@dataclass(frozen=True)
class Sliding:
    """An operator of a random stack."""

    op_type: str
    kernel: Pair
    strides: Pair
    dilations: Pair
    padded: bool

    def node(self, depth: int, inputs: str) -> onnx.NodeProto:
        pads = [k - 1 if self.padded else 0 for k in self.kernel] * 2
        sizes = {
            "kernel_shape": self.kernel,
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": pads,
        }
        return node(self.op_type, inputs, f"layer{depth}", **sizes)


def pairs(largest: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(1, largest), st.integers(1, largest))


slidings = st.builds(
    Sliding, st.sampled_from(["Conv", "MaxPool", "AveragePool"]), pairs(3), pairs(2), pairs(2), st.booleans()
)


@settings(max_examples=30, deadline=None)
@given(st.lists(slidings, min_size=1, max_size=3), st.integers(0, 2**16))
def test_stacks_of_windows_see_what_their_fields_say(stack: list[Sliding], seed: int) -> None:
    # Positive weights and pixels: no cancellation or larger neighbour can hide a corner that is seen.
    weights: dict[str, Array] = {}
    nodes = []
    for depth, sliding in enumerate(stack):
        inputs = f"layer{depth - 1}" if depth else "image"
        if sliding.op_type == "Conv":
            weights[f"w{depth}"] = random_images((1, 1, *sliding.kernel), seed + depth) + np.float32(0.1)
            inputs += f" w{depth}"
        nodes.append(sliding.node(depth, inputs))
    last = nodes[-1].output[0]
    stacked = model(nodes, [value("image", ["n", 1, 32, 31])], [value(last, ["n", 1, None, None])], weights)
    loaded = Model(stacked.SerializeToString(), Execution())
    pixels = random_images((2, 1, 32, 31), seed)
    layers = loaded.graph.layers
    maps = loaded.run({"image": pixels}, list(layers))
    assert {n: (None, *a.shape[1:]) for n, a in maps.items()} == {
        n: la.spec.shape for n, la in layers.items()
    }
    assert_sees_exactly(loaded, layers[last], pixels, change=1000)
