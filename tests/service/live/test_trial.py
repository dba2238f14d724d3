"""A version that crashes, hangs or eats memory: refused with the reason, and no harm done."""

from __future__ import annotations

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

import grpc
import numpy as np
import onnx
import pytest

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from service.batching_limits import BatchingLimits
from service.device import Execution
from service.loading import LoadOptions, Version
from service.model_config import ModelConfig
from service.model_data import ModelReading
from service.model_files import ModelFiles
from service.trial import Trial, TrialLimits
from tests.service import onnx_models
from tests.service.live.repositories import ask, put, version, wait_until, wait_until_true
from tests.serving import Serving

OPTIONS = LoadOptions(Execution(), 4, BatchingLimits(), 10**9, refuse_non_finite=True, share_threads=True)
PLAIN = ModelConfig()
LIMITS = TrialLimits(seconds=60, memory_mib=512)


def hungry(items: int = 2**34) -> onnx.ModelProto:
    """A model whose runs take four times so many bytes."""
    nodes = [
        onnx_models.node("ConstantOfShape", "size", "large"),
        onnx_models.node("ReduceMax", "large", "nothing", keepdims=0),
        onnx_models.node("Add", "x nothing", "y"),
    ]
    x, y = (onnx_models.value(name, ["n", 2]) for name in ("x", "y"))
    return onnx_models.model(nodes, [x], [y], {"size": np.array([items], np.int64)})


def refuse(model: onnx.ModelProto | bytes, limits: TrialLimits = LIMITS, config: ModelConfig = PLAIN) -> str:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return Trial(limits).refuse(alone(data), Version("tiny", 1, config), OPTIONS)


def alone(data: bytes) -> ModelReading:
    """What has been read of a model in one file."""
    return ModelReading(
        data, ModelFiles(Path("nowhere")), ("tiny", "1", "model.onnx"), OPTIONS.max_model_bytes
    )


def test_a_good_version_passes_with_all_that_its_config_says() -> None:
    config = ModelConfig.model_validate(
        {
            "labels": [str(i) for i in range(10)],
            "preload_taps": [["relu1"]],
            "versions": {"latest": 2},
            "preprocessing": {"kind": "resize", "height": 32, "width": 32, "mean": [0.5]},
            "batching": {"max_batch_size": 4},
        }
    )
    assert refuse(onnx_models.lenet(), config=config) == ""


@pytest.mark.parametrize(
    ("model", "limits", "reason"),
    [
        (b"no model", LIMITS, "model.onnx can't be loaded: "),
        (onnx_models.endless(), TrialLimits(3, 512), "its trial was ended after 3 s"),
        (hungry(), LIMITS, "its trial took more memory than the setting trial_memory_mib, 512, allows"),
    ],
    ids=["no model", "endless", "hungry"],
)
def test_a_bad_version_is_refused(model: onnx.ModelProto | bytes, limits: TrialLimits, reason: str) -> None:
    assert refuse(model, limits)[: len(reason)] == reason


def test_what_the_config_makes_wrong_is_refused() -> None:
    config = ModelConfig(labels=("one",))
    assert refuse(onnx_models.classifier(2), config=config) == (
        "there are 1 labels for 2 classes; give one for each"
    )


def children() -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(OSError):  # the thread has just ended
            found += map(int, (task / "children").read_text().split())
    return found


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, "its trial crashed with SIGSEGV"),
        (signal.SIGABRT, "its trial crashed with SIGABRT"),
        (signal.SIGXCPU, "its trial took more than 60 s of every CPU"),
    ],
)
def test_a_crash_is_the_reason(number: signal.Signals, reason: str) -> None:
    before = set(children())
    with ThreadPoolExecutor(1) as thread:
        trial = thread.submit(refuse, onnx_models.endless())
        wait_until_true(lambda: bool(set(children()) - before))
        (process,) = set(children()) - before
        os.kill(process, number)
        assert trial.result() == reason
    assert set(children()) == before


def test_a_trial_ends_with_the_server() -> None:
    trial, before = Trial(LIMITS), set(children())
    version = Version("tiny", 1, PLAIN)
    with ThreadPoolExecutor(1) as thread:
        going_on = thread.submit(
            trial.refuse, alone(onnx_models.endless().SerializeToString()), version, OPTIONS
        )
        wait_until_true(lambda: bool(set(children()) - before))
        trial.cancel()
        assert going_on.result() == "the server is shutting down"
    assert trial.refuse(alone(b""), version, OPTIONS) == "the server is shutting down"


def test_hostile_versions_do_not_touch_the_server(folder: Path, serving: Serving) -> None:
    settings = {"watch_settle_s": 0.1, "trial_timeout_s": 5, "trial_memory_mib": 512}
    with (
        serving(model_repository=folder, **settings) as server,
        grpc.insecure_channel(server.address) as channel,
        ThreadPoolExecutor(1) as client,
    ):
        stub, stop = ClassifierStub(channel), Event()

        def call() -> set[tuple[str, float]]:
            answers = {ask(stub)}
            while not stop.wait(0.01):
                answers.add(ask(stub))
            return answers

        answers = client.submit(call)
        try:
            put(folder, "tiny", 2, onnx_models.endless())
            put(folder, "tiny", 3, hungry())
            found = wait_until(stub, v1="READY", v2="UNAVAILABLE", v3="UNAVAILABLE")
        finally:
            stop.set()
        assert answers.result() == {("1", 1.0)}
    assert [found[f"tiny/{n}"][1] for n in (2, 3)] == [
        "its trial was ended after 5 s",
        "its trial took more memory than the setting trial_memory_mib, 512, allows",
    ]


def test_a_version_that_changes_or_goes_during_its_trial(folder: Path, serving: Serving) -> None:
    settings = {"watch_settle_s": 0.1, "trial_timeout_s": 60, "trial_memory_mib": 512}
    with (
        serving(model_repository=folder, **settings) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = ClassifierStub(channel)
        put(folder, "tiny", 2, onnx_models.endless())
        wait_until(stub, v1="READY", v2="LOADING")
        shutil.rmtree(folder / "tiny/2")
        wait_until(stub, v1="READY")
        put(folder, "tiny", 3, onnx_models.endless())
        wait_until(stub, v1="READY", v3="LOADING")
        (folder / "tiny/3/model.onnx").write_bytes(version(3).SerializeToString())
        wait_until(stub, v3="READY")
        assert ask(stub) == ("3", 3.0)
