"""The wheel is whole: installed somewhere else, it serves the model that ships."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import grpc

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from tests.e2e.processes import server_process

ROOT = Path(__file__).parent.parent


def test_the_wheel_serves_the_shipped_model(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, text=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import service; print(service.__file__)"]
    found = subprocess.run(where, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert Path(found.stdout.strip()) == site / "service" / "__init__.py"
    with server_process(cwd=tmp_path, environment=environment) as server:
        with grpc.insecure_channel(server.address) as channel:
            (model,) = ClassifierStub(channel).ListModels(pb.ListModelsRequest()).models
        assert (model.name, model.state) == ("lenet", pb.MODEL_STATE_READY)
