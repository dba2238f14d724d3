"""Checks of what is installed."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable

from service.checks.finding import Finding, bad, good, notice
from service.settings import Settings
from service.versions import version_of

VersionOf = Callable[[str], str | None]

_OLDEST = (3, 11)
_ENGINES = ("onnxruntime", "onnxruntime-gpu")
_NATIVE = "pygrpc-native"
_TRACES = "opentelemetry-exporter-otlp-proto-grpc"


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Check the interpreter."""
    found = f"{'.'.join(map(str, version))}, {platform.system()} {platform.machine()}"
    if version[:2] < _OLDEST:
        return bad("Python", found, f"take Python {'.'.join(map(str, _OLDEST))} or newer")
    return good("Python", found)


def packages(settings: Settings, version: VersionOf = version_of) -> list[Finding]:
    """Check the libraries, those that the settings need among them.

    Args:
        settings: What is wanted.
        version: Tells the version of a package that is installed.
    """
    found = [_engine(version), good("grpcio", version("grpcio") or "")]
    if settings.transport != "grpcio":
        found.append(_native(settings, version))
    if settings.trace_endpoint:
        found.append(_traces(version))
    return found


def _engine(version: VersionOf) -> Finding:
    installed = [f"{name} {number}" for name in _ENGINES if (number := version(name))]
    if len(installed) > 1:
        return bad(
            "ONNX Runtime",
            f"{' and '.join(installed)}, which overwrite each other",
            f"uninstall both, then install one: pip uninstall {' '.join(_ENGINES)}",
        )
    return good("ONNX Runtime", *installed or ["from elsewhere than PyPI"])


def _native(settings: Settings, version: VersionOf) -> Finding:
    if number := version(_NATIVE):
        return good("native transport", f"{_NATIVE} {number}")
    advice = "pip install 'featurelens[server]'"
    if settings.transport == "native":
        return bad("native transport", f"{_NATIVE} is not installed", advice)
    return notice("native transport", f"{_NATIVE} is not installed: grpcio carries the calls, slower", advice)


def _traces(version: VersionOf) -> Finding:
    if number := version(_TRACES):
        return good("OpenTelemetry", f"{_TRACES} {number}")
    return bad("OpenTelemetry", f"{_TRACES} is not installed", "pip install 'featurelens[otel]'")
