"""Tells what a file is that was to be a model and isn't, by how it begins."""

from __future__ import annotations

import re
from collections.abc import Iterable

_EXPORT = "export the network to ONNX (torch.onnx.export, for PyTorch)"

_Kind = tuple[bytes, str, str]
"""How files begin, as a pattern; what they are; what to do."""

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md#the-pointer
_STAND_INS: tuple[_Kind, ...] = (
    (
        rb"version https://git-lfs\.github\.com/spec/",
        "a Git LFS pointer",
        "git lfs pull fetches the file that it stands for",
    ),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)", "a web page", "download the file itself"),
)
# The signatures are those of libmagic; of FlatBuffers the identifier at byte 4:
# https://flatbuffers.dev/schema/#file-identification-and-extension
_KINDS: tuple[_Kind, ...] = (
    (rb"PK\x03\x04", "a ZIP archive, as .pt, .pth and .keras files are", f"unpack it, or {_EXPORT}"),
    (rb"\x80[\x02-\x05]", "a Python pickle, as old .pt and .pth files are", _EXPORT),
    (rb".{7}\0\{", "in the format safetensors, which holds weights without a graph", _EXPORT),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file, as .h5 files of Keras are", _EXPORT),
    (rb".{4}ORTM", "a model in ONNX Runtime's own format", "take the .onnx file that it was made of"),
    (rb".{4}TFL3", "a TensorFlow Lite model", "convert it to ONNX with tf2onnx"),
    (rb"GGUF", "a GGUF file, which holds weights without a graph", _EXPORT),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "compressed", "unpack it"),
    (rb".{257}ustar", "a tar archive", "unpack it"),
    (rb"<\?xml", "an XML file, as models of OpenVINO are", "take the .onnx file that it was made of"),
    (rb"\s*[{\[]\s*[\"{\[\]}]", "JSON", "take the .onnx file"),
    (rb"[\t\r\n -~]+\Z", "text, as the message of a server that has no such file", "download it again"),
    (rb"\0{64}", "of zeros, as when a copy was cut off", "copy it again"),
)
_MOST_BYTES = 512


def other_kind(data: bytes) -> str:
    """Say what a file that isn't an ONNX model is, and what to do; "" if it can't be told."""
    return _first(_STAND_INS + _KINDS, data)


def stand_in(data: bytes) -> str:
    """Say what a file is that lies in the place of any other, and what to do; "" if it is none."""
    return _first(_STAND_INS, data)


def _first(kinds: Iterable[_Kind], data: bytes) -> str:
    for pattern, what, advice in kinds:
        if re.match(pattern, data[:_MOST_BYTES], re.DOTALL | re.IGNORECASE):
            return f"{what}; {advice}"
    return ""
