"""What comes, changes and goes in the repository of a server that is running."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
from structlog.testing import capture_logs

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as inference_pb
from protos.tensors import pack
from tests.service import onnx_models
from tests.service.live.repositories import (
    ask,
    configure,
    put,
    refusal,
    version,
    wait_for,
    wait_until,
    wait_until_true,
)
from tests.service.oip.stub import InferenceStub, arrays, request

NOT_FOUND = grpc.StatusCode.NOT_FOUND


def test_a_new_version_takes_the_place_of_the_old(folder: Path, stub: ClassifierStub) -> None:
    assert ask(stub) == ("1", 1.0)
    put(folder, "tiny", 2)
    wait_until(stub, v2="READY")
    assert ask(stub) == ("2", 2.0)
    assert refusal(stub, "1") == (NOT_FOUND, 'model "tiny" has no version "1"; it has 2')


def test_a_broken_version_is_refused_and_the_old_one_serves_on(folder: Path, stub: ClassifierStub) -> None:
    file = put(folder, "tiny", 2, b"no model")
    found = wait_until(stub, v1="READY", v2="UNAVAILABLE")
    assert found["tiny/2"][1].startswith("model.onnx can't be loaded: ")
    assert ask(stub) == ("1", 1.0)
    file.unlink()
    wait_for(stub, lambda found: found["tiny/2"][1] == "model.onnx is missing")


def test_a_half_written_version_serves_once_it_is_whole(folder: Path, stub: ClassifierStub) -> None:
    data = version(2).SerializeToString()
    file = put(folder, "tiny", 2, data[:50])
    wait_until(stub, v1="READY", v2="UNAVAILABLE")
    with file.open("ab") as rest:
        rest.write(data[50:])
    wait_until(stub, v2="READY")
    assert ask(stub) == ("2", 2.0)


def test_a_file_that_is_replaced_takes_its_own_place_and_counts_on(
    folder: Path, stub: ClassifierStub, inference: InferenceStub
) -> None:
    ask(stub)
    (folder / "tiny/1/model.onnx").write_bytes(version(7).SerializeToString())
    wait_until_true(lambda: ask(stub) == ("1", 7.0))
    (statistics,) = inference.ModelStatistics(inference_pb.ModelStatisticsRequest(name="tiny")).model_stats
    assert statistics.inference_count > 1


def test_a_file_that_is_broken_in_place_leaves_what_serves(folder: Path, stub: ClassifierStub) -> None:
    (folder / "tiny/1/model.onnx").write_bytes(b"no model")
    found = wait_for(stub, lambda found: found["tiny/1"][1] != "")
    assert found["tiny/1"][0] == "READY"
    assert found["tiny/1"][1].startswith("model.onnx can't be loaded: ")
    assert ask(stub) == ("1", 1.0)


def test_the_same_file_once_more_is_not_loaded_again(folder: Path, stub: ClassifierStub) -> None:
    with capture_logs() as logs:
        (folder / "tiny/1/model.onnx").touch()
        put(folder, "tiny", 2)
        wait_until(stub, v2="READY")
    assert [entry["version"] for entry in logs if entry["event"] == "model ready"] == ["2"]


def test_a_changed_config_is_applied(folder: Path, stub: ClassifierStub) -> None:
    def classes() -> list[str]:
        tensor = pack(np.ones((3, 2), np.float32))
        answer = stub.Classify(pb.ClassifyRequest(tensor=tensor))
        assert len(answer.results) == 3
        return [*(score.label for score in answer.results[0].scores), str(answer.timings.run_batch_size)]

    assert classes() == ["1", "0", "3"]
    configure(folder, "tiny", 'labels = ["cat", "dog"]\nbatching.max_batch_size = 2')
    wait_until_true(lambda: classes() == ["dog", "cat", "2"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('labels = ["one"]', "config.toml: version 1 can't be served with it: there are 1 labels for 2 cl"),
        ("labels = [", "config.toml can't be read: "),
        ("versions.newest = 1", "config.toml: versions.newest: Extra inputs are not permitted"),
        ("versions.list = [7]", "config.toml: no version that it wants can be served"),
        (
            "version_labels.stable = 7",
            "config.toml: version 7 can't be served with it: model.onnx is missing",
        ),
        ("version_labels.7 = 1", "config.toml: version_labels.7"),
    ],
)
def test_a_config_that_is_wrong_is_refused_and_the_former_one_holds(
    folder: Path, stub: ClassifierStub, text: str, reason: str
) -> None:
    configure(folder, "tiny", text)
    found = wait_for(stub, lambda found: found["tiny/1"][1] != "")
    assert list(found) == ["tiny/1"]
    assert found["tiny/1"][0] == "READY"
    assert found["tiny/1"][1].startswith(reason)
    assert ask(stub) == ("1", 1.0)

    put(folder, "tiny", 2)
    wait_until(stub, v2="READY")
    configure(folder, "tiny", "versions.all = true")
    assert wait_until(stub, v1="READY", v2="READY")["tiny/1"] == ("READY", "")


def test_labels_name_versions_over_both_protocols(
    folder: Path, stub: ClassifierStub, inference: InferenceStub
) -> None:
    put(folder, "tiny", 2)
    put(folder, "tiny", 3)
    configure(folder, "tiny", "[version_labels]\nstable = 2\ncanary = 3\n")
    wait_until(stub, v2="READY", v3="READY")
    assert [ask(stub, label) for label in ("", "stable", "canary", "3")] == [
        ("2", 2.0),
        ("2", 2.0),
        ("3", 3.0),
        ("3", 3.0),
    ]
    x = np.array([[0.0, 1.0]], np.float32)
    answer = inference.ModelInfer(request("tiny", [("x", "FP32", x)], model_version="canary"))
    assert (answer.model_version, arrays(answer)["scores"][0, 1]) == ("3", 9.0)
    ready = inference_pb.ModelReadyRequest(name="tiny", version="canary")
    assert inference.ModelReady(ready).ready is True
    assert refusal(stub, "beta") == (
        NOT_FOUND,
        'model "tiny" has no version "beta"; it has 2, 3, stable, canary',
    )


def test_a_label_that_moves_back_is_a_rollback(folder: Path, stub: ClassifierStub) -> None:
    put(folder, "tiny", 2)
    wait_until(stub, v2="READY")
    configure(folder, "tiny", "version_labels.stable = 1")
    wait_until(stub, v1="READY", v2="READY")
    assert ask(stub) == ("1", 1.0)
    configure(folder, "tiny", "version_labels.stable = 2")
    wait_until(stub, v2="READY")
    assert ask(stub) == ("2", 2.0)


def test_a_version_that_is_removed_leaves_its_place_to_the_one_before_it(
    folder: Path, stub: ClassifierStub
) -> None:
    put(folder, "tiny", 2)
    wait_until(stub, v2="READY")
    shutil.rmtree(folder / "tiny/2")
    wait_until(stub, v1="READY")
    assert ask(stub) == ("1", 1.0)


def test_the_last_version_stays_until_its_model_is_removed(folder: Path, stub: ClassifierStub) -> None:
    put(folder, "other", 1)
    wait_for(stub, lambda found: found.get("other/1", ("",))[0] == "READY")
    shutil.rmtree(folder / "tiny/1")
    found = wait_for(stub, lambda found: found["tiny/1"][1] != "")
    assert found["tiny/1"][0] == "READY"
    assert ask(stub, name="tiny") == ("1", 1.0)
    shutil.rmtree(folder / "tiny")
    wait_for(stub, lambda found: list(found) == ["other/1"])
    assert refusal(stub, name="tiny") == (NOT_FOUND, 'there is no model "tiny"; there is other')


def test_a_model_that_comes_is_served(folder: Path, stub: ClassifierStub) -> None:
    put(folder, "other", 4)
    wait_for(stub, lambda found: found.get("other/4", ("",))[0] == "READY")
    broken = folder / "broken"
    put(folder, "broken", 1)
    (broken / "config.toml").write_text("versions.newest = 1")
    wait_for(stub, lambda found: found.get("broken/1", ("",))[0] == "UNAVAILABLE")
    (broken / "config.toml").unlink()
    wait_for(stub, lambda found: found["broken/1"] == ("READY", ""))


@pytest.mark.parametrize("empty", [False, True])
def test_a_repository_that_is_gone_for_a_while_loses_nothing(
    folder: Path, stub: ClassifierStub, empty: bool
) -> None:
    away = folder.with_name("away")
    with capture_logs() as logs:
        folder.rename(away)
        if empty:
            folder.mkdir()
        wait_until_true(lambda: any("is gone" in entry["event"] for entry in logs))
        assert ask(stub) == ("1", 1.0)
        if empty:
            folder.rmdir()
        away.rename(folder)
        put(folder, "tiny", 2)
        wait_until(stub, v2="READY")
    assert ask(stub) == ("2", 2.0)
    events = [entry["event"] for entry in logs if entry["event"].startswith("the model repository")]
    assert events[0] == "the model repository is gone; what is loaded is served on"
    assert events[-1] == "the model repository is back"


def test_a_model_of_many_layers_keeps_its_taps_ready(folder: Path, stub: ClassifierStub) -> None:
    put(folder, "lenet", 1, onnx_models.lenet())
    wait_for(stub, lambda found: found.get("lenet/1", ("",))[0] == "READY")
    (folder / "lenet/config.toml").write_text('preload_taps = [["relu1"]]')
    image = pack(np.zeros((1, 1, 32, 32), np.float32))

    def shape() -> list[int]:
        answer = stub.Classify(pb.ClassifyRequest(model="lenet", tensor=image, layers=["relu1"]))
        return list(answer.feature_maps[0].shape)

    assert shape() == [1, 6, 28, 28]
    put(folder, "lenet", 2, onnx_models.lenet(seed=1))
    wait_for(stub, lambda found: found.get("lenet/2", ("",))[0] == "READY")
    assert shape() == [1, 6, 28, 28]
