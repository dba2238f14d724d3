"""Serve LeNet with the Triton that nvidia-pytriton carries: `serve_triton.py MODEL PORT`.

It has a Python backend alone: two instances, dynamic batching without delay.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

CONFIG = """
name: "lenet"
backend: "python"
max_batch_size: 64
input {{ name: "image" data_type: TYPE_FP32 dims: [1, 32, 32] }}
output {{ name: "probabilities" data_type: TYPE_FP32 dims: [10] }}
instance_group {{ count: 2 kind: KIND_CPU }}
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
parameters {{ key: "path" value: {{ string_value: "{model}" }} }}
"""


def repository(model: str, folder: Path) -> Path:
    """Write a model repository."""
    version = folder / "lenet" / "1"
    version.mkdir(parents=True)
    (folder / "lenet" / "config.pbtxt").write_text(CONFIG.format(model=model))
    shutil.copy(Path(__file__).with_name("triton_model.py"), version / "model.py")
    return folder


def backends(server: Path, folder: Path) -> Path:
    """Make a folder with the Python backend and its stub, which the package keeps apart."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(server / "backends" / "python", folder / "python")
    shutil.copy(server / "python_backend_stubs" / python / "triton_python_backend_stub", folder / "python")
    return folder


def main(model: str, port: str) -> None:
    """Become tritonserver; what it needs besides the package is made in a new folder below TMPDIR."""
    folder = Path(mkdtemp(prefix="triton-"))
    spec = find_spec("pytriton")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    server = package / "tritonserver"
    command = [
        str(server / "bin" / "tritonserver"),
        f"--model-repository={repository(model, folder / 'models')}",
        f"--backend-directory={backends(server, folder / 'backends')}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={port}",
        "--allow-http=false",
        "--allow-metrics=false",
    ]
    libraries = (sysconfig.get_config_var("LIBDIR"), str(package.with_name("nvidia_pytriton.libs")))
    environment = os.environ | {
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
