"""Flags win over variables, which win over defaults; what is misspelt or out of range is refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.errors import StartupError
from service.settings import Settings, parse_settings, refuse_unknown_variables


def test_a_flag_wins_over_a_variable_which_wins_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_settings([]).grpc_address == "127.0.0.1:8001"
    monkeypatch.setenv("FEATURELENS_GRPC_ADDRESS", "127.0.0.1:9001")
    assert parse_settings([]).grpc_address == "127.0.0.1:9001"
    assert parse_settings(["--grpc-address", "127.0.0.1:0"]).grpc_address == "127.0.0.1:0"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().device = "cpu"


@pytest.mark.parametrize(
    "argv",
    [
        ["--device", "tpu"],
        ["--max-batch-size", "0"],
        ["--threads", "-1"],
        ["--grace-s", "soon"],
    ],
)
def test_a_value_that_a_setting_does_not_take_is_refused(argv: list[str]) -> None:
    with pytest.raises(ValidationError):
        parse_settings(argv)


def test_a_misspelt_variable_is_refused() -> None:
    with pytest.raises(StartupError, match="no setting is called FEATURELENS_DEVCE"):
        refuse_unknown_variables({"FEATURELENS_DEVCE": "cpu", "HOME": "/"})


def test_an_unknown_flag_exits_with_a_usage_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse_settings(["--devce", "cpu"])
    assert exit_info.value.code == 2
    assert "unrecognized arguments: --devce" in capsys.readouterr().err
