"""The execution providers of ONNX Runtime that models may run on, and the options that each is given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from service.errors import DeviceUnavailableError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"


@dataclass(frozen=True)
class Cuda:
    """CUDA with its options.

    https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
    """

    name: ClassVar[str] = CUDA

    gpu_mem_limit: int | None = None
    """Bytes that a session's memory arena may take; None: all."""
    arena_extend_strategy: Literal["kSameAsRequested", "kNextPowerOfTwo"] = "kSameAsRequested"
    cudnn_conv_algo_search: Literal["HEURISTIC", "DEFAULT", "EXHAUSTIVE"] = "HEURISTIC"
    """EXHAUSTIVE measures anew for every input shape, which takes seconds when a shape first comes."""

    def options_for(self, _model: bytes) -> Mapping[str, str]:
        """Spell the options as ONNX Runtime wants them."""
        options = {
            "arena_extend_strategy": self.arena_extend_strategy,
            "cudnn_conv_algo_search": self.cudnn_conv_algo_search,
        }
        return options | ({} if self.gpu_mem_limit is None else {"gpu_mem_limit": str(self.gpu_mem_limit)})


@dataclass(frozen=True)
class Tensorrt:
    """TensorRT with its options.

    https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
    """

    name: ClassVar[str] = TENSORRT

    fp16: bool = False
    """Whether it may compute in half precision where that is faster."""
    engine_cache: Path | None = None
    """Folder that keeps the engines it builds; None: they are built anew for every session."""

    def options_for(self, model: bytes) -> Mapping[str, str]:
        """Spell the options as ONNX Runtime wants them.

        Raises:
            DeviceUnavailableError: The cache can't be written to.
        """
        options = {"trt_fp16_enable": str(int(self.fp16))}
        if self.engine_cache is None:
            return options
        # An engine's file is named after the graph, not its weights: another version of a model must not
        # find the engines of this one.
        folder = self.engine_cache / hashlib.sha256(model).hexdigest()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeviceUnavailableError(
                f"the setting tensorrt_cache names a folder that can't be written to: {error.strerror}"
            ) from error
        return options | {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }


Provider = Cuda | Tensorrt
"""A provider other than the CPU's, which needs no options and stands behind all others."""
