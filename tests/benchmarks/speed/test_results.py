import json
from pathlib import Path

import pytest

from benchmarks.speed.environment import Environment
from benchmarks.speed.report import as_json, insert, markdown
from benchmarks.speed.results import Measurement, Results, Row, StartUp

FLOOR = ("8x4", "bare")


def row(subject: str, *rates: float, failed: int = 0) -> Row:
    rounds = [Measurement(rate, p50_ms=1, p99_ms=rate / 10, failed=failed) for rate in rates]
    return Row("8x4", subject, FLOOR, goal=3.0, rounds=rounds)


@pytest.fixture
def results() -> Results:
    environment: Environment = {"date": "2026-01-01", "cpu": "a CPU", "cpus": 2, "python": "3.11"}
    rows = [row("bare", 10, 20, 40), row("ours", 30, 80, 100, failed=1)]
    return Results(
        environment | {"onnxruntime": "1", "grpcio": "1", "load_average": 0.1},
        rows,
        [StartUp("ours", [3.0, 1.0, 2.0], 50, 60, 1)],
        9,
    )


def test_ratios_are_taken_within_a_round(results: Results) -> None:
    assert [results.ratios(row) for row in results.rows] == [[1, 1, 1], [3, 4, 2.5]]


def test_a_floor_that_was_not_measured_gives_no_ratio(results: Results) -> None:
    alone = Results(results.environment, results.rows[1:], [], 0)

    assert alone.ratios(alone.rows[0]) == []


def test_figures_are_medians_over_the_rounds(results: Results) -> None:
    ours = results.rows[1]

    assert (ours.images_per_s, ours.p50_ms, ours.p99_ms, ours.cpu_ms_per_call) == (80, 1, 8, None)
    assert json.loads(as_json(results))["rows"][1]["median"]["ratio"] == 3


def test_failed_calls_add_up(results: Results) -> None:
    assert results.failed == 3


def test_markdown_has_a_row_for_each_subject(results: Results) -> None:
    lines = markdown(results).splitlines()

    assert "| ours | 80 | 30 .. 100 | 1.00 | 8.00 |  | 3.00 (2.50 .. 4.00) | 3.0 |" in lines
    assert "| ours | 2.00 | 50 | 60 | 1 |" in lines


def test_a_document_without_marks_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("no marks\n")

    with pytest.raises(ValueError, match="has no <!-- begin bench -->"):
        insert(document, "bench", "text")
