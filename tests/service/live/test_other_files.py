"""Versions whose weights are in other files: they come and change as one."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import grpc
import onnx
import pytest
from structlog.testing import capture_logs

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from service.changeover import ChangeOver, Outcome
from service.external_data import ExternalData
from service.folder_view import FolderView
from service.loading import Version, loaded, read_version
from service.model_config import ModelConfig
from service.model_data import FilesChangedError
from service.model_files import ModelFiles
from service.start_up import load_models
from service.suspects import Suspects
from service.trial import Trial, TrialLimits
from tests.service.external import DATA, split
from tests.service.live.repositories import ask, put, version, wait_for, wait_until, wait_until_true
from tests.service.live.test_trial import OPTIONS
from tests.serving import Serving


def parts(folder: Path, number: int) -> tuple[bytes, bytes]:
    """Return the model and the weights of a version that is made aside."""
    file = split(folder, version(number))
    return file.read_bytes(), file.with_name(DATA).read_bytes()


def replace(file: Path, data: bytes) -> None:
    """Put a file in another's place at once."""
    new = file.with_name(f".{file.name}")
    new.write_bytes(data)
    new.replace(file)


@pytest.fixture
def place(folder: Path, tmp_path: Path) -> Path:
    """The folder of version 1 of "tiny", whose weight is beside it."""
    model, data = parts(tmp_path / "first", 1)
    (folder / "tiny/1/model.onnx").write_bytes(model)
    (folder / "tiny/1" / DATA).write_bytes(data)
    return folder / "tiny/1"


def test_data_that_is_replaced_alone_is_loaded(place: Path, stub: ClassifierStub, tmp_path: Path) -> None:
    assert ask(stub) == ("1", 1.0)
    replace(place / DATA, parts(tmp_path / "new", 5)[1])
    wait_until_true(lambda: ask(stub) == ("1", 5.0))
    (place / DATA).write_bytes(parts(tmp_path / "newer", 6)[1])
    wait_until_true(lambda: ask(stub) == ("1", 6.0))


def test_both_files_change_as_one(place: Path, stub: ClassifierStub, tmp_path: Path) -> None:
    """The new model's weights are elsewhere in its data: with the other's data neither could be loaded."""
    model, data = parts(tmp_path / "new", 7)
    moved = onnx.load_model_from_string(model)
    for entry in moved.graph.initializer[0].external_data:
        if entry.key == "offset":
            entry.value = "4096"
    with capture_logs() as logs:
        replace(place / "model.onnx", moved.SerializeToString())
        replace(place / DATA, bytes(4096) + data)
        answers = set()
        wait_until_true(lambda: answers.add(ask(stub)) or ("1", 7.0) in answers)  # type: ignore[func-returns-value]
    assert answers <= {("1", 1.0), ("1", 7.0)}
    assert not [entry for entry in logs if entry["log_level"] == "error"]


def test_a_version_whose_data_is_cut_short_serves_once_it_is_whole(
    folder: Path, stub: ClassifierStub, tmp_path: Path
) -> None:
    model, data = parts(tmp_path / "new", 2)
    file = put(folder, "tiny", 2, model)
    found = wait_until(stub, v1="READY", v2="UNAVAILABLE")
    assert found["tiny/2"][1].endswith(f"is in {DATA}, which is missing; put it beside the model's file")
    file.with_name(DATA).write_bytes(data[:5])
    wait_for(stub, lambda found: f"{DATA}, which has 5; it is incomplete" in found["tiny/2"][1])
    with file.with_name(DATA).open("ab") as rest:
        rest.write(data[5:])
    wait_until(stub, v2="READY")
    assert ask(stub) == ("2", 2.0)


def test_other_files_of_a_version_are_ignored(place: Path, folder: Path, stub: ClassifierStub) -> None:
    with capture_logs() as logs:
        (place / "README").write_text("trained on Monday")
        (place / "more").mkdir()
        os.mkfifo(place / "pipe")
        put(folder, "tiny", 2)
        wait_until(stub, v2="READY")
    assert [entry["version"] for entry in logs if entry["event"] == "model ready"] == ["2"]
    assert not [entry for entry in logs if entry["log_level"] == "error"]


def test_a_version_waits_until_its_data_has_settled(folder: Path, tmp_path: Path) -> None:
    model, data = parts(tmp_path / "new", 2)
    view = FolderView(folder, {}, settle_s=0)
    put(folder, "tiny", 2, model)
    (folder / "tiny/2" / DATA).write_bytes(data[:5])
    view.look_at("tiny")
    seen = view.models["tiny"].versions[2]
    assert set(seen) == {"model.onnx", DATA}
    with (folder / "tiny/2" / DATA).open("ab") as rest:
        rest.write(data[5:])
    tiny = Version("tiny", 2, ModelConfig())
    with pytest.raises(FilesChangedError):
        read_version(view.files(), tiny, OPTIONS, seen).finish()
    view.look_at("tiny")
    found = read_version(view.files(), tiny, OPTIONS, view.models["tiny"].versions[2]).finish()
    assert onnx.load_model_from_string(found.data) == version(2)


def test_processes_agree_on_its_digest(folder: Path, tmp_path: Path) -> None:
    started = load_models(folder, OPTIONS)
    split(folder / "tiny", version(2), number=2)
    tiny = Version("tiny", 2, ModelConfig())
    found = read_version(ModelFiles.at(folder), tiny, OPTIONS).finish()
    change_over = ChangeOver(started, lambda displaced: None)
    assert change_over.prepare(tiny, found.digest) == ""
    change_over.commit("tiny", [Outcome(2, found.digest)], {})
    (served,) = change_over.serving("tiny").values()
    assert served.model.digest == found.digest
    (folder / "tiny/2" / DATA).write_bytes(parts(tmp_path / "other", 3)[1])
    assert change_over.prepare(tiny, "0" * 64) == "model.onnx changed while it was being loaded"


def test_a_quarantined_digest_is_not_loaded(folder: Path) -> None:
    file = split(folder / "tiny", version(2), number=2)
    tiny = Version("tiny", 2, ModelConfig())
    digest = read_version(ModelFiles.at(folder), tiny, OPTIONS).finish().digest
    suspects = Suspects()
    suspects.quarantined = {digest: "its runs crash workers"}
    options = dataclasses.replace(OPTIONS, suspects=suspects)
    assert loaded(ModelFiles.at(folder), tiny, options).reason == "its runs crash workers"
    with file.with_name(DATA).open("ab") as data:
        data.write(b"\0")
    assert loaded(ModelFiles.at(folder), tiny, options).served


def test_a_trial_reads_it_if_it_is_as_expected(folder: Path) -> None:
    file = split(folder / "tiny", version(2), number=2)
    files, tiny = ModelFiles.at(folder), Version("tiny", 2, ModelConfig())
    seen = {path.name: files.stamp(("tiny", "2", path.name)) for path in file.parent.iterdir()}
    reading = read_version(files, tiny, OPTIONS, seen)
    assert Trial(TrialLimits(60, 512)).refuse(reading, tiny, OPTIONS) == ""
    file.with_name(DATA).write_bytes(b"short")
    with pytest.raises(FilesChangedError, match=f"^{DATA} is being changed$"):
        Trial(TrialLimits(60, 512)).refuse(reading, tiny, OPTIONS)


def test_what_names_other_files_is_parsed_by_the_trial_first(
    folder: Path, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hostile file takes a hundred times its size to parse."""
    parsed: list[bytes] = []
    of = ExternalData.of

    def noted(data: bytes, most_bytes: int) -> ExternalData | None:
        parsed.append(data)
        return of(data, most_bytes)

    monkeypatch.setattr(ExternalData, "of", noted)
    with (
        serving(model_repository=folder, watch_settle_s=0.1, trial_timeout_s=60) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = ClassifierStub(channel)
        file = split(folder / ".new", version(2), number=2)
        file.with_name(DATA).write_bytes(b"short")
        before = len(parsed)
        file.parent.rename(folder / "tiny/2")
        found = wait_until(stub, v1="READY", v2="UNAVAILABLE")
        assert f"{DATA}, which has 5; it is incomplete" in found["tiny/2"][1]
        assert len(parsed) == before
        split(folder / ".whole", version(2)).with_name(DATA).rename(folder / "tiny/2" / DATA)
        wait_until(stub, v2="READY")
        assert ask(stub) == ("2", 2.0)
