"""The benchmark itself: it measures, and wrong or missing answers don't pass for fast ones."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.speed.__main__ import main, selected
from benchmarks.speed.checks import Checker
from benchmarks.speed.load import LoadError, Shape, frame, load
from benchmarks.speed.plan import Case, LoopCase, everything, operations, with_peers
from benchmarks.speed.protocols import CLASSIFY, CLASSIFY_STREAM, MODEL_INFER, Protocol
from benchmarks.speed.reference import LAYERS, MODEL, WrongAnswerError
from tests.serving import serving

PROTOCOLS = [CLASSIFY, MODEL_INFER, CLASSIFY_STREAM]
SHAPE = Shape(connections=2, streams=2)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of the model that the answers are compared with."""
    with serving() as server:
        yield server.address


@pytest.fixture(scope="module")
def wrong_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose model of the same name has one other number in it."""
    repository = tmp_path_factory.mktemp("models")
    model = onnx.load(MODEL)
    bias = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [10])
    values = onnx.numpy_helper.to_array(bias) + 30 * np.eye(10, dtype=np.float32)[1]
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    path = repository / "lenet" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    with serving(model_repository=repository) as server:
        yield server.address


def test_a_short_run_writes_table_json_and_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("before\n<!-- begin bench -->\nold\n<!-- end bench -->\nafter\n")
    wanted = ["8x4 featurelens native", "8x4 bare grpc.aio 2 processes", "alone batch 8", "streams native"]
    options = [word for words in wanted for word in ("--only", words)]

    status = main(
        ["--quick", "--rounds=2", "--seconds=1", f"--out={tmp_path}", f"--into={document}", *options]
    )

    results = json.loads((tmp_path / "results.json").read_text())
    rows = {(row["workload"], row["subject"]): row for row in results["rows"]}
    infer = rows["8x4", "featurelens native, ModelInfer"]
    assert status == 0
    assert {key[0] for key in rows} == {
        "ONNX Runtime alone",
        "8x4",
        "8x4, one layer",
        f"8x4, all {len(LAYERS)} layers",
        f"streams of {CLASSIFY_STREAM.messages}, 4x1",
    }
    assert len(infer["rounds"]) == 2
    assert infer["median"]["ratio"] > 0
    assert 0 < infer["median"]["p50_ms"] <= infer["median"]["p99_ms"]
    assert infer["median"]["cpu_ms_per_call"] > 0
    assert results["start_ups"][0]["rss_mb"] > 10
    assert results["checked"] > 4 * len(rows)
    assert "featurelens native, ModelInfer" in capsys.readouterr().out
    assert "| featurelens native, ModelInfer |" in document.read_text()
    assert "old" not in document.read_text()
    assert (tmp_path / "results.png").stat().st_size > 10_000


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("layers", [(), LAYERS], ids=["no layers", "all layers"])
def test_right_answers_pass(address: str, protocol: Protocol, layers: tuple[str, ...]) -> None:
    with closing(Checker(address, protocol, 2, layers)) as checker:
        checker.check()

        assert checker.checked == 4
        assert checker.smallest_call > 40


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_a_wrong_answer_is_caught(wrong_address: str, protocol: Protocol) -> None:
    with (
        closing(Checker(wrong_address, protocol, 1, ())) as checker,
        pytest.raises(WrongAnswerError, match="probabilities is off by up to"),
    ):
        checker.check()


def test_a_wrong_answer_is_caught_beside_a_load(wrong_address: str) -> None:
    with (
        closing(Checker(wrong_address, MODEL_INFER, 1, ())) as checker,
        pytest.raises(WrongAnswerError),
        checker.checking(),
    ):
        load(wrong_address, MODEL_INFER, checker.messages, SHAPE, 0.3)


def test_a_refused_call_is_a_wrong_answer(address: str) -> None:
    unknown = Protocol("unknown", "/featurelens.v1.Classifier/Unknown", CLASSIFY.exchange)

    with closing(Checker(address, unknown, 1, ())) as checker, pytest.raises(WrongAnswerError):
        checker.check()


@pytest.mark.parametrize(("model", "without"), [(b"lenet", False), (b"other", True)])
def test_calls_without_an_answer_are_counted(address: str, model: bytes, without: bool) -> None:
    with closing(Checker(address, MODEL_INFER, 1, ())) as checker:
        checker.check()
        request = checker.messages[0].replace(b"lenet", model)
        loaded = load(address, MODEL_INFER, [request], SHAPE, 0.5)

    calls = len(loaded.milliseconds)
    assert calls > 0
    assert loaded.failed == 0  # gRPC's errors have HTTP status 200
    assert loaded.without_answer(checker.smallest_call) == calls * without


def test_http_is_not_mistaken_for_grpc(address: str) -> None:
    http = Protocol("HTTP", "/", CLASSIFY.exchange, content_type="text/plain")

    loaded = load(address, http, [b"{}"], SHAPE, 0.5)

    assert len(loaded.milliseconds) == 0


def test_a_missing_h2load_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LoadError, match="apt-get install nghttp2-client"):
        load("127.0.0.1:1", CLASSIFY, [b""], SHAPE, 0.1)


def test_each_message_is_framed() -> None:
    assert frame([b"ab", b""]) == b"\0\0\0\0\x02ab\0\0\0\0\0"


@pytest.mark.parametrize(
    ("only", "subjects"),
    [
        (["1x1 native"], {"bare native, 1 process", "bare native, 2 processes"}),
        (["1x1 grpc.aio 2"], {"bare grpc.aio, 2 processes"}),
    ],
)
def test_only_takes_the_rows_with_all_words(only: list[str], subjects: set[str]) -> None:
    found = {case.key[1] for case in selected(everything(), only)}

    assert {subject for subject in found if subject.startswith("bare")} == subjects
    assert {case.key[0] for case in selected(everything(), only)} == {"1x1"}


@pytest.mark.parametrize(
    "cases", [everything(), with_peers(), operations()], ids=["bench", "bench-peers", "bench-operations"]
)
def test_every_floor_is_measured_in_the_same_run(cases: list[Case | LoopCase]) -> None:
    keys = [case.key for case in cases]

    assert len(set(keys)) == len(keys)
    assert {case.floor for case in cases} - {None} <= set(keys)
