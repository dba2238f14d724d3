"""Servers of models with weights in other files: as of the same models in one file."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.checks.finding import Verdict
from service.checks.models import models as check_models
from service.settings import Settings
from tests.service import onnx_models
from tests.service.external import DATA, split
from tests.service.oip.stub import InferenceStub, arrays, request
from tests.serving import Serving

DOCUMENT = Path(__file__).parents[2] / "docs/models.md"


def test_the_layout_that_the_documents_show_is_served(tmp_path: Path) -> None:
    (tree,) = re.findall(r"^```\n(mymodels/.*?)```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    folders: list[str] = []
    for line in tree.splitlines():
        name = line.split()[0]
        del folders[(len(line) - len(line.lstrip())) // 2 :]
        place = tmp_path.joinpath(*folders, name)
        if name.endswith("/"):
            folders.append(name)
            place.mkdir()
        else:
            place.touch()
    flowers = tmp_path / "mymodels/flowers"
    (flowers / "config.toml").write_text('labels_file = "labels.txt"\nhead = "logits"\nversions.all = true')
    (flowers / "labels.txt").write_text("daisy\nrose\ntulip\n")
    (flowers / "1/model.onnx").write_bytes(onnx_models.classifier().SerializeToString())
    split(tmp_path / "new", onnx_models.classifier(), number=2)
    for file in (tmp_path / "new/2").iterdir():
        assert (flowers / "2" / file.name).is_file()
        file.replace(flowers / "2" / file.name)
    findings = check_models(Settings(model_repository=tmp_path / "mymodels"))
    assert [(f.check, f.verdict) for f in findings] == [
        ("model flowers/1", Verdict.GOOD),
        ("model flowers/2", Verdict.GOOD),
    ]


def test_served_equal_to_the_model_in_one_file(tmp_path: Path, serving: Serving) -> None:
    model = onnx_models.lenet()
    split(tmp_path / "one-file-beside", model)
    split(tmp_path / "many-files-beside", model, one_file=False)
    (tmp_path / "whole/1").mkdir(parents=True)
    (tmp_path / "whole/1/model.onnx").write_bytes(model.SerializeToString())
    images = np.random.default_rng(3).random((3, 1, 32, 32), dtype=np.float32)
    names = ("whole", "one-file-beside", "many-files-beside")
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub, inference = ClassifierStub(channel), InferenceStub(channel)
        answers = [
            stub.Classify(pb.ClassifyRequest(model=m, tensor=pack(images), layers=["*"])) for m in names
        ]
        about = [stub.DescribeModel(pb.DescribeModelRequest(model=m, include_weights=True)) for m in names]
        tensors = [
            arrays(inference.ModelInfer(request(m, [("image", "FP32", images)], ["conv2", "probabilities"])))
            for m in names
        ]
    assert len({answer.digest for answer in answers}) == 3
    for answer, described, tensor in zip(answers[1:], about[1:], tensors[1:], strict=True):
        assert answer.results == answers[0].results
        assert answer.feature_maps == answers[0].feature_maps
        assert described.digest == answer.digest
        assert described.layers == about[0].layers
        assert any(layer.weights for layer in described.layers)
        for name, array in tensor.items():
            assert array.tobytes() == tensors[0][name].tobytes()


IMAGES = np.random.default_rng(5).random((3, 1, 8, 8), dtype=np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A repository with what torch writes by default, and the probabilities that the network gives."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    ).eval()
    root = tmp_path_factory.mktemp("models")
    file = root / "m/1/model.onnx"
    file.parent.mkdir(parents=True)
    images = torch.from_numpy(IMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's about itself
        shapes = ({0: torch.export.Dim("n")},)
        torch.onnx.export(network, (images,), file, dynamo=True, dynamic_shapes=shapes, verbose=False)
    assert sorted(path.name for path in file.parent.iterdir()) == ["model.onnx", DATA]
    return root, network(images).softmax(1).detach().numpy()


def test_what_torch_writes_is_good_to_the_doctor(exported: tuple[Path, np.ndarray]) -> None:
    loaded, *others = check_models(Settings(model_repository=exported[0]))
    assert loaded.verdict is Verdict.GOOD
    assert all(finding.verdict is not Verdict.BAD for finding in others)


def test_what_torch_writes_is_served(exported: tuple[Path, np.ndarray], serving: Serving) -> None:
    root, expected = exported
    with serving(model_repository=root) as server, grpc.insecure_channel(server.address) as channel:
        answer = ClassifierStub(channel).Classify(pb.ClassifyRequest(tensor=pack(IMAGES)))
    found = [
        [score.probability for score in sorted(result.scores, key=lambda s: s.index)]
        for result in answer.results
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
