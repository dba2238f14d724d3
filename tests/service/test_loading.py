"""How the models of a repository are loaded: which versions, with what of config.toml, and what stops one."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from structlog.testing import capture_logs

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.batching_limits import BatchingLimits
from service.device import Execution
from service.errors import ModelNotReadyError
from service.loading import LoadOptions
from service.model import Model
from service.model_config import VersionPolicy
from service.repository import Entry, Repository, ServedModel, State
from service.start_up import load_models
from service.taps import TapCounts
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.serving import Serving

LIMITS = BatchingLimits(max_batch_size=8, max_queue_size=100, max_queue_delay_us=0)


def load(folder: Path, **options: Any) -> Repository:  # noqa: ANN401 - of several types
    chosen: dict[str, Any] = {
        "execution": Execution(),
        "tap_sessions": 4,
        "batching": LIMITS,
        "max_model_bytes": 10**6,
        "refuse_non_finite": True,
        "share_threads": True,
    }
    return load_models(folder, LoadOptions(**(chosen | options))).repository


def add(folder: Path, name: str, *versions: int, config: str = "") -> None:
    for version in versions:
        add_model(folder, name, onnx_models.classifier(), str(version))
    (folder / name / "config.toml").write_text(config)


def states(repository: Repository) -> dict[str, State]:
    return {f"{entry.name}/{entry.version}": entry.state for entry in repository.entries()}


@pytest.mark.parametrize(
    ("policy", "refused", "expected"),
    [
        (VersionPolicy(), [], [10]),
        (VersionPolicy(latest=2), [], [3, 10]),
        (VersionPolicy(latest=9), [], [1, 3, 10]),
        (VersionPolicy(all=True), [10], [1, 3, 10]),
        (VersionPolicy(list=(10, 1, 1)), [], [1, 10]),
        (VersionPolicy(list=(2,)), [], [2]),
        (VersionPolicy(), [10], [3]),
        (VersionPolicy(latest=2), [10], [1, 3]),
        (VersionPolicy(), [1, 3, 10], []),
    ],
)
def test_versions_are_chosen(
    policy: VersionPolicy, refused: Collection[int], expected: Sequence[int]
) -> None:
    assert list(policy.wanted([1, 3, 10], refused)) == expected


def test_the_newest_version_is_served_by_default(tmp_path: Path) -> None:
    add(tmp_path, "tiny", 1, 2, 10)
    assert states(load(tmp_path)) == {"tiny/10": State.READY}


def test_a_version_that_can_not_be_loaded_leaves_its_place_to_the_one_before_it(tmp_path: Path) -> None:
    add(tmp_path, "tiny", 1, 2)
    add_model(tmp_path, "tiny", b"garbage", "3")
    add_model(tmp_path, "tiny", b"", "4")
    repository = load(tmp_path)
    assert states(repository) == {
        "tiny/2": State.READY,
        "tiny/3": State.UNAVAILABLE,
        "tiny/4": State.UNAVAILABLE,
    }
    assert repository.get("tiny").version == "2"


def test_a_version_that_is_listed_and_missing_says_so(tmp_path: Path) -> None:
    add(tmp_path, "tiny", 1, 2, config="versions.list = [1, 7]")
    repository = load(tmp_path)
    assert states(repository) == {"tiny/1": State.READY, "tiny/7": State.UNAVAILABLE}
    assert repository.entries()[1].reason == "model.onnx is missing"


def test_limits_of_batching_come_from_the_config_where_it_tells_them(tmp_path: Path) -> None:
    add(
        tmp_path,
        "all",
        1,
        config="[batching]\nmax_batch_size = 2\nmax_queue_size = 3\nmax_queue_delay_us = 4",
    )
    add(tmp_path, "none", 1)
    add(tmp_path, "one", 1, config="batching.max_queue_delay_us = 500")
    repository = load(tmp_path)
    assert {name: repository.get(name).model.batching for name in ("all", "none", "one")} == {
        "all": BatchingLimits(2, 3, 4),
        "none": LIMITS,
        "one": BatchingLimits(8, 100, 500),
    }


def test_the_limits_of_the_config_hold(tmp_path: Path, serving: Serving) -> None:
    add(tmp_path, "narrow", 1, config="batching.max_batch_size = 2")
    add(tmp_path, "wide", 1)
    tensor = pack(np.zeros((5, 2), np.float32))
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        answers = [
            stub.Classify(pb.ClassifyRequest(model=name, tensor=tensor)) for name in ("narrow", "wide")
        ]
    assert [answer.timings.run_batch_size for answer in answers] == [2, 5]
    assert [len(answer.results) for answer in answers] == [5, 5]


def test_taps_that_the_config_names_are_built_before_the_first_request(tmp_path: Path) -> None:
    add_model(tmp_path, "lenet", onnx_models.lenet())
    (tmp_path / "lenet" / "config.toml").write_text('preload_taps = [["relu1"], ["conv1", "pool1"]]')
    model = load(tmp_path).get("lenet").model
    before = model.tap_counts
    assert (before.misses, before.live) == (2, 2)
    model.run({"image": np.zeros((1, 1, 32, 32), np.float32)}, ["probabilities", "pool1", "conv1"])
    assert model.tap_counts == TapCounts(hits=before.hits + 1, misses=2, live=2)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "model.onnx is missing"),
        (["resnet18.onnx", "resnet18.onnx.data"], "model.onnx is missing; rename resnet18.onnx to it"),
        (["a.onnx", "b.onnx"], "model.onnx is missing"),
    ],
)
def test_a_model_with_another_name_is_found(tmp_path: Path, names: list[str], reason: str) -> None:
    add(tmp_path, "good", 1)
    (tmp_path / "other/1").mkdir(parents=True)
    for name in names:
        (tmp_path / "other/1" / name).touch()
    assert load(tmp_path).entries()[1].reason == reason


def test_names_outside_of_the_repository_are_not_told(tmp_path: Path) -> None:
    add(tmp_path / "models", "good", 1)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret.onnx").touch()
    (tmp_path / "models/other").mkdir()
    (tmp_path / "models/other/1").symlink_to(tmp_path / "outside")
    assert load(tmp_path / "models").entries()[1].reason == "model.onnx is missing"


def test_weights_in_a_file_without_a_name_are_refused(tmp_path: Path) -> None:
    add(tmp_path, "good", 1)
    model = onnx_models.classifier()
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    add_model(tmp_path, "split", model)
    entry = load(tmp_path).entries()[1]
    assert entry.state is State.UNAVAILABLE
    assert entry.reason == (
        'model.onnx can\'t be loaded: the weight "w" is in another file, which was not read with it'
    )


def with_opset(version: int, domain: str = "") -> onnx.ModelProto:
    model = onnx_models.classifier()
    model.opset_import[0].CopyFrom(onnx.helper.make_opsetid(domain, version))
    return model


def with_operator(domain: str) -> onnx.ModelProto:
    model = onnx_models.classifier()
    model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    model.graph.node[0].domain = domain
    return model


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (
            lambda: with_opset(999),
            "model.onnx can't be loaded: ONNX Runtime .* refuses the model: .*Opset 999",
        ),
        (
            lambda: with_operator("acme"),
            "model.onnx can't be loaded: ONNX Runtime .* refuses the model: .*acme",
        ),
        (lambda: onnx_models.classifier(50_000), "model.onnx has 400[0-9]{3} bytes; the limit is 300000"),
    ],
    ids=["opset", "domain", "size"],
)
def test_a_model_that_can_not_be_served_says_why(
    tmp_path: Path, build: Callable[[], onnx.ModelProto], reason: str
) -> None:
    add(tmp_path, "good", 1)
    add_model(tmp_path, "strange", build())
    entry = load(tmp_path, max_model_bytes=300_000).entries()[1]
    assert (entry.name, entry.state) == ("strange", State.UNAVAILABLE)
    assert re.match(reason, entry.reason)


def test_a_wrong_config_refuses_its_model_and_no_other(tmp_path: Path, serving: Serving) -> None:
    add(tmp_path, "good", 1)
    add(tmp_path, "wrong", 1, 2, config="versions.newest = 1")
    request = pb.ClassifyRequest(model="good", tensor=pack(np.zeros((1, 2), np.float32)))
    with serving(model_repository=tmp_path) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        models = stub.ListModels(pb.ListModelsRequest()).models
        assert stub.Classify(request).model == "good"
        request.model = "wrong"
        with pytest.raises(grpc.RpcError) as info:
            stub.Classify(request)
    reason = "config.toml: versions.newest: Extra inputs are not permitted"
    assert [(m.name, m.version, m.state, m.reason) for m in models] == [
        ("good", "1", pb.MODEL_STATE_READY, ""),
        ("wrong", "1", pb.MODEL_STATE_UNAVAILABLE, reason),
        ("wrong", "2", pb.MODEL_STATE_UNAVAILABLE, reason),
    ]
    assert isinstance(info.value, grpc.Call)
    assert info.value.code() is grpc.StatusCode.UNAVAILABLE
    assert info.value.details() == 'model "wrong" version 2 could not be loaded'


def test_a_fault_of_the_server_refuses_one_version_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, "bad", 1)
    add(tmp_path, "good", 1)
    monkeypatch.setattr("service.loading.Classifier.of", failing_once(KeyError("secret")))
    with capture_logs() as logs:
        repository = load(tmp_path)
    refused = [entry for entry in repository.entries() if entry.state is State.UNAVAILABLE]
    assert [entry.reason for entry in refused] == ["unexpected error; the server's log says why"]
    assert len(repository.ready_names()) == 1
    assert [type(entry["exc_info"]) for entry in logs if "exc_info" in entry] == [KeyError]


def failing_once(error: Exception) -> Callable[..., None]:
    errors = iter([error])

    def fail(*_: object) -> None:
        for each in errors:
            raise each

    return fail


def test_progress_is_logged(tmp_path: Path) -> None:
    add(tmp_path, "tiny", 1, 2, config="versions.all = true")
    add_model(tmp_path, "wrong", b"")
    with capture_logs() as logs:
        load(tmp_path)
    first, *each, last = logs
    assert (first["event"], first["versions"]) == ("loading models", 3)
    assert [entry["progress"] for entry in each] == ["1/3", "2/3", "3/3"]
    assert sorted(entry["event"] for entry in each) == ["model ready", "model ready", "model refused"]
    assert (last["event"], last["ready"], last["unavailable"]) == ("models loaded", 2, 1)


@pytest.mark.parametrize(
    ("share_threads", "short_run_s", "small_bytes", "expected"),
    [
        (True, 1e9, 2**20, [1, 1]),
        (True, 0, 2**20, [1, 65, 1, 65]),
        (True, 1e9, 0, [65, 65]),
        (False, 1e9, 2**20, [100, 100]),
    ],
    ids=["short runs", "long runs", "large file", "told"],
)
def test_short_runs_have_one_thread_and_others_share_a_number(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    share_threads: bool,
    short_run_s: float,
    small_bytes: int,
    expected: list[int],
) -> None:
    monkeypatch.setattr("service.start_up.available_cpus", lambda: 1)  # one after the other
    monkeypatch.setattr("service.loading._SHORT_RUN_S", short_run_s)
    monkeypatch.setattr("service.loading._SMALL_BYTES", small_bytes)
    add(tmp_path, "tiny", 1, 2, config="versions.all = true")
    seen: list[int] = []

    def model(data: bytes, execution: Execution, *more: Any, **named: Any) -> Model:  # noqa: ANN401 - handed on
        seen.append(execution.intra_op_threads)
        return Model(data, Execution(), *more, **named)

    monkeypatch.setattr("service.loading.Model", model)
    load(tmp_path, execution=Execution(intra_op_threads=100), share_threads=share_threads)
    assert seen == expected


def test_a_version_that_is_being_loaded_is_not_ready() -> None:
    repository = Repository()
    repository.publish([Entry.loading("tiny", "1")])
    with pytest.raises(ModelNotReadyError, match=r'^model "tiny" version 1 is being loaded$'):
        repository.get("tiny")


@pytest.fixture
def served(tmp_path: Path) -> ServedModel:
    add(tmp_path, "tiny", 1)
    return load(tmp_path).get("tiny")


def test_what_is_replaced_is_handed_back_to_be_freed(served: ServedModel) -> None:
    repository = Repository()
    newer = replace(served)
    published: list[list[ServedModel]] = [
        repository.publish([entry])
        for entry in (
            Entry.loading("tiny", "1"),
            Entry.ready(served),
            Entry.ready(newer),
            Entry.unavailable("tiny", "1", "it was taken away"),
        )
    ]
    assert [[id(model) for model in models] for models in published] == [[], [], [id(served)], [id(newer)]]


LOADING, GONE = Entry.loading("tiny", "1"), Entry.unavailable("tiny", "1", "gone")


@pytest.mark.parametrize(
    "states",
    [
        ["ready"],
        ["loading", "loading"],
        ["loading", "ready", "loading"],
        ["unavailable", "ready"],
    ],
    ids=" to ".join,
)
def test_a_state_that_can_not_follow_is_refused(served: ServedModel, states: Sequence[str]) -> None:
    entries = {"loading": LOADING, "ready": Entry.ready(served), "unavailable": GONE}
    repository = Repository()
    for state in states[:-1]:
        repository.publish([entries[state]])
    before = repository.entries()
    with pytest.raises(ValueError, match=f"^tiny/1 can't become {states[-1]}$"):
        repository.publish([entries[states[-1]]])
    assert repository.entries() == before


def test_a_version_that_could_not_be_loaded_can_be_tried_again(served: ServedModel) -> None:
    repository = Repository()
    for entry in (LOADING, GONE, LOADING, Entry.ready(served)):
        repository.publish([entry])
    assert repository.get("tiny") is served
