"""ONNX files that packages of other people bring."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import files, version
from pathlib import Path

import numpy as np

from tests.foreign.model import Feeds, ForeignModel, normal

_RAPIDOCR = "rapidocr-onnxruntime"
_BYTES = 2048  # of a file, that magika looks at
_TOKENS = 257  # byte values, and one for padding
_SAMPLES = 576  # of 16 kHz sound: 64 of context and 512 new ones
_STATE = 128


def models(folder: Path) -> Iterator[ForeignModel]:
    """Find the files where they are installed; nothing goes into the folder."""
    yield _model(
        "ocr_direction", _RAPIDOCR, "ch_ppocr_mobile_v2.0_cls_infer.onnx", normal("x", 3, 48, 192), "softmax"
    )
    yield _model("ocr_recognizer", _RAPIDOCR, "ch_PP-OCRv4_rec_infer.onnx", normal("x", 3, 48, 48))
    yield _model("ocr_detector", _RAPIDOCR, "ch_PP-OCRv4_det_infer.onnx", normal("x", 3, 64, 64))
    yield _model("magika", "magika", "standard_v3_3/model.onnx", _file_bytes, "softmax")
    yield _model("nudenet", "nudenet", "320n.onnx", normal("images", 3, 64, 64))
    yield _model("captcha", "ddddocr", "common_old.onnx", normal("input1", 1, 64, 128), fixed_batch=1)
    yield _model("silero_vad", "silero-vad", "silero_vad.onnx", _sound)
    yield _model("silero_vad_op15", "silero-vad", "silero_vad_16k_op15.onnx", _sound)


def _model(name, package, end, feed, head="", **more) -> ForeignModel:  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003
    return ForeignModel(name, f"{package} {version(package)}", _file(package, end), feed, head, **more)


def _file(package: str, end: str) -> Path:
    return next(Path(str(file.locate())) for file in files(package) or () if str(file).endswith(end))


def _file_bytes(rng: np.random.Generator, items: int) -> Feeds:
    return {"bytes": rng.integers(0, _TOKENS, (items, _BYTES)).astype(np.int32)}


def _sound(rng: np.random.Generator, items: int) -> Feeds:
    return {
        "input": rng.standard_normal((items, _SAMPLES)).astype(np.float32),
        "state": rng.standard_normal((2, items, _STATE)).astype(np.float32),
        "sr": np.array(16_000),
    }
