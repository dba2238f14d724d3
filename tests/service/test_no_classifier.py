"""Models that are no image classifiers: each reason, with the line of config.toml that mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.classifier import Classifier, NoClassifier
from service.device import Execution
from service.errors import ModelLoadError
from service.model import Model
from service.model_config import ModelConfig
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.service.head_models import SOFTMAX, binary, head, linear_classifier
from tests.service.onnx_models import model, node, value
from tests.service.test_classify import failure, probabilities
from tests.serving import Serving


def several(second: str = "Identity") -> onnx.ModelProto:
    """Probabilities, and features beside them."""
    nodes = [SOFTMAX, node(second, "z", "features")]
    outputs = [value("p", ["n", 4]), value("features", ["n", 4])]
    return model(nodes, [value("z", ["n", 4])], outputs)


def with_size(shape: list[int | str]) -> onnx.ModelProto:
    """A picture and its size, as detectors take them."""
    nodes = [
        node("Cast", "size", "sizes", to=TensorProto.FLOAT),
        node("ReduceProd", "sizes last", "area"),
        node("Div", "z area", "y"),
    ]
    inputs = [value("z", ["n", 4]), value("size", shape, TensorProto.INT64)]
    return model(nodes, inputs, [value("y", ["n", 4])], {"last": np.array([-1])})


def zip_map() -> onnx.ModelProto:
    """A label, and maps of probabilities by label, as scikit-learn's converters write by default."""
    built = linear_classifier("SOFTMAX")
    attributes = {"classlabels_strings": ["ant", "bee", "cat", "dog"], "domain": "ai.onnx.ml"}
    built.graph.node.append(node("ZipMap", "probabilities", "maps", **attributes))
    del built.graph.output[1]
    number = onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = onnx.helper.make_sequence_type_proto(onnx.helper.make_map_type_proto(TensorProto.STRING, number))
    built.graph.output.append(onnx.helper.make_value_info("maps", maps))
    return built


def found(built: onnx.ModelProto, **config: object) -> Classifier | NoClassifier:
    return Classifier.of(Model(built.SerializeToString(), Execution()), ModelConfig.model_validate(config))


@pytest.mark.parametrize(
    ("build", "reason", "mended", "kind"),
    [
        pytest.param(
            several,
            'its outputs "p", "features" may all hold classes; name the one that does in config.toml, such '
            'as output = "p"',
            {"output": "p"},
            "softmax",
            id="several outputs",
        ),
        pytest.param(
            lambda: binary(sigmoid=False),
            'its output "y" has one value for each item, and no sigmoid computes it; if it is the '
            'probability of a class say head = "sigmoid" in config.toml; if a sigmoid is to make it one say '
            'head = "sigmoid_logits"',
            {"head": "sigmoid_logits"},
            "sigmoid_logits",
            id="one value",
        ),
        pytest.param(
            lambda: head([node("Softmax", "z", "y", axis=0)]),
            'it isn\'t known what its output "y" holds: the values of a trial run go from 0.',
            {"head": "logits"},
            "logits",
            id="softmax over the batch",
        ),
        pytest.param(
            lambda: head([SOFTMAX, node("Mul", "p hundred", "y")], {"hundred": np.array(100, np.float32)}),
            "are at least 0 and always sum to 100",
            {"head": "logits"},
            "logits",
            id="percent",
        ),
        pytest.param(
            lambda: head(
                [node("Sigmoid", "z", "s"), node("Mul", "s half", "y")], {"half": np.array(0.5, np.float32)}
            ),
            "as probabilities do, but their sums",
            {"head": "sigmoid"},
            "sigmoid",
            id="between 0 and 1",
        ),
        pytest.param(
            lambda: with_size(["n", 2]),
            'it takes 2 inputs, "z", "size"; if all but the picture are the same for every picture, give '
            "their values in config.toml, such as [extra_inputs] size = [224, 224]",
            {"extra_inputs": {"size": [2, 3]}},
            "logits",
            id="an image and a size",
        ),
        pytest.param(
            lambda: head([node("ArgMax", "z", "y", axis=1)], None, ["n", 1], TensorProto.INT64),
            'its output "y" holds int64; expected floating-point numbers',
            None,
            "",
            id="a label alone",
        ),
        pytest.param(
            onnx_models.without_batch,
            'its output "squashed" has the shape [4]; expected [N, classes], N items',
            None,
            "",
            id="no batch",
        ),
        pytest.param(
            lambda: head(
                [node("Unsqueeze", "z s", "u"), node("Concat", "u u", "y", axis=2)],
                {"s": np.array([2])},
                ["n", 4, 2],
            ),
            'its output "y" has the shape [any, 4, 2]; expected one axis for the classes',
            None,
            "",
            id="two axes",
        ),
        pytest.param(
            lambda: head([node("Transpose", "z", "y")], None, [4, "n"]),
            'its output "y" has 4 rows for 5 items; expected one for each',
            None,
            "",
            id="rows that aren't items",
        ),
        pytest.param(
            lambda: model(
                [
                    node("AveragePool", "x", "a", kernel_shape=[3], strides=[3]),
                    node("Softmax", "a", "y", axis=1),
                ],
                [value("x", ["n", 4, "time"])],
                [value("y", ["n", 4, "time"])],
            ),
            'its output "y" has the shape [any, 4, any]; expected one axis for the classes',
            None,
            "",
            id="classes for each time",
        ),
        pytest.param(
            zip_map,
            'its output "label" holds texts; expected floating-point numbers; its output "maps" is no '
            "tensor; scikit-learn's models are converted with the option zipmap=False",
            None,
            "",
            id="maps of probabilities",
        ),
        pytest.param(onnx_models.texts, 'its input "words" holds texts', None, "", id="texts"),
    ],
)
def test_a_reason_tells_the_line_that_mends_it(
    build: Callable[[], onnx.ModelProto], reason: str, mended: dict[str, object] | None, kind: str
) -> None:
    nothing = found(build())
    assert isinstance(nothing, NoClassifier)
    assert reason in nothing.reason
    if mended is not None:
        classifier = found(build(), **mended)
        assert isinstance(classifier, Classifier)
        assert classifier.head.kind == kind
        assert "config.toml says" in classifier.head.reason or "head" not in mended


@pytest.mark.parametrize(
    ("build", "config", "reason"),
    [
        (SOFTMAX, {"labels": ["a"]}, "there are 1 labels for 4 classes; give one for each"),
        (SOFTMAX, {"labels": "imagenet-1k"}, "there are 1000 labels for 4 classes"),
        (
            node("Identity", "z", "p"),
            {"head": "softmax"},
            'head = "softmax", but values of a trial run go from -',
        ),
        (
            node("Identity", "z", "p"),
            {"head": "log_softmax"},
            "exponentials of a trial run's values don't sum",
        ),
        (SOFTMAX, {"extra_inputs": {"size": 3}}, 'extra_inputs: no input "size"; the model has "z"'),
        (SOFTMAX, {"extra_inputs": {"z": "x"}}, 'extra_inputs: the value of "z" is no float32'),
        (SOFTMAX, {"extra_inputs": {"z": [1, 2]}}, 'extra_inputs: the value of "z" is no float32'),
    ],
)
def test_what_contradicts_the_model_is_refused(
    build: onnx.NodeProto, config: dict[str, object], reason: str
) -> None:
    built = model([build], [value("z", ["n", 4])], [value("p", ["n", 4])])
    with pytest.raises(ModelLoadError, match=reason.replace("[", r"\[")):
        found(built, **config)


@pytest.mark.parametrize(("softmax", "kind"), [(True, "logits"), (False, "softmax")])
def test_softmax_of_earlier_releases_still_decides(softmax: bool, kind: str) -> None:
    classifier = found(head([node("Identity", "z", "y")]), softmax=softmax)
    assert isinstance(classifier, Classifier)
    assert classifier.head.kind == kind
    assert classifier.head.reason == f"config.toml says softmax = {str(softmax).lower()}"


@pytest.mark.parametrize(
    ("head_", "softmax"), [("logits", False), ("softmax", True), ("sigmoid", True), ("log_softmax", True)]
)
def test_head_and_softmax_that_contradict_each_other_are_refused(head_: str, softmax: bool) -> None:
    with pytest.raises(ValueError, match=f'head = "{head_}" contradicts softmax = {str(softmax).lower()}'):
        ModelConfig.model_validate({"head": head_, "softmax": softmax})


@pytest.mark.parametrize(("head_", "softmax"), [("logits", True), ("softmax", False), ("sigmoid", False)])
def test_head_and_softmax_may_agree(head_: str, softmax: bool) -> None:
    assert ModelConfig.model_validate({"head": head_, "softmax": softmax}).head == head_


@pytest.mark.parametrize(
    ("op_type", "kind"), [("Softmax", "softmax"), ("Relu", "logits"), ("LogSoftmax", "log_softmax")]
)
def test_a_batch_of_one_is_tried_with_several_items(op_type: str, kind: str) -> None:
    nodes = [node(op_type, "z", "p"), node("Mean", "p p", "y")]
    classifier = found(model(nodes, [value("z", [1, 4])], [value("y", [1, 4])]))
    assert isinstance(classifier, Classifier)
    assert classifier.head.kind == kind


def test_sigmoids_of_two_classes_that_happen_to_sum_to_1_stay_sigmoids() -> None:
    weights = {"small": np.array(1e-3, np.float32)}
    nodes = [node("Mul", "z small", "m"), node("Sigmoid", "m", "y")]
    classifier = found(model(nodes, [value("z", ["n", 2])], [value("y", ["n", 2])], weights))
    assert isinstance(classifier, Classifier)
    assert (classifier.head.kind, classifier.head.multi_label) == ("sigmoid", True)


def test_the_size_of_quantized_steps_is_allowed_for() -> None:
    """A thousand probabilities of about a thousandth each are all rounded to 0 by 8 bits."""
    nodes = [
        node("MatMul", "z w", "l"),
        node("Softmax", "l", "p"),
        node("QuantizeLinear", "p scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "y"),
    ]
    weights: dict[str, np.ndarray] = {
        "w": np.zeros((4, 1000), np.float32),
        "scale": np.array(1 / 255, np.float32),
        "zero": np.array(0, np.uint8),
    }
    classifier = found(model(nodes, [value("z", ["n", 4])], [value("y", ["n", 1000])], weights))
    assert isinstance(classifier, Classifier)
    assert classifier.head.kind == "softmax"


def test_a_label_beside_probabilities_is_passed_over() -> None:
    classifier = found(linear_classifier("SOFTMAX"))
    assert isinstance(classifier, Classifier)
    assert classifier.output == "probabilities"


def test_the_reason_is_told_by_describe_model_and_by_classify(tmp_path: Path, serving: Serving) -> None:
    add_model(tmp_path, "several", several())
    tensor = pack(np.zeros((1, 4), np.float32))
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        described = stub.DescribeModel(pb.DescribeModelRequest())
        code, details = failure(stub.Classify, pb.ClassifyRequest(tensor=tensor))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert 'output = "p"' in described.not_a_classifier
    assert not described.HasField("head")
    assert details == f'model "several" is no image classifier: {described.not_a_classifier}'


@pytest.mark.parametrize("shape", [["n", 2], [1, 2], [2]])
def test_an_input_that_config_toml_gives_is_sent_along(
    tmp_path: Path, serving: Serving, shape: list[int | str]
) -> None:
    add_model(tmp_path, "sized", with_size(shape))
    (tmp_path / "sized" / "config.toml").write_text("[extra_inputs]\nsize = [2, 3]\n")
    z = np.array([[6, 1, 0, -2], [0, 1, 2, 3], [5, 5, 5, 5]], np.float32)
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        answer = ClassifierStub(channel).Classify(pb.ClassifyRequest(tensor=pack(z)))
    expected = np.exp(z / 6)
    np.testing.assert_allclose(
        probabilities(answer), expected / expected.sum(axis=1, keepdims=True), rtol=1e-5
    )


def test_a_binary_head_of_two_labels_gives_both(tmp_path: Path, serving: Serving) -> None:
    add_model(tmp_path, "binary", binary())
    (tmp_path / "binary" / "config.toml").write_text('labels = ["ham", "spam"]\n')
    z = np.array([[6, 1, 0, -2]], np.float32)
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        (result,) = ClassifierStub(channel).Classify(pb.ClassifyRequest(tensor=pack(z))).results
    assert [score.label for score in result.scores] == ["ham", "spam"]
    np.testing.assert_allclose([s.probability for s in result.scores], [0.952574, 0.047426], rtol=1e-4)
