"""Text files that other editors wrote: with a mark in front, Windows' line ends, another encoding."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.auth import AuthRules, guard
from service.errors import ModelLoadError, StartupError
from service.model_config import read_model_config
from service.model_files import ModelFiles
from service.text_files import text_of
from service.version_labels import set_label
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.serving import Serving

MARK = "\ufeff"


def test_a_config_with_a_mark_is_read(tmp_path: Path, serving: Serving) -> None:
    add_model(tmp_path, "tiny", onnx_models.classifier(2))
    (tmp_path / "tiny/config.toml").write_bytes(f'{MARK}labels = [\r\n"rosé", "dog"]\r\n'.encode())
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        asked = pb.ClassifyRequest(tensor=pack(np.ones((1, 2), np.float32)))
        (result,) = ClassifierStub(channel).Classify(asked).results
    assert {score.label for score in result.scores} == {"rosé", "dog"}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", MARK])
def test_labels_are_read_whatever_the_ends_of_lines(tmp_path: Path, mark: str, ends: str) -> None:
    add_model(tmp_path, "tiny", onnx_models.classifier(3))
    (tmp_path / "tiny/config.toml").write_text('labels_file = "labels.txt"')
    lines = ["crane", "crane", "sea\u2028gull", ""]  # ImageNet has two cranes
    (tmp_path / "tiny/labels.txt").write_bytes((mark + ends.join(lines)).encode())
    config = read_model_config(ModelFiles.at(tmp_path), "tiny")
    assert config.labels == ("crane", "crane", "sea\u2028gull")


def test_tokens_with_a_mark_are_read(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(f"{MARK}{sha256(b'open').hexdigest()} me\r\n".encode())
    check = guard(AuthRules(file=file))
    assert check is not None
    assert check("/a/B", [("authorization", "Bearer open")]) is None
    file.write_text("x", "utf-16")
    with pytest.raises(StartupError, match="it is UTF-16; save it as UTF-8"):
        guard(AuthRules(file=file))


@pytest.mark.parametrize("mark", ["", MARK])
def test_an_edit_of_labels_keeps_the_mark_and_the_ends_of_lines(tmp_path: Path, mark: str) -> None:
    add_model(tmp_path, "tiny", onnx_models.classifier(2))
    file = tmp_path / "tiny/config.toml"
    file.write_bytes(f"{mark}softmax = false\r\n\r\n[version_labels]\r\ncanary = 1\r\n".encode())
    set_label(tmp_path, "tiny", "stable", 1)
    lines = file.read_bytes().decode().splitlines()
    assert lines == [f"{mark}softmax = false", "", "[version_labels]", "canary = 1", "stable = 1"]
    assert b"softmax = false\r\n\r\n[version_labels]\r\ncanary = 1\r\n" in file.read_bytes()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "it is a Git LFS pointer; git lfs pull",
        ),
        ("<!DOCTYPE html>\n<html>\n404\n", "it is a web page; download the file itself"),
    ],
    ids=["pointer", "page"],
)
def test_what_stands_in_for_the_labels_is_not_taken_for_them(tmp_path: Path, text: str, reason: str) -> None:
    """They have three lines, and the model has three classes."""
    add_model(tmp_path, "tiny", onnx_models.classifier(3))
    (tmp_path / "tiny/config.toml").write_text('labels_file = "labels.txt"')
    (tmp_path / "tiny/labels.txt").write_text(text)
    with pytest.raises(ModelLoadError, match=f"^labels.txt can't be read: {reason}"):
        read_model_config(ModelFiles.at(tmp_path), "tiny")


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        ("utf-16", "it is UTF-16; save it as UTF-8"),
        ("utf-16-be", "line 2 is not UTF-8; save it as UTF-8"),
        ("latin-1", "line 2 is not UTF-8; save it as UTF-8"),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, encoding: str, reason: str) -> None:
    data = '# ours\nlabels = ["rosé"]'.encode(encoding)
    with pytest.raises(ValueError, match=reason):
        text_of(data)
    add_model(tmp_path, "tiny", onnx_models.classifier(2))
    (tmp_path / "tiny/config.toml").write_bytes(data)
    with pytest.raises(ModelLoadError, match=f"^config.toml can't be read: {reason}$"):
        read_model_config(ModelFiles.at(tmp_path), "tiny")
