"""What only a process has: the line it prints, signals, exit statuses, ports, logs, its health check."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from tests.e2e.processes import TIMEOUT_S, lines_of, run_to_its_end, server_process, until_not_serving
from tests.service.test_accepting import STRANGE, attack

DIGIT = pack(np.zeros((1, 1, 32, 32), np.float32))


def test_it_serves_the_shipped_model_from_any_folder_and_ends_on_sigterm(tmp_path: Path) -> None:
    with server_process(cwd=tmp_path) as server:
        assert server.line.startswith("featurelens is serving lenet on 127.0.0.1:")
        with grpc.insecure_channel(server.address) as channel:
            assert ClassifierStub(channel).Classify(pb.ClassifyRequest(tensor=DIGIT)).model == "lenet"
        assert server.terminate() == 0


def test_sigint_ends_it_as_well() -> None:
    with server_process() as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize("layers", [[], ["conv1", "relu1"]], ids=["small answers", "answers of 10 MB"])
@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_every_call_that_was_accepted_is_answered_after_sigterm(
    tmp_path: Path, transport: str, layers: list[str]
) -> None:
    """Judged by the history: what the log calls OK is what the clients got, the rest was never taken."""
    images = pack(np.zeros((256, 1, 32, 32), np.float32))
    log = tmp_path / "log"
    with (
        server_process("--transport", transport, "--default-deadline-s=60", log=log) as server,
        grpc.insecure_channel(server.address, [("grpc.max_receive_message_length", -1)]) as channel,
    ):
        stub = ClassifierStub(channel)
        requests = [pb.ClassifyRequest(id=str(i), tensor=images, layers=layers) for i in range(30)]
        calls = {request.id: stub.Classify.future(request) for request in requests}
        calls["0"].result(timeout=TIMEOUT_S)
        server.process.send_signal(signal.SIGTERM)
        outcomes = {name: call.code() for name, call in calls.items()}
        assert server.process.wait(TIMEOUT_S) == 0
    taken = {call["request_id"]: call["code"] for call in lines_of(log, "call")}
    assert set(taken.values()) <= {"OK", "UNAVAILABLE"}  # answered, or refused because the server drains
    answered = {name for name, code in taken.items() if code == "OK"}
    assert {name for name, code in outcomes.items() if code is grpc.StatusCode.OK} == answered
    refused = {code for name, code in outcomes.items() if name not in answered}
    assert refused <= {grpc.StatusCode.UNAVAILABLE}


def test_a_second_signal_ends_it_at_once() -> None:
    with server_process("--drain-s", "600") as server, grpc.insecure_channel(server.address) as channel:
        server.process.send_signal(signal.SIGTERM)
        channel.unsubscribe(lambda _: None)
        until_not_serving(channel)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(TIMEOUT_S) == 128 + signal.SIGTERM


def test_it_serves_new_calls_while_it_drains() -> None:
    with server_process("--drain-s", "600") as server, grpc.insecure_channel(server.address) as channel:
        server.process.send_signal(signal.SIGTERM)
        until_not_serving(channel)
        assert ClassifierStub(channel).Classify(pb.ClassifyRequest(tensor=DIGIT)).model == "lenet"


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_to_its_end("--grpc-address", address, "--log-level", "error")
    assert done.returncode == 1
    assert f"featurelens serve: can't listen on {address}: " in done.stderr
    assert "Traceback" not in done.stderr


def test_two_servers_never_share_a_port() -> None:
    with server_process() as server:
        done = run_to_its_end("--grpc-address", server.address)
        assert done.returncode == 1
        assert server.terminate() == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--model-repository", "/nowhere"], 1, "the model repository /nowhere is not a folder"),
        (["--device", "cuda"], 1, "pip install 'featurelens[cuda]'"),
        (["--device", "tpu"], 2, "device: Input should be 'auto', 'cpu', 'cuda' or 'tensorrt'"),
        (["--grpc-address", "nonsense"], 1, "can't listen on nonsense"),
        (["--devce", "cpu"], 2, "unrecognized arguments: --devce"),
    ],
)
def test_what_keeps_it_from_starting_is_said_without_a_traceback(
    arguments: list[str], status: int, message: str
) -> None:
    done = run_to_its_end(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_variable_stops_the_start() -> None:
    done = run_to_its_end(FEATURELENS_DEVCE="cpu")
    assert done.returncode == 2
    assert "no setting is called FEATURELENS_DEVCE" in done.stderr


def test_a_fallback_to_the_cpu_is_logged() -> None:
    done = run_to_its_end("--device", "auto", "--grpc-address", "nonsense", "--log-format", "json")
    events = [json.loads(line)["event"] for line in done.stderr.splitlines() if line.startswith("{")]
    assert "running on the CPU" in events


def test_every_call_is_one_json_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with server_process(log=log) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        stub.Classify(pb.ClassifyRequest(id="good", tensor=DIGIT, layers=["conv1"]))
        with pytest.raises(grpc.RpcError):
            stub.Classify(pb.ClassifyRequest(id="bad\n\x1b[31m", model="resnet"))
        assert server.terminate() == 0
    calls = lines_of(log, "call")
    facts = [(call["request_id"], call["code"], call.get("samples"), call.get("layers")) for call in calls]
    assert facts == [("good", "OK", 1, 1), ("bad\n\x1b[31m", "NOT_FOUND", None, None)]
    assert calls[0]["method"] == "/featurelens.v1.Classifier/Classify"
    assert calls[0]["duration_ms"] > 0
    assert "resnet" in calls[1]["error"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_full_disk_under_the_log_costs_lines_and_no_calls(log_format: str) -> None:
    full = Path("/dev/full")  # writing to it fails as on a full disk
    with server_process("--log-format", log_format, log=full) as server:
        with grpc.insecure_channel(server.address) as channel:
            for _ in range(20):
                assert ClassifierStub(channel).Classify(pb.ClassifyRequest(tensor=DIGIT)).results
        assert server.terminate() == 0


@pytest.mark.parametrize("transport", ["native", "grpcio"])
def test_a_refused_call_is_logged_and_no_token_is(tmp_path: Path, transport: str) -> None:
    log = tmp_path / "log"
    tokens = sha256(b"open-sesame").hexdigest()
    with server_process("--tokens", tokens, "--transport", transport, log=log) as server:
        with grpc.insecure_channel(server.address) as channel:
            classify = ClassifierStub(channel).Classify
            classify(pb.ClassifyRequest(tensor=DIGIT), metadata=(("authorization", "Bearer open-sesame"),))
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                classify(pb.ClassifyRequest(tensor=DIGIT), metadata=(("authorization", "Bearer sesame"),))
        assert server.terminate() == 0
    assert [call["code"] for call in lines_of(log, "call")] == ["OK", "UNAUTHENTICATED"]
    assert "sesame" not in log.read_text()
    assert tokens not in log.read_text()


def test_the_health_check_tells_a_living_server_from_a_dead_one() -> None:
    check = [sys.executable, "-m", "service.healthcheck"]
    with server_process() as server:
        assert subprocess.run([*check, server.address], check=False).returncode == 0
        server.terminate()
        dead = subprocess.run([*check, server.address], capture_output=True, text=True, check=False)
    assert (dead.returncode, dead.stderr) == (1, f"{server.address}: UNAVAILABLE\n")


def test_every_line_of_the_log_is_json_whatever_strangers_send(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with server_process("--transport", "grpcio", log=log) as server:
        for said in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x00\xff",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"x" * 64,
        ):
            host, _, port = server.address.rpartition(":")
            with socket.create_connection((host, int(port)), TIMEOUT_S) as connection:
                connection.sendall(said)
        attack(server.address, STRANGE["path"])
        with grpc.insecure_channel(server.address) as channel:
            stub = ClassifierStub(channel)
            assert stub.Classify(pb.ClassifyRequest(tensor=DIGIT), timeout=TIMEOUT_S, wait_for_ready=True)
        assert server.terminate() == 0
    lines = log.read_text().splitlines()
    assert lines
    for line in lines:
        assert "event" in json.loads(line)
