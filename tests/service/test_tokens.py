"""Bearer tokens: who may call what, over both transports; rotation; what is no token."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as inference
from protos.tensors import pack
from service.auth import AuthRules, Guard, guard
from service.errors import PermissionDeniedError, StartupError, UnauthenticatedError
from service.security import guard_of, is_loopback
from service.settings import Settings
from tests.service.test_classify import digits
from tests.serving import Serving, serving

TOKEN, OTHER, CONTROL = "a-token", "another-token", "a-control-token"
REQUEST = pb.ClassifyRequest(tensor=pack(digits(1)))
TIMEOUT_S = 20.0
LOAD = "/inference.GRPCInferenceService/RepositoryModelLoad"

Call = Callable[[grpc.Channel, tuple[tuple[str, str], ...]], object]


def hash_of(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def bearing(token: str | None) -> tuple[tuple[str, str], ...]:
    return () if token is None else (("authorization", f"Bearer {token}"),)


def classify(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> object:
    return ClassifierStub(channel).Classify(REQUEST, metadata=metadata, timeout=TIMEOUT_S)


def stream(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> object:
    answers = ClassifierStub(channel).ClassifyStream(iter([REQUEST]), metadata=metadata, timeout=TIMEOUT_S)
    return list(answers)


def health(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> object:
    check = health_pb2_grpc.HealthStub(channel).Check
    return check(health_pb2.HealthCheckRequest(), metadata=metadata, timeout=TIMEOUT_S)


def reflection(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> object:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    info = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    return list(info(iter([request]), metadata=metadata, timeout=TIMEOUT_S))


def load(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> object:
    request = inference.RepositoryModelLoadRequest(model_name="lenet").SerializeToString()
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LOAD)
    return method(request, metadata=metadata, timeout=TIMEOUT_S)


def unknown(channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> object:
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/no.such.Service/Method")
    return method(b"", metadata=metadata, timeout=TIMEOUT_S)


def outcome(call: Call, channel: grpc.Channel, token: str | None) -> str:
    try:
        call(channel, bearing(token))
    except grpc.RpcError as error:
        raised: Any = error
        return str(raised.code().name)
    return "OK"


@pytest.mark.parametrize(
    ("call", "without", "plain", "control"),
    [
        (classify, "UNAUTHENTICATED", "OK", "OK"),
        (stream, "UNAUTHENTICATED", "OK", "OK"),
        (reflection, "UNAUTHENTICATED", "OK", "OK"),
        (health, "OK", "OK", "OK"),
        (load, "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"),
        (unknown, "UNAUTHENTICATED", "UNIMPLEMENTED", "UNIMPLEMENTED"),
    ],
)
def test_what_a_token_opens(
    tokened: grpc.Channel, call: Call, without: str, plain: str, control: str
) -> None:
    tried = [None, "wrong", TOKEN, CONTROL]
    assert [outcome(call, tokened, token) for token in tried] == [without, without, plain, control]


@pytest.fixture(scope="module")
def tokened(transport: str) -> Iterable[grpc.Channel]:
    tokens = {"tokens": hash_of(TOKEN), "control_tokens": hash_of(CONTROL)}
    with serving(transport=transport, **tokens) as server, grpc.insecure_channel(server.address) as channel:
        yield channel


def test_health_and_reflection_open_and_close_by_setting(serving: Serving) -> None:
    settings = {"tokens": hash_of(TOKEN), "open_health": False, "open_reflection": True}
    with serving(**settings) as server, grpc.insecure_channel(server.address) as channel:
        assert [outcome(call, channel, None) for call in (health, reflection)] == ["UNAUTHENTICATED", "OK"]
        assert outcome(health, channel, TOKEN) == "OK"


def test_a_control_token_alone_leaves_calls_open(serving: Serving) -> None:
    tokens = hash_of(CONTROL)
    with serving(control_tokens=tokens) as server, grpc.insecure_channel(server.address) as channel:
        assert outcome(classify, channel, None) == "OK"
        assert outcome(reflection, channel, None) == "OK"
        assert outcome(load, channel, None) == "UNAUTHENTICATED"
        assert outcome(load, channel, CONTROL) == "UNIMPLEMENTED"


def test_the_control_token_loads_models(serving: Serving, repository: Path) -> None:
    settings = {"model_repository": repository, "model_control": True, "tokens": hash_of(TOKEN)}
    with (
        serving(**settings, control_tokens=hash_of(CONTROL)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        outcomes = [outcome(load, channel, token) for token in (None, TOKEN, CONTROL)]
    assert outcomes == ["UNAUTHENTICATED", "PERMISSION_DENIED", "OK"]


def test_tokens_rotate_without_a_restart_and_without_a_failed_call(serving: Serving, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{hash_of(TOKEN)} old\n")
    with serving(tokens_file=file) as server, grpc.insecure_channel(server.address) as channel:
        file.write_text(f"{hash_of(TOKEN)} old\n{hash_of(OTHER)} new  # from Monday\n")
        assert until("OK", channel, OTHER, also_good=TOKEN)
        file.write_text(f"{hash_of(OTHER)} new\n")
        assert until("UNAUTHENTICATED", channel, TOKEN, also_good=OTHER)
        file.write_text("nonsense\n")
        file.write_text(f"{hash_of(OTHER)} new\n{hash_of(CONTROL)} operator control\n")
        assert until("OK", channel, CONTROL, also_good=OTHER)
        assert [outcome(load, channel, token) for token in (OTHER, CONTROL)] == [
            "PERMISSION_DENIED",
            "UNIMPLEMENTED",
        ]


def until(wanted: str, channel: grpc.Channel, token: str, *, also_good: str) -> bool:
    """Call until a token has the wanted outcome, while the other one is good all the time."""
    end = time.monotonic() + TIMEOUT_S
    while outcome(classify, channel, token) != wanted:
        assert outcome(classify, channel, also_good) == "OK"
        if time.monotonic() > end:
            return False
    return True


def refusal_of(check: Guard, header: str, method: str = "/a/B") -> type[Exception] | None:
    refusal = check(method, [("other", "x"), ("authorization", header)])
    return None if refusal is None else type(refusal)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer a-toke",
        "Bearer a-token ",
        f"Bearer {hash_of(TOKEN)}",
        "Basic a-token",
        TOKEN,
    ],
)
def test_a_header_that_is_almost_right_is_wrong(header: str) -> None:
    check = guard(AuthRules(tokens=[hash_of(TOKEN)]))
    assert check
    assert refusal_of(check, f"Bearer {TOKEN}") is None
    assert refusal_of(check, header) is UnauthenticatedError
    assert check("/a/B", [("authorization", b"Bearer a-token")]) is not None
    assert check("/a/B", []) is not None


def test_a_wrong_file_keeps_the_tokens_that_were(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# people\n\n{hash_of(TOKEN)}\tme\n")
    clock = itertools.count(step=10.0)
    with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs() as lines:
        patch.setattr("service.reloading.time.monotonic", lambda: next(clock))
        check = guard(AuthRules(file=file, control_methods=frozenset({"/a/Control"})))
        assert check
        assert refusal_of(check, f"Bearer {TOKEN}", "/a/Control") is PermissionDeniedError
        file.write_text(f"{hash_of(TOKEN)}\n")  # has no name
        assert [refusal_of(check, f"Bearer {TOKEN}") for _ in range(3)] == [None] * 3
        file.unlink()
        assert [refusal_of(check, f"Bearer {TOKEN}") for _ in range(3)] == [None] * 3
    assert [line["log_level"] for line in lines] == ["error", "error"]
    assert "line 1: expected the SHA-256 of a token" in lines[0]["reason"]


@pytest.mark.parametrize("content", ["secret-token me\n", f"{'A' * 64} me\n", f"{'a' * 64} me controls\n"])
def test_a_wrong_file_stops_the_start_and_is_not_repeated(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(content)
    with pytest.raises(StartupError, match="line 1: expected the SHA-256") as info:
        guard(AuthRules(file=file))
    assert content.split()[0] not in str(info.value)


def test_an_empty_file_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "tokens").touch()
    check = guard(AuthRules(file=tmp_path / "tokens"))
    assert check
    assert refusal_of(check, f"Bearer {TOKEN}") is UnauthenticatedError


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="can't read the tokens"):
        guard(AuthRules(file=tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:8001", True),
        ("[::1]:8001", True),
        ("localhost:0", True),
        ("unix:/run/x.sock", True),
        ("0.0.0.0:8001", False),
        ("[::]:8001", False),
        ("10.1.2.3:8001", False),
        ("example.com:8001", False),
    ],
)
def test_what_only_this_machine_reaches(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize(("address", "warnings"), [("0.0.0.0:8001", 1), ("127.0.0.1:8001", 0)])
def test_tokens_in_plain_text_are_worth_a_warning(address: str, warnings: int) -> None:
    with structlog.testing.capture_logs() as lines:
        assert guard_of(Settings(grpc_address=address, tokens=(hash_of(TOKEN),)))
        assert guard_of(Settings(grpc_address=address)) is None
    assert [line["event"] for line in lines] == ["tokens travel in plain text; switch TLS on"] * warnings


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"grpc_address": "0.0.0.0:8001"}, True),
        ({"grpc_address": "127.0.0.1:8001"}, False),
        ({"grpc_address": "0.0.0.0:8001", "control_tokens": (hash_of(CONTROL),)}, False),
        ({"grpc_address": "0.0.0.0:8001", "tokens": (hash_of(TOKEN),)}, True),
    ],
)
def test_strangers_never_load_models(settings: dict[str, object], refused: bool) -> None:
    with pytest.raises(StartupError, match="model_control needs") if refused else nullcontext():
        guard_of(Settings.model_validate({"model_control": True, **settings}))
