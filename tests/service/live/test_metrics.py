"""What the metrics tell of a repository that changes."""

from __future__ import annotations

from pathlib import Path

import grpc

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from tests.service.live.repositories import ask, put, version, wait_until_true
from tests.service.scrape import Scrape, scraped
from tests.serving import Serving

STATE = "featurelens_model_state"
SETTINGS = {"watch_settle_s": 0.1, "trial_timeout_s": 0, "metrics_address": "127.0.0.1:0"}


def test_metrics_tell_states_and_refused_changes(folder: Path, serving: Serving) -> None:
    with (
        serving(model_repository=folder, **SETTINGS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub, metrics = ClassifierStub(channel), server.metrics_address
        ask(stub)
        put(folder, "tiny", 2, b"no model")
        broken = scraped(metrics, STATE, 1, model="tiny", version="2", state="unavailable")
        (folder / "tiny/1/model.onnx").write_bytes(b"no model")
        refused = scraped(metrics, "featurelens_model_change_refused", 1, model="tiny", version="1")
        (folder / "tiny/1/model.onnx").write_bytes(version(5).SerializeToString())
        wait_until_true(lambda: ask(stub) == ("1", 5.0))
        whole = Scrape(metrics)

    assert broken(STATE, version="1", state="ready") == 1
    assert broken("featurelens_model_change_refused") == 0
    assert refused("nv_inference_request_success", model="tiny", version="1") == 1
    assert whole("featurelens_model_change_refused") == 0
    assert whole.by("change", "featurelens_model_changes_total", model="tiny") == {"refused": 2, "loaded": 1}
    assert whole("nv_inference_request_success", model="tiny") > 1


def test_a_version_that_is_gone_is_told_no_more(folder: Path, serving: Serving) -> None:
    with (
        serving(model_repository=folder, **SETTINGS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = ClassifierStub(channel)
        ask(stub)
        put(folder, "tiny", 2)
        wait_until_true(lambda: ask(stub) == ("2", 2.0))
        after = scraped(server.metrics_address, STATE, 0, version="1")

    assert 'version="1"' not in after.text
    assert after("nv_inference_request_success", model="tiny", version="2") == 1
