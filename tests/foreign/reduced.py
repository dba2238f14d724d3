"""Files of reduced precision, made of a float32 file by ONNX Runtime and onnxconverter-common."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxconverter_common
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from tests.foreign.model import ForeignModel, normal

_RUNTIME = f"onnxruntime {onnxruntime.__version__}"
_HALF = f"onnxconverter-common {onnxconverter_common.__version__}"
_PICTURE = (3, 64, 64)
_CALIBRATION = 4


class _Pictures(CalibrationDataReader):  # type: ignore[misc] # untyped
    """Hands the quantizer a few inputs."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._left = [normal("image", *_PICTURE)(rng, 1) for _ in range(_CALIBRATION)]

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return self._left.pop() if self._left else None


def models(folder: Path) -> Iterator[ForeignModel]:
    """Make the files of those that the torch exporter has left in the folder."""
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer advises
    picture = normal("image", *_PICTURE)
    source = folder / "resnet18_legacy" / "model.onnx"
    prepared = folder / "prepared.onnx"
    if not prepared.exists():
        quant_pre_process(source, prepared)

    file = _place(folder, "resnet18_qdq")
    if not file.exists():
        quantize_static(prepared, file, _Pictures(), quant_format=QuantFormat.QDQ, per_channel=True)
    yield ForeignModel("resnet18_qdq", f"{_RUNTIME}, static QDQ", file, picture, "logits", "quantized")

    file = _place(folder, "vit_dynamic")
    if not file.exists():
        quantize_dynamic(folder / "vit_legacy" / "model.onnx", file)
    yield ForeignModel("vit_dynamic", f"{_RUNTIME}, dynamic", file, picture, "logits", "quantized")

    file = _place(folder, "resnet18_float16")
    if not file.exists():
        onnx.save(onnxconverter_common.convert_float_to_float16(onnx.load(source)), file)
    half = normal("image", *_PICTURE, dtype="float16")
    yield ForeignModel("resnet18_float16", _HALF, file, half, "logits", "float16")

    file = _place(folder, "resnet18_float16_inside")
    if not file.exists():
        converted = onnxconverter_common.convert_float_to_float16(onnx.load(source), keep_io_types=True)
        onnx.save(converted, file)
    yield ForeignModel(
        "resnet18_float16_inside", f"{_HALF}, float32 around", file, picture, "logits", "float16"
    )


def _place(folder: Path, name: str) -> Path:
    file = folder / name / "model.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
