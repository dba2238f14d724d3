"""The invariants that ARCHITECTURE.md names, each checked on the source."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("protos", "service", "training", "featurelens")

# What a package never imports, wherever the import stands.
FORBIDDEN = {
    "protos": {"service", "training", "featurelens"},
    "service": {"training", "featurelens", "torch"},
    "training": {"service", "featurelens", "grpc", "protos"},
    "featurelens": {"service", "training", "torch", "onnxruntime"},
}
# A module of service/ imports only from its own line and from the lines above.
LAYERS = (
    {
        "errors",
        "settings",
        "logs",
        "batching_limits",
        "versions",
        "auth",
        "reloading",
        "file_kinds",
        "text_files",
    },
    {"freed_memory", "cgroups", "cpus", "providers", "device", "binding", "run_watch", "tensors", "heads"},
    {"histogram", "metrics", "statistics", "suspects", "channel", "peers"},
    {
        "onnx_file",
        "told_types",
        "determinism",
        "operators",
        "receptive_field",
        "field_rules",
        "layers",
        "footprint",
        "lineage",
        "cutting",
        "graph",
        "scopes",
        "modules",
        "channel_axes",
        "graph_heads",
        "graph_labels",
        "head_values",
    },
    {
        "picture_files",
        "images",
        "regions",
        "sheet",
        "ink",
        "strokes",
        "framing",
        "preprocess",
        "preprocessing",
        "resizing",
        "presets",
        "picture_input",
        "hugging_face",
        "timm_config",
    },
    {"build_time", "tap_memory", "taps"},
    {"unlike", "evidence", "portions", "batching", "feeds", "model", "warm_up"}
    | {"head_trial", "non_finite", "suggestions", "layer_names"},
    {
        "model_files",
        "files_beside",
        "external_data",
        "model_data",
        "model_config",
        "imagenet",
        "file_labels",
        "extra_inputs",
        "find_head",
    },
    {"classifier", "repository", "loading", "version_labels"},
    {"picture_shape", "inspection", "draft_config", "importing"},
    {
        "start_up",
        "settling",
        "folder_view",
        "trial",
        "attempts",
        "changeover",
        "unison",
        "plan",
        "reconciler",
    },
    {"scheduler", "lane", "slices", "job", "cache"},
    {"retirement", "watch", "live", "control", "following"},
    {"api"},
    {"transport"},
    {"measurements", "exposition", "metrics_port"},
    {"server", "from_settings", "listening", "security", "reflection", "health", "tracing"},
    {"port", "supervised", "worker", "worker_process", "quarantine", "slot", "supervisor"},
    {"__main__", "healthcheck", "checks", "doctor"},
)
MOST_LINES = 400


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(package: str) -> dict[str, Path]:
    """Return the hand-written modules of a package by name; there have to be some."""
    paths = {module_name(path): path for path in (ROOT / package).rglob("*.py") if "_pb2" not in path.name}
    assert len(paths) > 1, f"{package}/ holds no source to check"
    return paths


MODULES = {name: path for package in PACKAGES for name, path in sources(package).items()}


def imports(name: str, path: Path, *, top_level: bool = False) -> set[str]:
    """Return the modules that a module imports; unless `top_level`, those inside functions too."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in at_import(tree) if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= imported_from(node, name, is_package=path.name == "__init__.py")
    return found


def imported_from(node: ast.ImportFrom, importer: str, *, is_package: bool) -> set[str]:
    """Return what `from x import y` imports: the module x.y where there is one, else x."""
    base = importer.split(".")[: len(importer.split(".")) - node.level + is_package] if node.level else []
    source = ".".join([*base, *([node.module] if node.module else [])])
    return {full if (full := f"{source}.{alias.name}") in MODULES else source for alias in node.names}


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk what runs when the module is imported: no function bodies, no `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from at_import(node)


def layer_of(module: str) -> int:
    part = module.split(".")[1]
    assert any(part in layer for layer in LAYERS), (
        f"{module} has no layer: give it one in {Path(__file__).name}"
    )
    return next(rank for rank, layer in enumerate(LAYERS) if part in layer)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    found = {
        f"{name} imports {target}"
        for name, path in sources(package).items()
        for target in imports(name, path)
        if target.split(".")[0] in FORBIDDEN[package] and not lazy_subcommand(name, path, target)
    }

    assert set() == found


def lazy_subcommand(name: str, path: Path, target: str) -> bool:
    """Tell whether this is a sub-command that loads service or training when it is called."""
    return (
        name.startswith("featurelens.cli")
        and target.split(".")[0] in {"service", "training"}
        and target not in imports(name, path, top_level=True)
    )


def test_layers_of_service_import_only_from_below() -> None:
    modules = {name: path for name, path in sources("service").items() if name != "service"}
    found = {
        f"{name} imports {target}"
        for name, path in modules.items()
        for target in imports(name, path)
        if target.startswith("service.") and layer_of(target) > layer_of(name)
    }

    assert set() == found


def test_no_import_cycle() -> None:
    graph = {name: imports(name, path) & MODULES.keys() for name, path in MODULES.items()}

    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError

    assert set(order) == MODULES.keys()


@pytest.mark.parametrize(
    ("library", "places"),
    [
        (
            "grpc",
            {
                *("service.api.status", "service.transport.grpcio", "service.reflection"),
                *("service.health", "service.healthcheck"),
                *("service.transport.tls", "service.transport.doorkeeper", "service.transport.accepting"),
            },
        ),
        (
            "protos",
            {
                *("service.api.classify", "service.api.scores", "service.api.describe"),
                *("service.server", "service.reflection"),
                *(f"service.api.oip.{name}" for name in ("answers", "contents", "control", "infer")),
                *(f"service.api.oip.{name}" for name in ("interface", "known", "query", "metadata")),
                *(f"service.api.oip.{name}" for name in ("methods", "parameters", "repository")),
            },
        ),
        (
            "asyncio",
            {
                "service.transport.accepting",
                "service.transport.grpcio",
                "service.server",
                "service.listening",
                "service.health",
                "service.worker",
                "service.__main__",
            },
        ),
        ("opentelemetry", {f"service.api.tracing.{name}" for name in ("exporter", "spans", "tracer")}),
        ("onnxruntime", {"service.binding", "service.device", "service.model", "service.run_watch"}),
        ("prometheus_client", {"service.measurements", "service.exposition", "service.metrics_port"}),
    ],
)
def test_libraries_stay_in_their_place(library: str, places: set[str]) -> None:
    users = {
        name
        for name, path in sources("service").items()
        if library in {target.split(".")[0] for target in imports(name, path)}
    }

    assert users == places


def test_the_environment_is_read_in_few_places() -> None:
    texts = {name: path.read_text() for name, path in sources("service").items()}
    readers = {name for name, text in texts.items() if re.search(r"os\.(environ|getenv)|sys\.argv", text)}

    entries = {"service.__main__", "service.worker", "service.healthcheck"}
    handing_on = {"service.worker_process"}
    assert readers == {"service", "service.settings", *entries, *handing_on}


@pytest.mark.parametrize("package", ["service", "training", "featurelens"])
def test_no_file_is_long(package: str) -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in sources(package).items()}

    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        pytest.param(
            "service.__main__, service.server",
            "torch training featurelens onnxscript matplotlib opentelemetry",
            id="the server needs no torch",
        ),
        pytest.param(
            "service.__main__, service.supervisor",
            "onnxruntime onnx numpy grpc google PIL pygrpc_native opentelemetry",
            id="the supervisor stays small",
        ),
        pytest.param(
            "featurelens, featurelens.cli",
            "torch onnxruntime onnx service training pydantic_settings structlog grpc_health matplotlib",
            id="the client needs its base install only",
        ),
        pytest.param("training.model", "grpc service featurelens protos", id="training needs no server"),
    ],
)
def test_imports_without_what_it_does_not_need(imported: str, absent: str) -> None:
    program = f"import sys; sys.modules.update(dict.fromkeys({absent.split()!r})); import {imported}"

    completed = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (completed.returncode, completed.stderr) == (0, "")


@pytest.mark.parametrize("started_by", ["service.__main__", "featurelens.cli, service.__main__"])
def test_the_server_loads_nothing_large_that_it_does_not_need(started_by: str) -> None:
    large = {"rich", "pygments", "numpy.random", "PIL.ImageFont", "torch", "matplotlib"}
    program = f"import sys, {started_by}, service.server; print(*sorted({large} & sys.modules.keys()))"

    loaded = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True)

    assert loaded == "\n"


def test_every_invariant_of_architecture_md_has_a_test() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text.split("\n## Invariants\n")[1].split("\n## ")[0]
    invariants = re.findall(r"^- .+(?:\n {2}.+)*", section, re.MULTILINE)
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", section)

    assert len(invariants) >= 10
    assert [invariant for invariant in invariants if "::test_" not in invariant] == []
    assert [
        f"{path}::{test}" for path, test in named if f"def {test}(" not in (ROOT / path).read_text()
    ] == []
