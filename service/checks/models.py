"""Checks of the device and of the models: they are loaded, as the server does it."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace
from itertools import chain
from typing import Any

from onnx import TensorProto, helper
from structlog.testing import capture_logs

from service.checks import model
from service.checks.finding import Finding, bad, good, notice
from service.device import create_session, installed_providers
from service.errors import StartupError
from service.from_settings import execution_of, load_repository
from service.providers import CPU
from service.repository import Entry
from service.settings import Settings

_IGNORED = "ignored in the model repository"


def device(settings: Settings) -> Finding:
    """Check that a session opens where models are to run."""
    installed = ", ".join(installed_providers())
    try:
        with capture_logs() as lines:
            execution = execution_of(settings)
            provider = create_session(_identity(), execution).get_providers()[0]
    except StartupError as error:
        what, _, advice = str(error).partition("; ")
        return bad("device", what, advice)
    found = f"{provider} opens; this ONNX Runtime has {installed}"
    if lines and len(installed_providers()) > 1 and provider == CPU and execution.provider != CPU:
        return notice("device", f"{found}; {lines[-1].get('reason')}", "see NVIDIA's driver and libraries")
    return good("device", found)


def models(settings: Settings) -> list[Finding]:
    """Load every version that is to be served, and tell what became of it."""
    try:
        with capture_logs() as lines:
            entries = load_repository(settings).repository.entries()
    except StartupError as error:
        return [*_ignored(lines), bad("models", str(error), "correct the files, or --model-repository")]
    return [*_ignored(lines), *chain.from_iterable(map(_version, entries))]


def _version(entry: Entry) -> list[Finding]:
    check = f"model {entry.name}/{entry.version}"
    if entry.served is None:
        return [bad(check, entry.reason, "correct the file, or take it away")]
    missing = [replace(finding, check=f"{check}: {finding.check}") for finding in model.advice(entry.served)]
    return [good(check, model.summary(entry.served)), *missing]


def _ignored(lines: list[MutableMapping[str, Any]]) -> list[Finding]:
    return [
        notice(
            "model repository",
            f"{line['place']} is ignored: {line['reason']}",
            f"expected {line['expected']}",
        )
        for line in lines
        if line["event"] == _IGNORED
    ]


def _identity() -> bytes:
    """Make the smallest model."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Identity", ["in"], ["out"])], "probe", ends[:1], ends[1:])
    identity = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return identity.SerializeToString()
