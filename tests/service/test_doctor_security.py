"""What the doctor finds of TLS and tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.checks.finding import Verdict
from service.checks.security import door
from service.settings import Settings
from tests.service.certificates import Pair, authority, pair_of

GOOD, NOTICE, BAD = Verdict.GOOD, Verdict.NOTICE, Verdict.BAD
EVERYWHERE = "0.0.0.0:8001"
TOKEN = "0" * 64


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    ca, _ = authority(tmp_path)
    return pair_of(ca.issue_cert("127.0.0.1"), tmp_path / "server")


def verdicts(**settings: object) -> list[Verdict]:
    """Return what is said of TLS and of tokens."""
    return [finding.verdict for finding in door(Settings.model_validate(settings))]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, [GOOD, GOOD], id="only this machine"),
        pytest.param({"grpc_address": EVERYWHERE}, [NOTICE, NOTICE], id="open to all"),
        pytest.param({"grpc_address": EVERYWHERE, "tokens": TOKEN}, [NOTICE, GOOD], id="in plain text"),
    ],
)
def test_an_open_door_is_worth_knowing(settings: dict[str, object], expected: list[Verdict]) -> None:
    assert verdicts(**settings) == expected


def test_certificates_that_fit_are_good(pair: Pair) -> None:
    assert verdicts(tls_cert=pair.cert, tls_key=pair.key, grpc_address=EVERYWHERE) == [GOOD, NOTICE]


def test_clients_that_prove_who_they_are_need_no_token(pair: Pair, tmp_path: Path) -> None:
    settings = {"tls_cert": pair.cert, "tls_key": pair.key, "tls_client_ca": tmp_path / "ca.pem"}

    assert verdicts(grpc_address=EVERYWHERE, **settings) == [GOOD, GOOD]


def test_files_that_can_not_be_used_are_bad(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("secret\n")

    assert verdicts(tls_cert=pair.cert) == [BAD, GOOD]
    assert verdicts(tls_cert=pair.key, tls_key=pair.cert) == [BAD, GOOD]
    assert verdicts(tls_cert=tmp_path / "nope", tls_key=pair.key) == [BAD, GOOD]
    assert verdicts(tokens_file=tmp_path / "tokens") == [GOOD, BAD]
    assert verdicts(tokens_file=tmp_path / "nope") == [GOOD, BAD]
