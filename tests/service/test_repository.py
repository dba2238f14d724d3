"""What a folder of models becomes: ready, refused with a reason, or ignored; and how it is looked up."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest
from onnx import helper, numpy_helper

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.errors import InvalidRequestError, ModelNotReadyError, StartupError, UnknownModelError
from service.from_settings import load_repository
from service.repository import Repository
from service.settings import Settings
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.service.test_classify import SAMPLES
from tests.serving import Serving


def load(folder: Path) -> Repository:
    return load_repository(Settings(model_repository=folder, device="cpu")).repository


def test_the_newest_ready_version_answers(repository: Path) -> None:
    (repository / "lenet" / "config.toml").write_text("versions.all = true\n")
    add_model(repository, "lenet", onnx_models.lenet(seed=2), "2")
    add_model(repository, "lenet", onnx_models.lenet(seed=10), "10")
    add_model(repository, "lenet", b"", "11")
    models = load(repository)
    assert models.get("lenet").version == "10"
    assert models.get("").version == "10"
    assert models.get("lenet", "2").version == "2"
    with pytest.raises(UnknownModelError, match='has no version "3"; it has 1, 2, 10, 11'):
        models.get("lenet", "3")
    assert [entry.version for entry in models.entries()] == ["1", "2", "10", "11"]


def test_one_bad_file_does_not_keep_the_others_from_serving(repository: Path, serving: Serving) -> None:
    add_model(repository, "broken", b"no model at all")
    with serving(model_repository=repository) as server, grpc.insecure_channel(server.address) as channel:
        models = ClassifierStub(channel).ListModels(pb.ListModelsRequest()).models
    assert [(m.name, m.version, m.state) for m in models] == [
        ("broken", "1", pb.MODEL_STATE_UNAVAILABLE),
        ("lenet", "1", pb.MODEL_STATE_READY),
    ]
    assert models[0].reason
    assert models[1].provider == "CPUExecutionProvider"
    assert server.models == ("lenet",)


def test_a_model_that_could_not_be_loaded_is_not_ready(repository: Path) -> None:
    add_model(repository, "broken", b"")
    with pytest.raises(ModelNotReadyError, match='model "broken" version 1 could not be loaded'):
        load(repository).get("broken")


def test_without_a_name_several_models_are_no_answer(repository: Path) -> None:
    add_model(repository, "other", onnx_models.lenet(seed=1))
    with pytest.raises(InvalidRequestError, match="it is one of lenet, other"):
        load(repository).get("")


@pytest.mark.parametrize(
    "name", ["LENET", "lenet/1", "../lenet", "..", "/etc/passwd", " lenet", "lenet\0", "l" * 10**5]
)
def test_a_name_is_looked_up_and_never_a_path(repository: Path, name: str) -> None:
    with pytest.raises(UnknownModelError) as info:
        load(repository).get(name)
    assert len(str(info.value)) < 300


def test_folders_that_are_no_versions_are_ignored(repository: Path) -> None:
    for name in ("003", "abc", "-1", "1.bak", "0"):
        (repository / "lenet" / name).mkdir()
    (repository / ".git" / "1").mkdir(parents=True)
    assert [(entry.name, entry.version) for entry in load(repository).entries()] == [("lenet", "1")]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "model.onnx"),
        (b"", "model.onnx"),
        (b"garbage", "model.onnx"),
        (onnx_models.lenet().SerializeToString()[:5000], "model.onnx"),
    ],
    ids=["missing", "empty", "garbage", "truncated"],
)
def test_a_repository_with_nothing_to_serve_stops_the_start(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    if content is None:
        (tmp_path / "lenet" / "1").mkdir(parents=True)
    else:
        add_model(tmp_path, "lenet", content)
    with pytest.raises(StartupError, match=f"no model in .* can be served: lenet/1: .*{reason}"):
        load(tmp_path)


def test_an_empty_repository_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"holds no model; put one at .*/<name>/1/model\.onnx"):
        load(tmp_path)


def test_a_repository_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="nowhere is not a folder"):
        load(tmp_path / "nowhere")


def test_logits_become_probabilities_and_labels_come_from_the_config(
    tmp_path: Path, serving: Serving
) -> None:
    add_model(tmp_path, "tiny", onnx_models.classifier())
    (tmp_path / "tiny" / "config.toml").write_text('labels = ["cat", "dog", "eel"]\n')
    request = pb.ClassifyRequest(tensor=pack(np.array([[0.0, 1.0]], np.float32)))
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        scores = ClassifierStub(channel).Classify(request).results[0].scores
    expected = np.exp([3.0, 4.0, 5.0]) / np.exp([3.0, 4.0, 5.0]).sum()
    assert [score.label for score in scores] == ["eel", "dog", "cat"]
    np.testing.assert_allclose([score.probability for score in scores], expected[::-1], rtol=1e-6)


@pytest.mark.parametrize("softmax", [True, False])
def test_softmax_is_applied_exactly_once(tmp_path: Path, softmax: bool) -> None:
    add_model(tmp_path, "tiny", onnx_models.classifier(softmax=softmax))
    classifier = load(tmp_path).get("tiny").classifier()
    assert classifier.head.kind == ("softmax" if softmax else "logits")
    assert classifier.labels == ("0", "1", "2")


def test_labels_can_come_from_a_file(tmp_path: Path) -> None:
    add_model(tmp_path, "tiny", onnx_models.classifier())
    (tmp_path / "tiny" / "config.toml").write_text('labels_file = "labels.txt"\n')
    (tmp_path / "tiny" / "labels.txt").write_bytes("\ufeffcat\r\ndog\r\n\r\neel".encode())
    assert load(tmp_path).get("tiny").classifier().labels == ("cat", "dog", "eel")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("labels = [", "config.toml can't be read"),
        ("label = ['a']", "label: Extra inputs are not permitted"),
        ("labels = ['a', 'b']", "there are 2 labels for 3 classes"),
        ("labels_file = '../secrets.txt'", "must be the name of a file in the same folder"),
        ("labels_file = 'none.txt'", "config.toml: the labels_file none.txt is not there"),
        ("labels_file = '..'", "must be the name of a file in the same folder"),
        ("[batching]\nmax_batch_size = 0", "batching.max_batch_size: Input should be greater than 0"),
        ("[batching]\nmax_delay = 1", "batching.max_delay: Extra inputs are not permitted"),
        ("versions.latest = 0", "versions.latest: Input should be greater than 0"),
        ("versions.all = false", "versions.all: Input should be True"),
        ("versions.list = []", "versions.list: Tuple should have at least 1 item"),
        ("[versions]\nlatest = 1\nlist = [1]", "versions: Value error, keep one of latest, all and list"),
        ("versions.list = [2]", "tiny/2: model.onnx is missing"),
        ("preload_taps = [['score']]", 'preload_taps: no layer "score"; did you mean "scores"?'),
        ("preload_taps = [[], [], [], [], []]", "5 sets of layers; the setting tap_sessions allows 4"),
        ("labels = ['\xff']", "config.toml can't be read"),
        ("labels = ['a']\nlabels_file = 'x'", "has both labels and labels_file"),
        ("output = 'logits'", 'output "logits" is none of scores'),
        ("[preprocessing]\nkind = 'crop'", "preprocessing.kind"),
    ],
)
def test_a_wrong_config_is_refused_with_its_reason(tmp_path: Path, config: str, reason: str) -> None:
    add_model(tmp_path, "tiny", onnx_models.classifier())
    (tmp_path / "tiny" / "config.toml").write_bytes(config.encode("latin-1"))
    with pytest.raises(StartupError) as info:
        load(tmp_path)
    assert reason in str(info.value)
    assert str(tmp_path) not in str(info.value).removeprefix(f"no model in {tmp_path}")


def test_a_model_that_does_not_tell_its_preprocessing_takes_tensors_only(
    tmp_path: Path, serving: Serving
) -> None:
    add_model(tmp_path, "tiny", onnx_models.classifier())
    request = pb.ClassifyRequest(images=pb.EncodedImages(images=[SAMPLES[0].read_bytes()]))
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as info:
            ClassifierStub(channel).Classify(request)
        assert isinstance(info.value, grpc.Call)
        assert info.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "send a tensor" in (info.value.details() or "")


def test_layers_of_strings_are_left_out_of_all_and_refused_by_name(tmp_path: Path, serving: Serving) -> None:
    """A classifier that also looks its class's name up, in the graph."""
    model = onnx_models.classifier()
    model.graph.node.extend(
        [
            helper.make_node("ArgMax", ["scores"], ["class"], axis=1, keepdims=0),
            helper.make_node("Gather", ["names", "class"], ["name"]),
        ]
    )
    names = numpy_helper.from_array(np.array(["cat", "dog", "eel"], np.object_), "names")
    model.graph.initializer.append(names)
    add_model(tmp_path, "tiny", model)
    tensor = pack(np.array([[0.0, 1.0]], np.float32))
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        every = stub.Classify(pb.ClassifyRequest(tensor=tensor, layers=["*"]))
        with pytest.raises(grpc.RpcError) as info:
            stub.Classify(pb.ClassifyRequest(tensor=tensor, layers=["name"]))
    assert [layer.name for layer in every.feature_maps] == ["scores", "class"]
    assert isinstance(info.value, grpc.Call)
    assert info.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert 'layer "name" holds strings' in (info.value.details() or "")
