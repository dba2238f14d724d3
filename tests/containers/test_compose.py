"""The image and docker-compose.yml, run by a real Docker engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import tomllib
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from featurelens import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = sorted(path for path in ROOT.glob("samples/*/*") if path.name[0].isdigit())
FEATURELENS = Path(sys.executable).with_name("featurelens")
# The tag stays behind, because without one the engine forgets the layers that make the next build quick.
IMAGE = "featurelens-server:test"
BUILD_S, HEALTHY_S, STOP_S = 600, 90, 60

# Whichever test comes first pays for the build and the start.
pytestmark = [pytest.mark.containers, pytest.mark.timeout(BUILD_S + HEALTHY_S + STOP_S)]


def run(*command: str | Path, timeout: float = 60, **environment: str) -> str:
    """Run a command and return what it wrote on its standard output."""
    completed = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        timeout=timeout,
        check=False,
        text=True,
        capture_output=True,
    )
    assert completed.returncode == 0, f"{command} failed:\n{completed.stdout}{completed.stderr}"
    return completed.stdout


@dataclass(frozen=True)
class Deployment:
    """A project of docker-compose, by a name of its own, on a port that the engine chooses."""

    project: str

    def compose(self, *arguments: str, timeout: float = 60) -> str:
        """Run docker-compose, of either generation, on the project."""
        command = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
        project = ["--project-name", self.project, "--file", "docker-compose.yml"]
        return run(*command, *project, *arguments, timeout=timeout, SERVER_IMAGE=IMAGE, PUBLISH_PORT="0")

    @property
    def container(self) -> str:
        return self.compose("ps", "-aq", "server").strip()

    @property
    def address(self) -> str:
        return self.compose("port", "server", "8001").strip()

    def inspect(self) -> dict[str, Any]:
        description: dict[str, Any] = json.loads(run("docker", "inspect", self.container))[0]
        return description

    def python(self, program: str) -> str:
        """Run a program in the container, as the server's user."""
        return run("docker", "exec", self.container, "python", "-c", program)

    def wait_until_healthy(self) -> None:
        """Wait for the engine to say so; fail when it says otherwise, or says nothing in time."""
        filters = [
            "--filter",
            f"container={self.container}",
            "--filter",
            "event=health_status",
            "--filter",
            "event=die",
        ]
        events = subprocess.Popen(
            ["docker", "events", "--since", "10m", "--format", "{{.Status}}", *filters],
            stdout=subprocess.PIPE,
            text=True,
        )
        deadline = threading.Timer(HEALTHY_S, events.kill)
        deadline.start()
        assert events.stdout is not None
        with events:
            status = events.stdout.readline().strip()
            deadline.cancel()
            events.kill()
        assert status == "health_status: healthy", f"{status or 'no health status'}:\n{self.compose('logs')}"


@contextmanager
def deploy() -> Iterator[Deployment]:
    """Build the image and run the compose file, as a stranger would, until the server is healthy."""
    deployed = Deployment(f"featurelens-test-{uuid.uuid4().hex[:8]}")
    try:
        deployed.compose("build", timeout=BUILD_S)
        deployed.compose("up", "--detach")
        deployed.wait_until_healthy()
        yield deployed
    finally:
        deployed.compose("down", "--volumes", "--timeout", "0")


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    with deploy() as deployed:
        yield deployed


def test_the_host_classifies_through_the_published_port(deployment: Deployment) -> None:
    answers = json.loads(
        run(FEATURELENS, "classify", *SAMPLES, "--server", deployment.address, "--output", "json")
    )

    assert len(SAMPLES) >= 13
    assert [path.name[0] for path in SAMPLES] == [answer["label"] for answer in answers]


def test_the_port_is_published_on_the_loopback_address_only(deployment: Deployment) -> None:
    assert deployment.address.startswith("127.0.0.1:")


def test_the_server_has_no_privileges(deployment: Deployment) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in deployment.python("print(open('/proc/1/status').read())").splitlines()
        if line
    )

    assert {name: status[name] for name in ("Uid", "Gid", "CapEff", "CapPrm", "CapBnd", "NoNewPrivs")} == {
        "Uid": "\t".join(["10001"] * 4),
        "Gid": "\t".join(["10001"] * 4),
        "CapEff": "0" * 16,
        "CapPrm": "0" * 16,
        "CapBnd": "0" * 16,
        "NoNewPrivs": "1",
    }


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("/", "EROFS"), ("/opt/featurelens", "EROFS"), ("/models", "EROFS"), ("/tmp", "written")],  # noqa: S108 - the container's
)
def test_only_tmp_is_writable(deployment: Deployment, folder: str, expected: str) -> None:
    program = f"""
import errno, pathlib
try:
    pathlib.Path({folder!r}, "probe").write_text("")
    print("written")
except OSError as error:
    print(errno.errorcode[error.errno])
"""

    assert expected == deployment.python(program).strip()


def test_what_the_server_may_use_is_bounded(deployment: Deployment) -> None:
    host = deployment.inspect()["HostConfig"]

    assert host["PidsLimit"] == 256
    assert host["Memory"] == host["MemorySwap"] == 2 << 30
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


def test_the_image_says_what_it_is(deployment: Deployment) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    image = json.loads(run("docker", "image", "inspect", IMAGE))[0]
    labels = {name.rsplit(".", 1)[-1]: value for name, value in image["Config"]["Labels"].items()}

    assert (project["name"], __version__, project["license"]) == (
        labels["title"],
        labels["version"],
        labels["licenses"],
    )
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["Entrypoint"] == ["featurelens", "serve"]


def test_the_image_holds_neither_torch_nor_a_compiler(deployment: Deployment) -> None:
    program = """
import importlib.util, shutil
print([name for name in ("torch", "pytest", "hatchling") if importlib.util.find_spec(name)])
print([name for name in ("gcc", "cc", "make", "git", "curl") if shutil.which(name)])
"""

    assert deployment.python(program).splitlines() == ["[]", "[]"]


def test_sigterm_ends_the_server_within_its_grace() -> None:
    with deploy() as deployed:
        deployed.compose("stop", timeout=STOP_S)
        state = deployed.inspect()["State"]

    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 0, False)


def test_logs_are_lines_of_json(deployment: Deployment) -> None:
    run(FEATURELENS, "classify", SAMPLES[0], "--server", deployment.address)

    logs = subprocess.run(
        ["docker", "logs", deployment.container], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in logs.stderr.splitlines()]

    assert logs.stdout == "featurelens is serving lenet on 0.0.0.0:8001\n"
    assert {line["code"] for line in lines if "Classifier/Classify" in line.get("method", "")} == {"OK"}
