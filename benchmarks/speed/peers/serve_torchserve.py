"""Serve LeNet with TorchServe: `serve_torchserve.py MODEL PORT`; it needs Java 17."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from tempfile import mkdtemp

MANIFEST = {
    "archiverVersion": "0.12.0",
    "runtime": "python",
    "model": {
        "modelName": "lenet",
        "modelVersion": "1",
        "serializedFile": "model.onnx",
        "handler": "torchserve_handler.py",
        "configFile": "model-config.yaml",
    },
}
# A delay of 0 is refused.
MODEL_CONFIG = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 64\nmaxBatchDelay: 1\n"
SERVER_CONFIG = """
inference_address=http://127.0.0.1:{0}
management_address=http://127.0.0.1:{1}
metrics_address=http://127.0.0.1:{2}
grpc_inference_port={3}
grpc_management_port={4}
disable_token_authorization=true
enable_envvars_config=false
max_request_size=67108864
job_queue_size=1000
"""
# Its own logs each call several times.
LOG_CONFIG = """
<Configuration>
  <Appenders><Console name="console" target="SYSTEM_ERR"/></Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="console"/></Root></Loggers>
</Configuration>
"""


def archive(model: str, path: Path) -> None:
    """Write the model archive."""
    with zipfile.ZipFile(path, "w") as file:
        file.write(model, "model.onnx")
        file.write(Path(__file__).with_name("torchserve_handler.py"), "torchserve_handler.py")
        file.writestr("model-config.yaml", MODEL_CONFIG)
        file.writestr("MAR-INF/MANIFEST.json", json.dumps(MANIFEST))


def main(model: str, port: int) -> None:
    """Become torchserve; its files are in a new folder below TMPDIR, its other ports follow `port`."""
    folder = Path(mkdtemp(prefix="torchserve-"))
    archive(model, folder / "lenet.mar")
    (folder / "config.properties").write_text(SERVER_CONFIG.format(*range(port, port + 5)))
    (folder / "log4j2.xml").write_text(LOG_CONFIG)
    torchserve = Path(sys.executable).with_name("torchserve")
    command = [sys.executable, str(torchserve), "--foreground", "--start", "--no-config-snapshots"]
    command += [f"--ts-config={folder / 'config.properties'}", f"--model-store={folder}"]
    command += ["--models=lenet=lenet.mar", "--disable-token-auth", f"--log-config={folder / 'log4j2.xml'}"]
    path = f"{torchserve.parent}:{os.environ['PATH']}"
    os.chdir(folder)  # it writes logs to the working folder
    os.execve(sys.executable, command, os.environ | {"TMPDIR": str(folder), "PATH": path})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
