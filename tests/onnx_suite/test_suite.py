"""A bounded slice of the onnx package's cases, over both transports; `make test-long` runs all of them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from tests.onnx_suite import cases, report
from tests.onnx_suite.cases import Case
from tests.onnx_suite.report import Reason
from tests.onnx_suite.served import Outcome


@pytest.fixture(scope="module")
def some_cases() -> list[Case]:
    """Every 20th case of a node, those that are known exceptions, and all of simple models."""
    nodes = cases.load(["node"])
    known = {case for reason in report.known_exceptions() for case in reason.cases}
    return [
        *nodes[::20],
        *(case for i, case in enumerate(nodes) if i % 20 and case.id in known),
        *cases.load(["simple"]),
    ]


@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_what_passes_in_onnx_runtime_passes_through_the_server(
    some_cases: list[Case], transport: str
) -> None:
    found = report.run(some_cases, transport)
    assert found.wrong == ()
    assert found.cases == len(some_cases) > 100
    assert found.passed_served == found.passed_alone - sum(found.exceptions.values()) > 70


def outcome(name: str, problem: str) -> Outcome:
    case = Case("node", name, ModelProto(), {"x": np.zeros(1)}, {}, rtol=0, atol=0)
    return Outcome(case, problem)


@pytest.mark.parametrize(
    ("problem", "wrong"),
    [
        ("a is a sequence", ()),
        ("", ("node/a is a known exception and is none",)),
        ("UNAVAILABLE: gone", ("node/a: UNAVAILABLE: gone",)),
    ],
    ids=["known", "unexpected pass", "another failure"],
)
def test_known_exceptions_have_to_fail_as_they_did(problem: str, wrong: tuple[str, ...]) -> None:
    outcomes = [outcome("a", problem), outcome("b", "")]
    found = report.judge(
        [o.case for o in outcomes], outcomes, [Reason("Sequences.", "a sequence", ("node/a",))]
    )
    assert found.wrong == wrong


def test_a_new_exception_is_wrong() -> None:
    failed = outcome("c", "output is missing")
    found = report.judge([failed.case], [failed], [Reason("Sequences.", "sequence", ("node/a",))])
    assert found.wrong == ("node/c: output is missing",)
    assert str(found).splitlines() == [
        "     1 cases",
        "     1 passed in ONNX Runtime alone",
        "     0 of these passed through gRPC",
        "     0 exceptions",
        "WRONG node/c: output is missing",
    ]
