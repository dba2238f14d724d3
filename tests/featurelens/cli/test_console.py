from __future__ import annotations

import pytest

from featurelens.cli.console import print_table, printable, rounded

COLUMNS = ["image", "probability"]
ROWS = [["[bold]a b[/bold].png", "99.10%"], ["c\nd.png", "5.00%"]]


def test_a_pipe_gets_plain_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS)

    assert capsys.readouterr().out == (
        "IMAGE                 PROBABILITY\n[bold]a b[/bold].png  99.10%\nc\\nd.png              5.00%\n"
    )


def test_a_terminal_gets_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's way to be told that it writes to a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    print_table(COLUMNS, ROWS)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]

    assert "─" * 20 in lines[2]
    assert lines[3].split() == ["[bold]a", "b[/bold].png", "99.10%"]
    assert lines[4].split() == ["c\\nd.png", "5.00%"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("größe 数 7.png", "größe 数 7.png"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\udcff.png", "\\udcff.png"),
    ],
)
def test_text_is_made_safe_to_print(text: str, expected: str) -> None:
    assert printable(text) == expected


@pytest.mark.parametrize(
    ("probability", "expected"), [(0.9987654685974121, 0.9987655), (3.1129e-10, 3.1129e-10), (1.0, 1.0)]
)
def test_a_probability_keeps_the_digits_of_a_float32(probability: float, expected: float) -> None:
    assert rounded(probability) == expected
