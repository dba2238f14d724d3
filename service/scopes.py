"""Where in the exported code a node comes from: the modules around it, as the exporters write them down."""

from __future__ import annotations

import ast
from collections.abc import Mapping

import onnx

Scopes = tuple[str, ...]
"""Paths of the modules around a node, the outermost first; empty where the file doesn't tell."""

# torch's exporter by torch.export writes one entry for each module, then the operation's own name:
# "['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d']"; the model itself is "".
_NAME_SCOPES = "pkg.torch.onnx.name_scopes"
_LONGEST = 10_000
_DEEPEST = 50


def scopes_of(node: onnx.NodeProto, table: Mapping[str, str]) -> Scopes:
    """Tell the modules around a node.

    Args:
        node: The node.
        table: Module paths by tensor, where the file has a table of its layers; then nothing else is asked.
    """
    if table:
        module = table.get(node.output[0], "") if node.output else ""
        return (module,) if module else ()
    for entry in node.metadata_props:
        if entry.key == _NAME_SCOPES:
            return _listed(entry.value)
    return _slashed(node.name) or _slashed(node.output[0] if node.output else "")


def _listed(text: str) -> Scopes:
    if len(text) > _LONGEST:
        return ()
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        return ()
    return tuple(scope for scope in scopes[:-1] if scope)[:_DEEPEST]


def _slashed(name: str) -> Scopes:
    """Read the names of torch's older exporter, /layer1/layer1.0/Conv, and of TensorFlow's, model/relu/Relu.

    The older exporter gives a Sequential's children its own name too: layer1.0 is inside of layer1.
    """
    if len(name) > _LONGEST:
        return ()
    first, *parts = name.split("/", _DEEPEST)[:-1] or [""]
    if first:
        return tuple("/".join([first, *parts[:end]]) for end in range(len(parts) + 1))
    paths: list[str] = []
    outer = ""
    for part in filter(None, parts):
        own = part.removeprefix(f"{outer}.") if outer else part
        paths.append(f"{paths[-1]}.{own}" if paths else own)
        outer = part
    return tuple(paths)
