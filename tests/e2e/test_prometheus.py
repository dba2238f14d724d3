"""What Prometheus reads: every metric that the documents name, with the values that clients have counted."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from service.metrics import METRICS, Kind
from tests.e2e.clients import DIGIT, classify, connect
from tests.e2e.processes import ServerProcess, lines_of, run_to_its_end, server_process
from tests.e2e.prometheus import Prometheus, prometheus
from tests.service.oip.stub import InferenceStub, request
from tests.service.test_classify import digits

CONNECTIONS = 6
ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/metrics.md"
MODELS = ROOT / "models"
TYPES = {Kind.UNTYPED: "unknown"}


@dataclass(frozen=True)
class Watched:
    """A server, what watches it, and how its clients' calls ended, by method and code."""

    server: ServerProcess
    prometheus: Prometheus
    ended: Counter[tuple[str, str]]
    workers: int


@pytest.fixture(scope="module", params=[("native", 2), ("grpcio", 2), ("native", 1)], ids=str)
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    transport, workers = request.param
    folder = tmp_path_factory.mktemp("prometheus")
    log = folder / "log"
    arguments = ["--transport", transport, "--workers", str(workers), "--metrics-address", "127.0.0.1:0"]
    config = put_model(folder)
    arguments += ["--model-repository", str(folder / "models"), "--watch-settle-s", "0.1"]
    arguments += ["--max-images-per-request", "8", "--response-cache-mib", "1"]
    with server_process(*arguments, log=log) as server:
        (address,) = [line["address"] for line in lines_of(log, "serving metrics")]
        with prometheus(address, folder) as watching, ThreadPoolExecutor(CONNECTIONS) as clients:
            config.write_text("cache = false\n[batching]\nmax_queue_size = 64\n")
            watching.until('featurelens_model_changes_total{model="lenet",change="config_applied"}', 1)
            ended: Counter[tuple[str, str]] = Counter()
            for part in clients.map(call, [server.address] * CONNECTIONS):
                ended.update(part)
            yield Watched(server, watching, ended, workers)


def put_model(folder: Path) -> Path:
    """Make a repository of the model that ships, whose answers are not cached; return its config.toml."""
    shutil.copytree(MODELS / "lenet", folder / "models/lenet")
    config = folder / "models/lenet/config.toml"
    config.write_text("cache = false\n")
    return config


def call(address: str) -> Counter[tuple[str, str]]:
    """Call as a client with a connection of its own; return how the calls ended."""
    ended: Counter[tuple[str, str]] = Counter()
    with connect(address) as channel:
        classifier, inference = ClassifierStub(channel), InferenceStub(channel)
        one = pb.ClassifyRequest(tensor=DIGIT)
        for message in [*[one] * 10, pb.ClassifyRequest(tensor=DIGIT, layers=["conv1"])]:
            classifier.Classify(message)
            ended["Classify", "OK"] += 1
        for message in [pb.ClassifyRequest(model="resnet"), pb.ClassifyRequest()]:
            ended["Classify", failure_of(classifier.Classify, message)] += 1
        for count in (1, 4, 9):  # the last is over the limit
            tensor = request("lenet", [("image", "FP32", digits(count))])
            ended["ModelInfer", failure_of(inference.ModelInfer, tensor)] += 1
        assert len(list(classifier.ClassifyStream(iter([one] * 3)))) == 3
        ended["ClassifyStream", "OK"] += 1
    return ended


def failure_of(method: Callable[[Any], object], message: object) -> str:
    try:
        method(message)
    except grpc.RpcError as error:
        return str(error.code().name.title().replace("_", ""))
    return "OK"


def test_counts_are_those_of_the_clients(watched: Watched) -> None:
    answered = (10 + 1 + 2 + 3) * CONNECTIONS
    watched.prometheus.until("sum(nv_inference_request_success)", answered)

    found = {
        (sample["metric"]["grpc_method"], sample["metric"]["grpc_code"]): float(sample["value"][1])
        for sample in watched.prometheus.query("grpc_server_handled_total > 0")
    }
    assert found == watched.ended
    assert watched.ended["ModelInfer", "ResourceExhausted"] == CONNECTIONS


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('grpc_server_started_total{grpc_method="Classify",grpc_type="unary"}', 13),
        ('grpc_server_started_total{grpc_method="ClassifyStream",grpc_type="bidi_stream"}', 1),
        ('grpc_server_msg_received_total{grpc_method="Classify"}', 13),
        ('grpc_server_msg_received_total{grpc_method="ClassifyStream"}', 3),
        ('grpc_server_msg_sent_total{grpc_method="Classify"}', 11),
        ('grpc_server_msg_sent_total{grpc_method="ClassifyStream"}', 3),
        ('grpc_server_handling_seconds_count{grpc_method="Classify"}', 13),
        ('grpc_server_handling_seconds_bucket{grpc_method="Classify",le="+Inf"}', 13),
        ('featurelens_stream_message_seconds_count{grpc_method="ClassifyStream"}', 3),
        ('featurelens_refusals_total{reason="limit"}', 1),
        ('nv_inference_request_success{model="lenet",version="1"}', 16),
        ('nv_inference_request_failure{model="lenet",version="1",reason="OTHER"}', 2),
        ("nv_inference_count", 19),
        ("featurelens_queue_seconds_count", 16),
        ("featurelens_run_batch_size_sum", 19),
    ],
)
def test_each_client_adds_its_part(watched: Watched, expression: str, expected: float) -> None:
    watched.prometheus.until("sum(nv_inference_request_success)", 16 * CONNECTIONS)

    assert watched.prometheus.value(expression) == expected * CONNECTIONS


@pytest.mark.parametrize(
    "expression",
    [
        'up{job="featurelens"} == 1',
        "featurelens_run_batch_size_count == nv_inference_exec_count",
        "nv_inference_exec_count <= nv_inference_count",
        "nv_inference_pending_request_count == 0",
        "nv_inference_queue_duration_us / 1e6 - featurelens_queue_seconds_sum < 1e-6",
        "nv_inference_compute_infer_duration_us > 0",
        "nv_inference_compute_input_duration_us > 0",
        "nv_inference_compute_output_duration_us > 0",
        "nv_inference_request_duration_us > nv_inference_compute_infer_duration_us",
        'featurelens_model_provider_info{provider="CPUExecutionProvider",model="lenet",version="1"} == 1',
        "featurelens_build_info == 1",
        "featurelens_response_cache_bytes == 0",
        "nv_cache_num_hits_per_model == 0",
        "nv_cache_num_misses_per_model == 0",
        "nv_cache_hit_duration_per_model == 0",
        "nv_cache_miss_duration_per_model == 0",
        'featurelens_model_changes_total{change="config_applied"} == 1',
        "featurelens_model_change_refused == 0",
        "featurelens_tap_sessions >= 1",
        f"featurelens_tap_session_hits_total + featurelens_tap_session_misses_total <= {CONNECTIONS}",
        "featurelens_tap_session_misses_total >= featurelens_tap_sessions",
        "featurelens_tap_session_evictions_total == 0",
        "featurelens_worker_restarts_total == 0",
        "process_resident_memory_bytes > 5e7",
        "process_virtual_memory_bytes > process_resident_memory_bytes",
        "process_cpu_seconds_total > 0.1",
        "process_open_fds > 10",
        "process_max_fds >= process_open_fds / 2",
        "time() - process_start_time_seconds < 600",
    ],
)
def test_every_metric_tells_something_true(watched: Watched, expression: str) -> None:
    watched.prometheus.until("sum(nv_inference_request_success)", 16 * CONNECTIONS)

    assert len(watched.prometheus.query(expression)) == 1


def test_states_and_workers(watched: Watched) -> None:
    states = watched.prometheus.query("featurelens_model_state")
    workers = watched.prometheus.query("featurelens_workers")

    assert {s["metric"]["state"]: int(s["value"][1]) for s in states} == {
        "loading": 0,
        "ready": watched.workers,
        "unavailable": 0,
    }
    assert {s["metric"]["state"]: int(s["value"][1]) for s in workers} == dict.fromkeys(
        ("alive", "wanted"), watched.workers
    )


def test_every_documented_metric_is_read_with_its_type(watched: Watched) -> None:
    watched.prometheus.until("sum(nv_inference_request_success)", 16 * CONNECTIONS)
    metadata = watched.prometheus.metadata()

    found = {name: metadata[name.removesuffix("_total")]["type"] for name in METRICS}
    assert found == {name: TYPES.get(metric.kind, metric.kind.value) for name, metric in METRICS.items()}


def test_every_query_of_the_documents_is_one(watched: Watched) -> None:
    section = DOCUMENT.read_text().split("## What to watch\n")[1]
    queries = re.findall(r"\| `(.+)` \|$", section, re.MULTILINE)

    assert len(queries) >= 5
    for query in queries:
        watched.prometheus.query(query)  # raises for one that is none


def counters() -> Sequence[str]:
    kinds = {Kind.COUNTER: "", Kind.UNTYPED: "", Kind.HISTOGRAM: "_count"}
    return [f"{name}{kinds[metric.kind]}" for name, metric in METRICS.items() if metric.kind in kinds]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_chosen_port_that_is_taken_is_refused(workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_to_its_end("--workers", str(workers), "--metrics-address", address)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        f"featurelens serve: can't serve metrics on {address}: Address already in use; choose another with"
        " --metrics-address"
    )


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_no_counter_falls_when_a_worker_dies(transport: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ["--transport", transport, "--workers", "2", "--metrics-address", "127.0.0.1:0"]
    with server_process(*arguments, log=log) as server:
        (line,) = lines_of(log, "serving metrics")
        with prometheus(line["address"], tmp_path) as watching:
            for _ in range(20):
                with connect(server.address) as channel:
                    classify(channel)
            watching.until("sum(nv_inference_request_success)", 20)
            os.kill(server.workers().pop(), signal.SIGKILL)
            watching.until("featurelens_worker_restarts_total", 1)
            watching.until("featurelens_workers{state='alive'}", 2)
            watching.until("sum(featurelens_model_state{state='ready'})", 2)
            for _ in range(20):
                with connect(server.address) as channel:
                    classify(channel)
            watching.until("sum(nv_inference_request_success)", 40)
            fallen = {
                name: watching.query(f"resets({name}[10m]) > 0")
                for name in counters()
                if watching.query(f"resets({name}[10m]) > 0")
            }

            assert fallen == {}
            assert watching.value("sum(grpc_server_handled_total)") == 40
