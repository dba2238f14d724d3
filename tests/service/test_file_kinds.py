"""A file that is no model is called by what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
from itertools import count

import pytest

from service.errors import ModelLoadError
from service.file_kinds import other_kind
from service.onnx_file import parsed
from tests.service import onnx_models

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
PAGE = "\n<!DOCTYPE html>\n<html><body>404</body></html>"


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", "weights")
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"))
    return buffer.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (POINTER.encode(), "a Git LFS pointer; git lfs pull fetches the file that it stands for"),
        (PAGE.encode(), "a web page; "),
        (PAGE.encode("utf-8-sig"), "a web page; "),
        (b"404: Not Found", "text, "),
        (json.dumps({"error": "no such file"}, indent=2).encode(), "JSON; "),
        (b'<?xml version="1.0"?>\n<net name="m">', "an XML file, as models of OpenVINO are; "),
        (zipped(), "a ZIP archive, "),
        (tarred(), "a tar archive; unpack it"),
        (pickle.dumps({"w": 1}), "a Python pickle, "),
        (safetensors(), "in the format safetensors, "),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file, "),
        (b"\x1c\0\0\0ORTM" + bytes(99), "a model in ONNX Runtime's own format; "),
        (b"\x1c\0\0\0TFL3" + bytes(99), "a TensorFlow Lite model; "),
        (b"GGUF\3\0\0\0" + bytes(99), "a GGUF file, "),
        (gzip.compress(bytes(99)), "compressed; unpack it"),
        (bz2.compress(bytes(99)), "compressed; unpack it"),
        (lzma.compress(bytes(99)), "compressed; unpack it"),
        (bytes(4096), "of zeros, as when a copy was cut off; copy it again"),
    ],
    ids=map(str, count()),
)
def test_a_file_is_called_by_what_it_is(data: bytes, kind: str) -> None:
    with pytest.raises(ModelLoadError) as info:
        parsed(data)
    assert str(info.value).startswith(f"the file is not an ONNX model: it is {kind}")


def test_a_part_of_a_model_is_called_that() -> None:
    data = onnx_models.lenet().SerializeToString()
    with pytest.raises(ModelLoadError, match=r"^the file is not an ONNX model, or only a part of one$"):
        parsed(data[:-7])


def test_a_model_is_none_of_them() -> None:
    assert other_kind(onnx_models.lenet().SerializeToString()) == ""
