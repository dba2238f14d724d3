"""Tells what a file is that was to be a model and isn't, by how it begins."""

from __future__ import annotations

import re

_POINTER = (
    b"version https://git-lfs.github.com/spec/"  # https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
)
FETCH = "git lfs pull fetches the file that it stands for"
_EXPORT = "export the network to ONNX (torch.onnx.export, for PyTorch)"

# How files begin; what they are; what to do. The signatures are those of libmagic; of
# FlatBuffers the identifier at byte 4: https://flatbuffers.dev/schema/#file-identification-and-extension
_KINDS: tuple[tuple[re.Pattern[bytes], str, str], ...] = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), what, advice)
    for pattern, what, advice in (
        (re.escape(_POINTER), "a Git LFS pointer", FETCH),
        (rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)", "a web page", "download the file itself"),
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
)
_MOST_BYTES = 512


def other_kind(data: bytes) -> str:
    """Say what a file that isn't an ONNX model is, and what to do; "" if it can't be told."""
    for pattern, what, advice in _KINDS:
        if pattern.match(data, 0, _MOST_BYTES):
            return f"{what}; {advice}"
    return ""


def is_pointer(data: bytes) -> bool:
    """Tell whether a file is what Git LFS leaves in the place of a large one."""
    return data.startswith(_POINTER)
