"""Models whose weights are in other files, put into repositories."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx

DATA = "model.onnx.data"
_PACKED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def split(folder: Path, model: onnx.ModelProto, *, one_file: bool = True, number: int = 1) -> Path:
    """Put a version there with each weight in another file, one for all or one for each; return its file."""
    file = folder / str(number) / "model.onnx"
    file.parent.mkdir(parents=True)
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    onnx.save(
        copy,
        file,
        save_as_external_data=True,
        all_tensors_to_one_file=one_file,
        location=DATA,
        size_threshold=0,
        convert_attribute=True,
    )
    return file


def outsourced(model: onnx.ModelProto, tensors: Iterable[onnx.TensorProto]) -> bytes:
    """Move the raw data of tensors of this model out of it; return what the other file has to hold."""
    content = b""
    for tensor in tensors:
        data = onnx.numpy_helper.to_array(tensor).tobytes()
        tell(tensor, location=DATA, offset=str(len(content)), length=str(len(data)))
        content += data
    return content


def tell(tensor: onnx.TensorProto, **told: str) -> None:
    """Say that a tensor's data is in another file, in these words."""
    for field in ("raw_data", "external_data", *_PACKED_FIELDS):
        tensor.ClearField(field)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, text in told.items():
        tensor.external_data.add(key=key, value=text)
